"""JPEG lossless (ITU-T T.81, process 14), one component, decoded in numpy.

GDCM, the only other decoder at hand, ends the process on some damaged streams and makes up pixels for
others. Here damage is an error: each bit of the scan must be spent on a pixel, and each pixel must fit
its precision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_SOI, _EOI, _SOS, _DHT, _DRI, _SOF3 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xC3
#: Segments that do not bear on the pixels: APPn and COM.
_SKIPPED = {*range(0xE0, 0xF0), 0xFE}

_Words = NDArray[np.int64]


@dataclass(frozen=True)
class _Scan:
    """Values of the marker segments, and the entropy-coded bytes of each restart interval."""

    precision: int
    rows: int
    columns: int
    interval: int
    predictor: int
    shift: int
    table: NDArray[np.uint8]
    parts: tuple[bytes, ...]


def decode(stream: bytes, rows: int, columns: int) -> NDArray[np.uint16]:
    """Pixels ``(rows, columns)`` of one frame.

    Raises ValueError for a stream of another size or process, and for any damage that shows.
    """
    try:
        scan = _parse(stream)
    except IndexError:
        raise ValueError("JPEG lossless: the stream ends early") from None
    if (scan.rows, scan.columns) != (rows, columns):
        raise ValueError(f"JPEG lossless: {scan.rows}x{scan.columns} pixels")
    lines = scan.interval // columns or rows
    if len(scan.parts) != -(-rows // lines):
        raise ValueError("JPEG lossless: restart intervals are missing")
    bands = []
    for number, part in enumerate(scan.parts):
        height = min(lines, rows - number * lines)
        differences = _differences(part, scan.table, height * columns)
        bands.append(_predicted(differences.reshape(height, columns), scan))
    pixels = np.concatenate(bands) << scan.shift
    if pixels.max() >> scan.precision:
        raise ValueError(f"JPEG lossless: pixels of more than {scan.precision} bits")
    return pixels.astype(np.uint16)


def _parse(stream: bytes) -> _Scan:
    """Walk the marker segments: one frame, one scan, one component, and nothing after the end mark."""
    if stream[:2] != bytes((0xFF, _SOI)):
        raise ValueError("JPEG lossless: no start mark")
    position, interval = 2, 0
    frame: bytes = b""
    tables: dict[int, NDArray[np.uint8]] = {}
    while True:
        position, marker = _marker(stream, position)
        size = int.from_bytes((stream[position], stream[position + 1]), "big")
        body = stream[position + 2 : position + size]
        position += size
        if size < 2 or position > len(stream):
            raise IndexError
        if marker == _SOF3 and not frame:
            frame = body
        elif marker == _DHT:
            tables |= _tables(body)
        elif marker == _DRI:
            interval = int.from_bytes(body, "big")
        elif marker == _SOS:
            return _scan(frame, body, tables, interval, _parts(stream, position))
        elif marker not in _SKIPPED:
            raise ValueError(f"JPEG lossless: marker {marker:02X}")


def _marker(stream: bytes, position: int) -> tuple[int, int]:
    """Position after the next marker, and the marker."""
    if stream[position] != 0xFF:
        raise ValueError("JPEG lossless: a marker is damaged")
    while stream[position] == 0xFF:
        position += 1
    return position + 1, stream[position]


def _scan(
    frame: bytes,
    scan: bytes,
    tables: dict[int, NDArray[np.uint8]],
    interval: int,
    parts: tuple[bytes, ...],
) -> _Scan:
    if len(frame) != 9 or len(scan) != 6 or frame[5] != 1 or scan[0] != 1 or frame[6] != scan[1]:
        raise ValueError("JPEG lossless: not one frame of one component")
    precision, shift, predictor = frame[0], scan[5] & 15, scan[3]
    rows, columns = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if not 2 <= precision <= 16 or shift >= precision or not 1 <= predictor <= 7:
        raise ValueError(f"JPEG lossless: {precision} bits, shift {shift}, predictor {predictor}")
    if scan[4] or scan[5] >> 4 or scan[2] & 15 or scan[2] >> 4 not in tables:
        raise ValueError("JPEG lossless: a damaged scan header")
    if min(rows, columns) < 1 or interval % columns:
        raise ValueError(f"JPEG lossless: {rows}x{columns} pixels, restarts every {interval}")
    table = tables[scan[2] >> 4]
    return _Scan(precision, rows, columns, interval, predictor, shift, table, parts)


def _tables(body: bytes) -> dict[int, NDArray[np.uint8]]:
    """Huffman tables: for the next 16 bits, the code's length in the high and its category in the low
    five bits; 0 where no code fits."""
    tables = {}
    while body:
        counts, number = body[1:17], body[0]
        categories = body[17 : 17 + sum(counts)]
        lengths = [n for n, count in enumerate(counts, 1) for _ in range(count)]
        if number > 3 or len(counts) < 16 or len(categories) != len(lengths):
            raise ValueError("JPEG lossless: a damaged Huffman table")
        table = np.zeros((2, 1 << 16), dtype=np.uint8)
        start = 0
        for length, category in zip(lengths, categories, strict=True):
            stop = start + (1 << 16 - length)
            if category > 16 or stop > 1 << 16:
                raise ValueError("JPEG lossless: a damaged Huffman table")
            table[0, start:stop], table[1, start:stop] = length, category
            start = stop
        tables[number] = table
        body = body[17 + len(categories) :]
    return tables


def _parts(stream: bytes, position: int) -> tuple[bytes, ...]:
    """Entropy-coded bytes up to the end mark, split at the restarts, which must count from 0 to 7."""
    parts: list[bytes] = []
    start = position
    while True:
        position = stream.find(b"\xff", position)
        if position < 0:
            raise IndexError
        after, marker = _marker(stream, position)
        if marker == 0:
            position = after
            continue
        parts.append(stream[start:position].replace(b"\xff\0", b"\xff"))
        if marker == _EOI:
            break
        if marker != 0xD0 + (len(parts) - 1) % 8:
            raise ValueError(f"JPEG lossless: marker {marker:02X} amid the pixels")
        position = start = after
    if stream[after:].strip(b"\0"):
        raise ValueError("JPEG lossless: bytes after the end mark")
    return tuple(parts)


def _differences(part: bytes, table: NDArray[np.uint8], count: int) -> _Words:
    """``count`` differences from one restart interval, which must be spent to its last byte."""
    bits = 8 * len(part)
    if count > bits:
        raise ValueError("JPEG lossless: fewer bits than pixels")
    held = np.frombuffer(part + b"\0" * 4, dtype=np.uint8).astype(np.uint32)
    words = (held[:-3] << 24) | (held[1:-2] << 16) | (held[2:-1] << 8) | held[3:]
    # The 16 bits that begin at every bit.
    ahead = [(words >> np.uint32(16 - bit)).astype(np.uint16) for bit in range(8)]
    windows = np.stack(ahead, axis=1).ravel()
    length, category = table[0][windows], table[1][windows]
    # Category 16 stands for the difference 32768 and has no bits of its own.
    steps = (length + np.where(category < 16, category, 0)).astype(np.uint8).tobytes()
    places, position = [], 0
    for _ in range(count):
        if position >= bits:
            raise ValueError("JPEG lossless: the scan ends early")
        places.append(position)
        position += steps[position]
    at = np.array(places)
    if not length[at].all():
        raise ValueError("JPEG lossless: a damaged Huffman code")
    if not 0 <= bits - position < 8:
        raise ValueError("JPEG lossless: the pixels do not fill the scan")
    size = category[at].astype(np.int64)
    value = windows[at + length[at]].astype(np.int64) >> (16 - np.minimum(size, 15))
    half = (1 << size) >> 1
    value = np.where(value >= half, value, value - 2 * half + 1)
    return np.where(size == 16, 1 << 15, value)


def _predicted(differences: _Words, scan: _Scan) -> _Words:
    """Pixels from differences, modulo 2^16."""
    pixels = differences.copy()
    pixels[0, 0] += 1 << (scan.precision - scan.shift - 1)
    pixels[0] = np.cumsum(pixels[0])
    pixels[:, 0] = np.cumsum(pixels[:, 0])
    if scan.predictor == 1:  # nearly all files
        pixels[1:] = np.cumsum(pixels[1:], axis=1)
    else:
        predict = _PREDICTORS[scan.predictor]
        pixels &= 0xFFFF
        for above, row in pairwise(pixels):
            a = int(row[0])
            neighbours = zip(above[1:].tolist(), above.tolist(), row[1:].tolist(), strict=False)
            for column, (b, c, difference) in enumerate(neighbours, 1):
                a = (predict(a, b, c) + difference) & 0xFFFF
                row[column] = a
    return pixels & 0xFFFF


#: Predictions by selection value; ``a`` is the left, ``b`` the upper, ``c`` the upper left neighbour.
_PREDICTORS: dict[int, Callable[[int, int, int], int]] = {
    2: lambda a, b, c: b,
    3: lambda a, b, c: c,
    4: lambda a, b, c: a + b - c,
    5: lambda a, b, c: a + ((b - c) >> 1),
    6: lambda a, b, c: b + ((a - c) >> 1),
    7: lambda a, b, c: (a + b) >> 1,
}
