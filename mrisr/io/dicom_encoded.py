"""Compressed DICOM pixels: whether a frame is all there.

The decoders of JPEG and JPEG 2000 fill up what a truncated frame lacks; that of JPEG-LS may look for it for
minutes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

#: Markers of JPEG and JPEG-LS: end of image, start of scan.
_EOI, _SOS = 0xD9, 0xDA
#: Markers of JPEG 2000: start of codestream, of a tile-part, end of codestream.
_SOC, _SOT, _EOC = b"\xff\x4f\xff\x51", b"\xff\x90", b"\xff\xd9"

#: What pydicom says where it leaves out numbers that RLE holds.
_RLE_PADDING = re.compile(r"non-conformant padding - (\d+) vs. (\d+)")


def check_frames(dataset: Dataset) -> None:
    """Raise ValueError unless every JPEG frame of a dataset runs to its end mark, and no further."""
    syntax = dataset.file_meta.TransferSyntaxUID
    check: Callable[[bytes], None]
    if syntax in JPEG2000TransferSyntaxes:
        check = _check_jpeg_2000
    elif syntax in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        check = _check_jpeg
    else:
        return
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        try:
            check(frame)
        except IndexError:
            raise ValueError("a compressed frame ends early") from None


@contextmanager
def decoding(rows: int, columns: int) -> Iterator[None]:
    """Keep decoders quiet; raise ValueError where one says that it found a larger image."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield
    for warning in told:
        padded = _RLE_PADDING.search(str(warning.message))
        if padded and int(padded[1]) - int(padded[2]) >= min(rows, columns):
            raise ValueError(f"{padded[1]} pixels where Rows and Columns make it {padded[2]}")


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
