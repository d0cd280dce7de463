"""DICOM: every way in which pixels are packed."""

from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from tests.reliability.dicom_files import enhanced, series
from tests.reliability.expect import Cases
from tests.reliability.volume_files import Change, Make, cut, damaged, late, repack

CASES = Cases("DICOM transfer syntaxes")
refuse, handle, each = CASES.refuse, CASES.handle, CASES.each


def native(path: Path, syntax: uid.UID) -> None:
    d = pydicom.dcmread(path)
    pixels = d.PixelData
    d.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        words = bytearray(pixels)
        words[::2], words[1::2] = pixels[1::2], pixels[::2]
        d.PixelData = bytes(words)
        # Elements of unknown type cannot be turned, and none of them is needed here.
        d.remove_private_tags()
        del d[0x60003000]
    pydicom.dcmwrite(path, d, enforce_file_format=True)


def by_pydicom(path: Path, syntax: uid.UID) -> None:
    d = pydicom.dcmread(path)
    d.compress(syntax, generate_instance_uid=False)
    d.save_as(path)


def by_gdcm(path: Path, syntax: uid.UID) -> None:
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    codes = {
        uid.JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
        uid.JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        uid.JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    change.SetTransferSyntax(gdcm.TransferSyntax(codes[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@late
def packed(folder: Path, encode: Callable[[Path, uid.UID], None], syntax: uid.UID) -> Path:
    target = series(folder)
    for path in target.iterdir():
        encode(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    return target


_NATIVE: dict[str, Make] = {
    "implicit little endian": packed(native, uid.ImplicitVRLittleEndian),
    "explicit big endian": packed(native, uid.ExplicitVRBigEndian),
    "deflated": packed(native, uid.DeflatedExplicitVRLittleEndian),
}
_COMPRESSED: dict[str, Make] = {
    "RLE": packed(by_pydicom, uid.RLELossless),
    "JPEG-LS lossless": packed(by_pydicom, uid.JPEGLSLossless),
    "JPEG 2000 lossless": packed(by_gdcm, uid.JPEG2000Lossless),
    "JPEG lossless (process 14)": packed(by_gdcm, uid.JPEGLossless),
    "JPEG lossless (process 14, selection value 1)": packed(by_gdcm, uid.JPEGLosslessSV1),
}


def _encapsulated_enhanced(folder: Path) -> Path:
    path = enhanced(folder)
    by_pydicom(path, uid.JPEGLSLossless)
    return path


@late
def shortened(folder: Path, make: Make, share: float) -> Path:
    """Makes a series, one file of which is whole but holds only the start of its compressed pixels."""
    target = make(folder)
    d = pydicom.dcmread(target / "03.dcm")
    (frame,) = generate_frames(d.PixelData, number_of_frames=1)
    kept = frame.rstrip(b"\0")[: int(len(frame) * share)]
    d.PixelData = encapsulate([kept + b"\0" * (len(kept) % 2)])
    d.save_as(target / "03.dcm")
    return target


def _end_early(data: bytes) -> bytes:
    """A mark that ends the image in the middle of its pixels."""
    middle = (data.rfind(b"\xe0\x7f\x10\x00") + len(data)) // 2
    return data[:middle] + b"\x01\xff\xd9\x01" + data[middle + 4 :]


def relabelled(syntax: str) -> Make:
    """Makes a JPEG 2000 series whose files claim another transfer syntax."""
    old, new = uid.JPEG2000Lossless.encode(), syntax.encode()
    change: Change = lambda data: data.replace(old, new.ljust(len(old), b"\0"))  # noqa: E731

    def make(folder: Path) -> Path:
        target = _COMPRESSED["JPEG 2000 lossless"](folder)
        for path in target.iterdir():
            repack(path, change)
        return target

    return make


def hide_decoders() -> None:
    """Called in the process of a run: none of the libraries that decode is installed."""
    from pydicom.pixels import get_decoder

    for syntax in (uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEGLossless):
        decoder = get_decoder(syntax)
        for plugin in list(decoder.available_plugins):
            decoder.remove_plugin(plugin)
        assert not decoder.is_available


for name, make in {
    **_NATIVE,
    **_COMPRESSED,
    "enhanced multi-frame MR, JPEG-LS lossless": _encapsulated_enhanced,
}.items():
    handle(name, make, should="the clean result, bit for bit")
cuts, early = {}, {}
for name, make in _COMPRESSED.items():
    cuts |= {f"{name}, {p}%": damaged(make, cut(p / 100), "03.dcm") for p in (25, 50, 75, 95)}
    early |= {f"{name}, {p}%": shortened(make, p / 100) for p in (30, 60, 90, 98)}
each("a compressed file cut to 25, 50, 75 or 95%", cuts, "03.dcm")
for name in ("JPEG-LS lossless", "JPEG 2000 lossless"):
    title, words = f"no decoder for {name} installed", ("pyjpegls", "pylibjpeg-openjpeg")
    refuse(title, _COMPRESSED[name], "pip install", *words, prepare=hide_decoders)
for name, syntax in [
    ("RLE", uid.RLELossless),
    ("JPEG lossless", uid.JPEGLosslessSV1),
    ("JPEG-LS", uid.JPEGLSLossless),
    ("uncompressed", uid.ExplicitVRLittleEndian),
]:
    refuse(f"JPEG 2000 that says it is {name}", relabelled(syntax), "00.dcm")
unknown = relabelled("1.2.840.10008.1.2.4.89")
refuse("a transfer syntax that does not exist", unknown, "00.dcm", "transfer syntax")
each("compressed pixels that end early in a whole file", early, "03.dcm")
for name, make in _COMPRESSED.items():
    if name.startswith(("JPEG l", "JPEG-LS")):
        ended = damaged(make, _end_early, "03.dcm")
        refuse(f"{name}, an end mark amid the pixels", ended, "03.dcm")
