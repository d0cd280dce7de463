"""Inputs that look whole and are not, and paths that are no files: one test for each decision."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import generate_uid

from mrisr.core.errors import InputError, OutputError
from mrisr.io import check_output, checks, read_volume
from mrisr.io.dicom_pixels import check_frames

# --- DICOM: which files count ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"])
def test_segmentations_and_parametric_maps_are_no_series(make_series, is_clean, edit_file, kind):
    folder = make_series()
    shutil.copy(folder / "00.dcm", folder / "made.dcm")
    edit_file(
        folder / "made.dcm",
        lambda d: d.update({"SOPClassUID": kind, "SeriesInstanceUID": generate_uid()}),
    )
    is_clean(read_volume(folder))


# --- DICOM: whether the pixels are all there ------------------------------------------------------


def framed(name: str) -> pydicom.Dataset:
    path = pydicom.data.get_testdata_file(name, download=False)
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "JPEG-lossy.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_frames_are_walked_to_their_end_mark(name):
    d = framed(name)
    check_frames(d)
    count = int(d.get("NumberOfFrames", 1))
    first = next(generate_frames(d.PixelData, number_of_frames=count)).rstrip(b"\0")
    d.NumberOfFrames = 1
    for share in (0.02, 0.3, 0.7, 0.99):
        kept = first[: int(len(first) * share)]
        d.PixelData = encapsulate([kept + b"\0" * (len(kept) % 2)])
        with pytest.raises(ValueError, match=r"ends early|damaged"):
            check_frames(d)


# --- values and claims ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1e300), (0, 1e-300), (1e9, 1e9 + 10), (-1e38, 0), (2**60, 2**60 + 4095)]
)
def test_values_that_single_precision_cannot_tell_apart(low, high):
    array = np.array([low, high], dtype=np.float64).reshape(2, 1, 1)
    with pytest.raises(InputError, match="single precision"):
        checks.check_values(array, "v.nii")
    checks.check_values(array, "v.nii", allow_constant=True)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-32768, 32767), (1e6, 1e6 + 4095), (0, 1e-20)])
def test_values_that_it_can(low, high):
    checks.check_values(np.array([low, high], dtype=np.float64).reshape(2, 1, 1), "v.nii")


def test_compression_that_is_too_good():
    checks.check_room(10**6, 10**8, "v", packed=True)
    checks.check_room(10**7, 10**9, "v", packed=True)
    with pytest.raises(InputError, match="hold the 1000000 bytes"):
        checks.check_room(100, 10**6, "v", packed=True)
    with pytest.raises(InputError, match="--max-voxels"):
        checks.check_room(10**6, 10**9, "v", packed=True)


# --- paths ----------------------------------------------------------------------------------------


def test_names_too_long_to_write(tmp_path):
    check_output(tmp_path / f"{'x' * 196}.nii")
    for name in (f"{'x' * 197}.nii", f"{'x' * 300}.nii", f"{'é' * 99}.nii"):
        with pytest.raises(OutputError, match="at most 200 bytes"):
            check_output(tmp_path / name)
    with pytest.raises(OutputError, match="too long"):
        check_output(tmp_path / ("y" * 300) / "v.nii")
