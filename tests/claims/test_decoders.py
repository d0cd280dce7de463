"""Claims about the decoders of pixels, put to the libraries: a test fails when its claim becomes false."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from mrisr.io.dicom_pixels import check_frames

END = b"\xff\xd9"
JPEG, JPEG_2000, JPEG_LS = (
    "SC_jpeg_no_color_transform.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
)


def example(name: str) -> pydicom.Dataset:
    return pydicom.dcmread(pydicom.data.get_testdata_file(name, download=False))


def frame_of(name: str) -> bytes:
    return next(generate_frames(example(name).PixelData, number_of_frames=1)).rstrip(b"\0")


def framed(name: str, frame: bytes) -> pydicom.Dataset:
    d = example(name)
    d.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    d["PixelData"].is_undefined_length = True
    plugins = {JPEG: "pillow", JPEG_2000: "pylibjpeg", JPEG_LS: "pyjpegls"}
    d.pixel_array_options(decoding_plugin=plugins[name])
    return d


def test_missing_jpeg_2000_data_are_filled_up() -> None:
    """A tile-part that lacks a byte before the end mark."""
    d = framed(JPEG_2000, frame_of(JPEG_2000)[:-3] + END)
    assert not np.array_equal(d.pixel_array, example(JPEG_2000).pixel_array)
    with pytest.raises(ValueError, match="ends early"):
        check_frames(d)


_CUT = """
from tests.claims.test_decoders import *
frame = frame_of(JPEG_LS)
print("ready", flush=True)
for lost in range(8, 2000, 7):
    try:
        framed(JPEG_LS, frame[:-lost]).pixel_array
    except RuntimeError:
        pass
"""


def test_cut_jpeg_ls_streams_are_decoded_for_ever() -> None:
    """Some for seconds, some for minutes, where a whole one takes milliseconds."""
    command = [sys.executable, "-c", _CUT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(5)
        finally:
            child.kill()
    with pytest.raises(ValueError, match="ends early"):
        check_frames(framed(JPEG_LS, frame_of(JPEG_LS)[:-100]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [JPEG, JPEG_2000])
def test_nothing_is_said_on_standard_error(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Pillow and OpenJPEG keep it from there; what a decoder did say would have to be caught."""
    frame = frame_of(name)
    for seed in range(30):
        damaged = bytearray(frame)
        damaged[int(np.random.default_rng(seed).integers(len(frame)))] ^= 1 << seed % 8
        try:
            framed(name, bytes(damaged)).pixel_array.max()
        except Exception:  # as any decoder raises
            continue
    assert capfd.readouterr().err == ""


def test_a_read_takes_the_room_it_asks_for(tmp_path: Path) -> None:
    """So an element whose length is damaged costs gigabytes."""
    (tmp_path / "small").write_bytes(b"x" * 100)
    with (tmp_path / "small").open("rb") as file:
        tracemalloc.start()
        assert len(file.read(1 << 28)) == 100
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak >= 1 << 28
