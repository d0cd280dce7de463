"""Stored numbers of a DICOM file, bit-exact, in native byte order."""

import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from mrisr.core.errors import InputError
from mrisr.io import jpeg_lossless
from mrisr.io.checks import BOMB_BYTES, BOMB_RATIO
from mrisr.io.dicom_scan import printable, read_file, undamaged

_INSTALL = "pip install pyjpegls pylibjpeg pylibjpeg-openjpeg pillow"

#: Not among them is GDCM: it ends the whole process on some damaged data.
_DECODERS = ("pydicom", "pyjpegls", "pylibjpeg", "pillow")
_END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0"
_OURS = (JPEGLossless, JPEGLosslessSV1)

#: Markers of JPEG and JPEG-LS: end of image, start of scan.
_EOI, _SOS = 0xD9, 0xDA
#: Markers of JPEG 2000: start of codestream, of a tile-part, end of codestream.
_SOC, _SOT, _EOC = b"\xff\x4f\xff\x51", b"\xff\x90", b"\xff\xd9"

#: What pydicom says where it leaves out numbers that RLE holds.
_RLE_PADDING = re.compile(r"non-conformant padding - (\d+) vs. (\d+)")


def read_pixels(path: Path, data: bytes) -> NDArray[np.generic]:
    """Decode the pixels of a file's bytes, in any transfer syntax that has a decoder.

    Returns:
        Stored numbers ``(frames, rows, columns)``, mirrored where the file is MONOCHROME1, so that bright is
        high.

    Raises:
        InputError: truncated or damaged pixel data, a missing decoder (with the line that
            installs it), or colour.
    """
    with undamaged(path, "whole pixel data", "damage or truncation ({})"):
        dataset = _dataset(path, data)
        _check_scalar(dataset, path)
        _check_decoder(dataset, path)
        mark = data.rfind(_END_OF_SEQUENCE)
        if dataset["PixelData"].is_undefined_length and len(data) - mark < 8:
            raise ValueError("the file ends amid its last element")
        _check_unused_bits(dataset, path)
        return _stored(dataset)


def _stored(dataset: Dataset) -> NDArray[np.generic]:
    syntax = dataset.file_meta.TransferSyntaxUID
    _check_length(dataset)
    if not syntax.is_compressed:  # the pixels themselves, that is, not the whole dataset
        decoded = dataset.pixel_array
    else:
        check_frames(dataset)
        if syntax in _OURS:
            decoded = _jpeg_lossless(dataset)
        else:
            dataset.pixel_array_options(decoding_plugin=_decoder(syntax))
            with warnings.catch_warnings(record=True) as told:  # decoders are kept quiet
                warnings.simplefilter("always")
                decoded = dataset.pixel_array
            for warning in told:
                padded = _RLE_PADDING.search(str(warning.message))
                if padded and int(padded[1]) - int(padded[2]) >= min(dataset.Rows, dataset.Columns):
                    raise ValueError(
                        f"{padded[1]} pixels where Rows and Columns make it {padded[2]}"
                    )
    decoded = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    frames = _sign_extended(decoded.reshape(-1, int(dataset.Rows), int(dataset.Columns)), dataset)
    count = _frame_count(dataset)
    if len(frames) != count:
        raise ValueError(f"{len(frames)} frames of pixels where NumberOfFrames is {count}")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return _inverted(frames, dataset)
    return frames


def _frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames", 1) or 1)


def _check_length(dataset: Dataset) -> None:
    """Raise ValueError unless the pixel data may be what Rows, Columns and NumberOfFrames claim."""
    bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    claimed, held = _frame_count(dataset) * bits // 8, len(dataset.PixelData)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        if claimed > max(BOMB_BYTES, BOMB_RATIO * held):
            raise ValueError(f"{held} bytes of compressed pixels that claim to be {claimed}")
        return
    if dataset["PixelData"].is_undefined_length:
        raise ValueError("compressed pixels under an uncompressed transfer syntax")
    if dataset.PixelData[claimed:].strip(b"\0"):
        raise ValueError(f"{held} bytes of pixels where Rows and Columns make it {claimed}")


