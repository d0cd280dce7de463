from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from mrisr.core.errors import InputError
from mrisr.io import read_volume
from mrisr.io.dicom_pixels import read_pixels
from tests.io.dicom_edits import set_all, set_one


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (set_one(2, ImagePositionPatient=[-10.5, -20.25, 6.1]), ["uneven gap"]),
        (set_one(2, ImagePositionPatient=[-10.5, -20.25, 3.0]), ["each slice position once"]),
        (set_one(2, ImagePositionPatient=None), ["ImagePositionPatient", "none"]),
        (set_one(2, ImagePositionPatient=[1, 2]), ["ImagePositionPatient"]),
        (set_one(2, PixelSpacing=None), ["PixelSpacing", "none"]),
        (set_all(PixelSpacing=[0, 0]), ["PixelSpacing above zero"]),
        (set_all(PixelSpacing=[0.5, -0.7]), ["PixelSpacing above zero"]),
        (set_one(2, PixelSpacing=[0.6, 0.7]), ["one PixelSpacing"]),
        (set_one(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), ["axial", "coronal"]),
        (set_all(ImageOrientationPatient=[1, 0, 0, 0.5, 1, 0]), ["right angles"]),
        (set_one(2, Rows=4), ["one matrix", "4x8"]),
        (set_all(ImagePositionPatient=lambda k: [0, 0.5 * k, 3 * k]), ["sheared", "tilt"]),
        (set_one(2, ImagePositionPatient=[-8.5, -20.25, 6]), ["sideways"]),
        (set_all(RescaleSlope="0"), ["RescaleSlope"]),
        (set_all(PhotometricInterpretation="PALETTE COLOR"), ["PALETTE COLOR"]),
        (set_all(PixelData=b"\1\0" * 48), ["constant"]),
        (set_one(3, PixelData=b"\1\0" * 40), ["03.dcm", "damage or truncation"]),
        (set_one(3, PixelData=None), ["03.dcm", "PixelData"]),
    ],
)
def test_refusals(make_series, edit, words, refused):
    refused(make_series(edit=edit), *words)


def test_missing_slice(make_series, refused):
    folder = make_series()
    (folder / "03.dcm").unlink()
    refused(folder, "1 missing slice", "02.dcm", "04.dcm")


def test_truncated_and_empty_files(make_series, refused):
    folder = make_series()
    whole = (folder / "04.dcm").read_bytes()
    for size in (0, 50, 140, 300, 600, len(whole) // 2, len(whole) - 60, len(whole) - 8):
        (folder / "04.dcm").write_bytes(whole[:size])
        refused(folder, "04.dcm")
    (folder / "04.dcm").unlink()
    (folder / "05.dcm").touch()
    refused(folder, "05.dcm", "empty")


def test_truncated_compressed_file(make_series, refused):
    folder = make_series()
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        d.compress(RLELossless, generate_instance_uid=False)
        d.save_as(path)
    whole = (folder / "04.dcm").read_bytes()
    for cut in (8, 30):
        (folder / "04.dcm").write_bytes(whole[:-cut])
        refused(folder, "04.dcm", "PixelData")


def test_same_uid_with_other_pixels(make_series, edit_file, refused):
    folder = make_series()
    shutil.copy(folder / "02.dcm", folder / "copy.dcm")
    edit_file(folder / "copy.dcm", lambda d: setattr(d, "PixelData", b"\7\0" * 48))
    refused(folder, "copy.dcm", "SOPInstanceUID")


def test_four_dimensional_series(make_series, is_clean, edit_file, refused):
    folder = make_series(edit=set_all(DiffusionBValue=50.0))
    for path in sorted(folder.iterdir()):
        other = folder / f"b800_{path.name}"
        shutil.copy(path, other)

        def change(d):
            d.SOPInstanceUID, d.DiffusionBValue = generate_uid(), 800.0

        edit_file(other, change)
    refused(folder, "2 volumes", "DiffusionBValue: 50.0, 800.0")
    is_clean(read_volume(folder, frame=2))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("MR_truncated.dcm", "truncation"),
        ("rtdose.dcm", "15 frames without"),
        ("SC_rgb_rle.dcm", "ImageOrientationPatient"),
        ("badVR.dcm", "badVR.dcm"),
        ("test-SR.dcm", "no DICOM image"),
        ("rtplan_truncated.dcm", "no DICOM image"),
        ("no_meta_group_length.dcm", "Rows"),
    ],
)
def test_files_of_pydicom_that_are_refused(name, word, refused):
    refused(Path(pydicom.data.get_testdata_file(name, download=False)), word)


@pytest.mark.parametrize(
    "name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]
)
def test_files_of_pydicom_that_are_one_image(name):
    clean, other = (
        read_volume(pydicom.data.get_testdata_file(f"MR_small{n}.dcm", download=False))
        for n in ("", f"_{name}")
    )
    np.testing.assert_array_equal(other.array, clean.array)
    np.testing.assert_array_equal(other.affine, clean.affine)


def test_jpeg_of_12_bits_says_what_unpacks_it():
    path = Path(pydicom.data.get_testdata_file("JPGExtended.dcm", download=False))
    with pytest.raises(InputError, match=r"dcmdjpeg.*JPEG Extended.*12 bits"):
        read_pixels(path, path.read_bytes())


def test_colour(make_series, refused):
    def edit(d, k):
        d.SamplesPerPixel, d.PlanarConfiguration, d.PhotometricInterpretation = 3, 0, "RGB"
        d.PixelData = d.PixelData * 3

    refused(make_series(edit=edit), "3 samples of RGB")


def test_max_voxels(make_series, refused):
    refused(make_series(), "--max-voxels", max_voxels=100)


def test_folder_without_dicom(tmp_path, refused):
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path, "no DICOM image")
