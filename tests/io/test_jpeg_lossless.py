"""JPEG lossless against an encoder written from the standard, and against GDCM."""

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless

from mrisr.io import read_volume
from mrisr.io.jpeg_lossless import decode
from tests.reliability.jpeg_encoder import PREDICTORS, by_gdcm, encode

ROWS, COLUMNS = 6, 8


def image(bits: int, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, (ROWS, COLUMNS))
    pixels[1, :2] = 0, (1 << bits) - 1
    return pixels.astype(np.uint16)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("bits", [2, 8, 12, 16])
@pytest.mark.parametrize("restart", [0, 1, 4])
def test_every_predictor(predictor, bits, restart):
    pixels = image(bits)
    stream = encode(pixels, predictor, bits, restart=restart)
    np.testing.assert_array_equal(decode(stream, ROWS, COLUMNS), pixels)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("bits", [8, 12])
def test_gdcm_agrees(predictor, bits):
    stream = encode(image(bits), predictor, bits)
    np.testing.assert_array_equal(by_gdcm(stream, bits), image(bits))
    np.testing.assert_array_equal(decode(stream, ROWS, COLUMNS), image(bits))


def test_point_transform():
    pixels = image(12) & 0xFFC
    stream = encode(pixels, 1, 12, shift=2)
    np.testing.assert_array_equal(decode(stream, ROWS, COLUMNS), pixels)


def test_every_truncation_is_refused():
    stream = encode(image(12), 1, 12, restart=2)
    for length in range(len(stream)):
        with pytest.raises(ValueError, match="JPEG lossless"):
            decode(stream[:length], ROWS, COLUMNS)


def test_flipped_bits_raise_nothing_else():
    stream = encode(image(12), 7, 12, restart=2)
    refused = 0
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            assert decode(bytes(damaged), ROWS, COLUMNS).shape == (ROWS, COLUMNS)
        except ValueError:
            refused += 1
    assert (refused, 8 * len(stream)) == (933, 1400)  # others make pixels that are just as good


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.replace(b"\xff\xc3", b"\xff\xc0"), "marker C0"),
        (lambda s: s.replace(b"\xff\xc3\x00\x0b\x0c\x00\x06", b"\xff\xc3\x00\x0b\x0c\x00\x07"), "7x8"),
        (lambda s: s[:-2] + b"\xff\xd9\x01\x02", "after the end mark"),
        (lambda s: s[:-2] + b"\x00\x00\xff\xd9", "do not fill"),
        (lambda s: s[:-2] + b"\xff\xd0\xff\xd9", "restart intervals"),
        (lambda s: s[:-8] + b"\xff\xd9", "ends early|do not fill|fewer bits"),
        (lambda s: s.replace(bytes(range(17)), bytes((*range(16), 17))), "Huffman table"),
        (lambda s: s.replace(b"\x08\x01\x01\x00\x01", b"\x08\x01\x01\x00\x08"), "predictor 8"),
    ],
)  # fmt: skip
def test_damage(change, words):
    stream = encode(image(12), 1, 12)
    assert change(stream) != stream
    with pytest.raises(ValueError, match=words):
        decode(change(stream), ROWS, COLUMNS)


def test_a_huge_image_costs_nothing():
    """The loop over pixels ends with the bits, whatever the size that is claimed."""
    stream = encode(image(8), 1, 8).replace(b"\x08\0\x06\0\x08", b"\x08\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="fewer bits than pixels"):
        decode(stream, 65535, 65535)


@pytest.mark.parametrize("signed", [False, True])
def test_series(make_series, expected_pixels, signed):
    def edit(d, k):
        numbers = expected_pixels()[..., k].T >> 4  # 12 bits; signed, the upper half is negative
        d.BitsStored, d.HighBit, d.PixelRepresentation = 12, 11, int(signed)
        stream = encode(numbers, 6, 12)
        d.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        d["PixelData"].VR = "OB"
        d["PixelData"].is_undefined_length = True
        d.file_meta.TransferSyntaxUID = JPEGLossless

    volume = read_volume(make_series(edit=edit))
    numbers = (expected_pixels() >> 4).astype(np.int16)
    if signed:
        numbers[numbers >= 2048] -= 4096
    np.testing.assert_array_equal(volume.array, numbers)
    assert volume.array.dtype == (np.int16 if signed else np.uint16)