def _jpeg_lossless(dataset: Dataset) -> NDArray[np.generic]:
    """Frames of a dataset in JPEG lossless, in the words that it allocates."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = _frame_count(dataset)
    frames = generate_frames(dataset.PixelData, number_of_frames=count)
    decoded = np.stack([jpeg_lossless.decode(frame, rows, columns) for frame in frames])
    bits = int(dataset.BitsAllocated)
    if bits not in (8, 16) or len(decoded) != count or decoded.max() >> bits:
        raise ValueError(f"{len(decoded)} frames of up to {decoded.max()} in words of {bits} bits")
    kind = ("i" if int(dataset.PixelRepresentation) == 1 else "u") + str(bits // 8)
    return decoded.astype(f"u{bits // 8}").view(kind)


def _check_unused_bits(dataset: Dataset, path: Path) -> None:
    """Refuse uncompressed numbers larger than BitsStored allows, which pydicom would cut down.

    The bits above may hold the sign, or an overlay that says so (PS3.5 8.1.1, PS3.3 C.9.2).
    """
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed or allocated not in (16, 32) or not 0 < bits < allocated:
        return
    overlays = (dataset.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    if any(int(position.value or 0) >= bits for position in overlays if position is not None):
        return
    order = "<" if syntax.is_little_endian else ">"
    size = allocated // 8
    held = dataset.PixelData[: len(dataset.PixelData) // size * size]
    unused = np.frombuffer(held, dtype=f"{order}u{size}") >> (bits - 1)
    allowed = unused <= 1  # the highest bit that is used, and none above
    if int(dataset.PixelRepresentation) == 1:
        allowed |= unused == (1 << (allocated - bits + 1)) - 1
    if not allowed.all():
        found = f"{allowed.size - np.count_nonzero(allowed)} numbers of more"
        raise InputError(path, expected=f"numbers of {bits} bits (BitsStored)", found=found)


def _dataset(path: Path, data: bytes) -> Dataset:
    with undamaged(path, "a DICOM image"):
        dataset = read_file(BytesIO(data))
        present = "PixelData" in dataset
    if not present:
        others = [k for k in ("FloatPixelData", "DoubleFloatPixelData") if k in dataset]
        raise InputError(path, expected="PixelData", found=(*others, "none (truncated?)")[0])
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _check_scalar(dataset: Dataset, path: Path) -> None:
    """Grey values must fill whole bytes and lie in the low bits of them, as pydicom takes for granted."""
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    photometric = str(dataset.get("PhotometricInterpretation", "none"))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        found = f"{samples} samples of {printable(photometric)}"
        expected = "one grey value in each pixel (MONOCHROME1 or 2)"
        raise InputError(path, expected=expected, found=found)
    allocated = int(dataset.BitsAllocated)
    if allocated % 8:
        raise InputError(path, expected="BitsAllocated of whole bytes", found=str(allocated))
    stored, high = int(dataset.BitsStored), dataset.get("HighBit")
    if high is not None and int(high) != stored - 1:
        raise InputError(path, expected=f"HighBit {stored - 1}", found=str(int(high)))


def _check_decoder(dataset: Dataset, path: Path) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    if syntax == JPEGExtended12Bit and int(dataset.get("BitsStored") or 0) > 8:
        expected = "a transfer syntax that is decoded (dcmdjpeg or gdcmconv --raw unpack others)"
        found = f"{printable(syntax.name)} of {dataset.BitsStored} bits"
        raise InputError(path, expected=expected, found=found)
    if syntax not in _OURS and not _decoder(syntax):
        expected = f"a transfer syntax with a decoder ({_INSTALL})"
        raise InputError(path, expected=expected, found=printable(syntax.name))


def _decoder(syntax: UID) -> str:
    """Name of the decoder of a transfer syntax; empty where there is none."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return ""
    return next((name for name in _DECODERS if name in decoder.available_plugins), "")


def _sign_extended(stored: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Signed numbers of fewer bits than their words, with the sign carried into the high bits."""
    unused = stored.dtype.itemsize * 8 - int(dataset.BitsStored)
    if stored.dtype.kind not in "iu" or int(dataset.PixelRepresentation) != 1 or unused <= 0:
        return stored
    extended: NDArray[np.generic] = np.right_shift(np.left_shift(stored, unused), unused)
    return extended


def _inverted(stored: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Numbers mirrored in the range of BitsStored, so that bright is high."""
    if stored.dtype.kind == "i":
        return (-1 - stored.astype(np.int64)).astype(stored.dtype)
    top = max((1 << int(dataset.BitsStored)) - 1, int(stored.max()))
    return (top - stored.astype(np.int64)).astype(stored.dtype)


def check_frames(dataset: Dataset) -> None:
    """Raise ValueError unless every JPEG frame of a dataset runs to its end mark, and no further.

    The decoders of JPEG and JPEG 2000 fill up what a truncated frame lacks; that of JPEG-LS may look for it
    for minutes.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in JPEG2000TransferSyntaxes:
        check = _check_jpeg_2000
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        check = _check_jpeg
    else:
        return
    for frame in generate_frames(dataset.PixelData, number_of_frames=_frame_count(dataset)):
        try:
            check(frame)
        except IndexError:
            raise ValueError("a compressed frame ends early") from None


def _check_jpeg(frame: bytes) -> None:
    """Walk the marker segments and scans of a JPEG or JPEG-LS stream."""
    position = 2
    while True:
        if frame[position] != 0xFF:
            raise ValueError("a JPEG marker is damaged")
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == _EOI:
            break
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
        if marker == _SOS:
            position = _end_of_scan(frame, position)
    if frame[position + 2 :].strip(b"\0\xff"):
        raise ValueError("a JPEG frame ends before its data")


def _end_of_scan(frame: bytes, position: int) -> int:
    """Position of the marker that ends the scan."""
    while True:
        position = frame.find(b"\xff", position)
        if position < 0:
            raise IndexError
        following = frame[position + 1]
        # Below 0x80 the byte is stuffed, 0xD0 to 0xD7 are restarts, 0xFF is fill.
        if following >= 0x80 and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return position
        position += 1 if following == 0xFF else 2


def _check_jpeg_2000(frame: bytes) -> None:
    """Walk the tile-parts of a JPEG 2000 codestream, with or without a JP2 wrapping."""
    position = frame.find(_SOT, max(frame.find(_SOC), 0))
    if position < 0:
        raise IndexError
    while frame[position : position + 2] == _SOT:
        length = int.from_bytes(frame[position + 6 : position + 10], "big")
        if length == 0:  # the last tile-part may run to the end
            position = frame.rfind(_EOC, position)
            break
        position += max(length, 12)
    if position < 0 or frame[position : position + 2] != _EOC:
        raise IndexError
