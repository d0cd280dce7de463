"""DICOM: every way in which pixels are packed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pydicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.reliability import expect
from tests.reliability.dicom_files import enhanced, series
from tests.reliability.expect import Make
from tests.reliability.volume_files import repack

GROUP = "DICOM transfer syntaxes"
refuse = partial(expect.refuse, GROUP)
handle = partial(expect.handle, GROUP)
each = partial(expect.each, GROUP)

#: Name, UID and the encoder: pydicom's own or of a library it drives, GDCM, or none is needed.
_NATIVE = {
    "implicit little endian": ImplicitVRLittleEndian,
    "explicit big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
_BY_PYDICOM = {
    "RLE": RLELossless,
    "JPEG-LS lossless": JPEGLSLossless,
}
_BY_GDCM = {
    "JPEG 2000 lossless": JPEG2000Lossless,
    "JPEG lossless (process 14)": JPEGLossless,
    "JPEG lossless (process 14, selection value 1)": JPEGLosslessSV1,
}


def native(path: Path, syntax: UID) -> None:
    """Write a file anew in an uncompressed or deflated syntax."""
    d = pydicom.dcmread(path)
    pixels = d.PixelData
    d.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        words = bytearray(pixels)
        words[::2], words[1::2] = pixels[1::2], pixels[::2]
        d.PixelData = bytes(words)
        # Elements of unknown type cannot be turned, and none of them is needed here.
        d.remove_private_tags()
        del d[0x60003000]
    pydicom.dcmwrite(path, d, enforce_file_format=True)


def by_pydicom(path: Path, syntax: UID) -> None:
    """Compress a file by pydicom."""
    d = pydicom.dcmread(path)
    d.compress(syntax, generate_instance_uid=False)
    d.save_as(path)


def by_gdcm(path: Path, syntax: UID) -> None:
    """Compress a file by GDCM."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    codes = {
        JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    change.SetTransferSyntax(gdcm.TransferSyntax(codes[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def packed(encode: Callable[[Path, UID], None], syntax: UID) -> Make:
    """Makes a series in a transfer syntax."""

    def make(folder: Path) -> Path:
        target = series(folder)
        for path in target.iterdir():
            encode(path, syntax)
            assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
        return target

    return make


def _encapsulated_enhanced(folder: Path) -> Path:
    path = enhanced(folder)
    by_pydicom(path, JPEGLSLossless)
    return path


def cut(encode: Callable[[Path, UID], None], syntax: UID, share: float) -> Make:
    """Makes a series, one file of which ends early."""

    def make(folder: Path) -> Path:
        target = packed(encode, syntax)(folder)
        repack(target / "03.dcm", lambda data: data[: int(len(data) * share)])
        return target

    return make


def shortened(encode: Callable[[Path, UID], None], syntax: UID, share: float) -> Make:
    """Makes a series, one file of which is whole but holds only the start of its compressed pixels."""

    def make(folder: Path) -> Path:
        target = packed(encode, syntax)(folder)
        d = pydicom.dcmread(target / "03.dcm")
        (frame,) = generate_frames(d.PixelData, number_of_frames=1)
        kept = frame.rstrip(b"\0")[: int(len(frame) * share)]
        d.PixelData = encapsulate([kept + b"\0" * (len(kept) % 2)])
        d.save_as(target / "03.dcm")
        return target

    return make


def ended_early(encode: Callable[[Path, UID], None], syntax: UID) -> Make:
    """Makes a series, one file of which has a mark that ends the image in the middle of its pixels."""

    def make(folder: Path) -> Path:
        target = packed(encode, syntax)(folder)

        def damage(data: bytes) -> bytes:
            middle = (data.rfind(b"\xe0\x7f\x10\x00") + len(data)) // 2
            return data[:middle] + b"\x01\xff\xd9\x01" + data[middle + 4 :]

        repack(target / "03.dcm", damage)
        return target

    return make


def relabelled(syntax: str) -> Make:
    """Makes a JPEG 2000 series whose files claim another transfer syntax."""

    def make(folder: Path) -> Path:
        target = packed(by_gdcm, JPEG2000Lossless)(folder)
        old, new = JPEG2000Lossless.encode(), syntax.encode()
        for path in target.iterdir():
            repack(path, lambda data: data.replace(old, new.ljust(len(old), b"\0")))
        return target

    return make


def hide_decoders() -> None:
    """Called in the process of a run: none of the libraries that decode is installed."""
    from pydicom.pixels import get_decoder

    for syntax in (JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, JPEGLossless):
        decoder = get_decoder(syntax)
        for plugin in list(decoder.available_plugins):
            decoder.remove_plugin(plugin)
        assert not decoder.is_available


_ENCODERS: dict[str, tuple[Callable[[Path, UID], None], UID]] = {
    **{name: (native, syntax) for name, syntax in _NATIVE.items()},
    **{name: (by_pydicom, syntax) for name, syntax in _BY_PYDICOM.items()},
    **{name: (by_gdcm, syntax) for name, syntax in _BY_GDCM.items()},
}
_COMPRESSED = [*_BY_PYDICOM, *_BY_GDCM]

CASES = [
    *[
        handle(name, packed(*encoder), should="the clean result, bit for bit")
        for name, encoder in _ENCODERS.items()
    ],
    handle(
        "enhanced multi-frame MR, JPEG-LS lossless",
        _encapsulated_enhanced,
        should="the clean result, bit for bit",
    ),
    each(
        "a compressed file cut to 25, 50, 75 or 95%",
        "refused; the line tells the file",
        {
            f"{name}, {share:.0%}": cut(*_ENCODERS[name], share)
            for name in _COMPRESSED
            for share in (0.25, 0.5, 0.75, 0.95)
        },
        "03.dcm",
    ),
    *[
        refuse(
            f"no decoder for {name} installed",
            packed(*_ENCODERS[name]),
            *("pip install", "pyjpegls", "pylibjpeg-openjpeg"),
            tells="how to install one",
            prepare="tests.reliability.cases_dicom_syntaxes:hide_decoders",
        )
        for name in _COMPRESSED[1:]
        if not name.startswith("JPEG lossless")  # decoded by mrisr itself
    ],
    *[
        refuse(f"JPEG 2000 that says it is {name}", relabelled(syntax), "00.dcm")
        for name, syntax in [
            ("RLE", RLELossless),
            ("JPEG lossless", JPEGLosslessSV1),
            ("JPEG-LS", JPEGLSLossless),
            ("uncompressed", ExplicitVRLittleEndian),
        ]
    ],
    refuse(
        "a transfer syntax that does not exist",
        relabelled("1.2.840.10008.1.2.4.89"),
        *("00.dcm", "transfer syntax"),
    ),
    each(
        "compressed pixels that end early in a whole file",
        "refused; the line tells the file",
        {
            f"{name}, {share:.0%}": shortened(*_ENCODERS[name], share)
            for name in _COMPRESSED
            for share in (0.3, 0.6, 0.9, 0.98)
        },
        "03.dcm",
    ),
    *[
        refuse(f"{name}, an end mark amid the pixels", ended_early(*_ENCODERS[name]), "03.dcm")
        for name in _COMPRESSED
        if name.startswith(("JPEG l", "JPEG-LS"))
    ],
]
