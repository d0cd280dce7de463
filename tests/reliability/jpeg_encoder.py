"""JPEG lossless, encoded as the standard describes it (ITU-T T.81, annex H), one pixel after the other."""

from collections.abc import Callable, Iterator

import numpy as np

#: Predictions by selection value; a is the left, b the upper, c the upper left neighbour.
PREDICTORS: dict[int, Callable[[int, int, int], int]] = {
    1: lambda a, b, c: a,
    2: lambda a, b, c: b,
    3: lambda a, b, c: c,
    4: lambda a, b, c: a + b - c,
    5: lambda a, b, c: a + ((b - c) >> 1),
    6: lambda a, b, c: b + ((a - c) >> 1),
    7: lambda a, b, c: (a + b) >> 1,
}


def encode(
    pixels: np.ndarray, predictor: int = 1, bits: int = 16, shift: int = 0, restart: int = 0
) -> bytes:
    """One component, all 17 categories as codes of 5 bits, a restart after ``restart`` rows."""
    rows, columns = pixels.shape
    stream = b"\xff\xd8\xff\xe0\x00\x04ab"
    stream += b"\xff\xc3\x00\x0b" + bytes((bits, 0, rows, 0, columns, 1, 1, 0x11, 0))
    stream += b"\xff\xc4\x00\x24" + bytes((0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)))
    if restart:
        stream += b"\xff\xdd\x00\x04" + (restart * columns).to_bytes(2, "big")
    stream += b"\xff\xda\x00\x08" + bytes((1, 1, 0, predictor, 0, shift))
    parts = []
    for top in range(0, rows, restart or rows):
        part = pixels[top : top + (restart or rows)].astype(int) >> shift
        text = "".join(
            code(d) for d in differences(part, PREDICTORS[predictor], 1 << (bits - shift - 1))
        )
        text += "1" * (-len(text) % 8)
        data = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        parts.append(data.replace(b"\xff", b"\xff\0"))
    for number, part in enumerate(parts):
        stream += part + (bytes((0xFF, 0xD0 + number % 8)) if part is not parts[-1] else b"")
    return stream + b"\xff\xd9"


def by_gdcm(stream: bytes, bits: int) -> np.ndarray:
    """6 x 8 pixels of a stream, decoded by GDCM, to compare with."""
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLossless

    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = JPEGLossless
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 6, 8, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    d.PixelRepresentation = 0
    d.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    d["PixelData"].VR = "OB"
    d.pixel_array_options(decoding_plugin="gdcm")
    return d.pixel_array


def differences(
    x: np.ndarray, predict: Callable[[int, int, int], int], first: int
) -> Iterator[int]:
    """What each pixel differs by from its prediction, modulo 2^16."""
    for r, c in np.ndindex(x.shape):
        if r and c:
            guess = predict(int(x[r, c - 1]), int(x[r - 1, c]), int(x[r - 1, c - 1]))
        elif r:
            guess = int(x[r - 1, c])
        else:
            guess = int(x[r, c - 1]) if c else first
        yield (int(x[r, c]) - guess + 32767) % 65536 - 32767


def code(difference: int) -> str:
    """Category in 5 bits, and the bits that follow it."""
    size = abs(difference).bit_length()
    if size in (0, 16):
        return f"{size:05b}"
    return f"{size:05b}" + f"{difference + (difference < 0) * ((1 << size) - 1):0{size}b}"
