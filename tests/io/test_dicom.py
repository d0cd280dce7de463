from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from mrisr.io import dicom_file, dicom_scan, read_file, read_volume, write_volume
from mrisr.io.dicom import read_stack
from tests.io.dicom_edits import set_all, set_one


def test_series(make_series, is_clean):
    folder = make_series()
    file = read_file(folder)
    volume = file.volume
    is_clean(volume)
    assert volume.array.dtype == np.uint16
    assert volume.array.max() > 32767
    assert volume.storage.dtype == np.uint16
    assert volume.slice_thickness == 2.5
    assert (file.notes, file.path, volume.name) == ((), folder, str(folder))


@pytest.mark.parametrize(
    "numbers", [lambda k: 5 - k, lambda k: (3, 1, 4, 5, 2)[k], lambda k: 1, lambda k: None]
)
def test_instance_numbers_mean_nothing(make_series, is_clean, numbers):
    is_clean(read_volume(make_series(edit=set_all(InstanceNumber=numbers))))


def test_digest_ignores_file_names(make_series):
    folder = make_series()
    before = read_file(folder).sha256
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{9 - k}")
    assert read_file(folder).sha256 == before
    (folder / "IM9").rename(folder / "deep")
    assert len(before or "") == 64


def test_junk_beside_the_slices(make_series, is_clean):
    folder = make_series()
    (folder / "readme.txt").write_text("hello")
    (folder / "Thumbs.db").write_bytes(b"\0" * 300)
    (folder / ".DS_Store").write_bytes(b"junk")
    (folder / "._00.dcm").write_bytes(b"junk")
    (folder / "empty.log").touch()
    shutil.copy(pydicom.data.get_testdata_file("DICOMDIR"), folder / "DICOMDIR")
    is_clean(read_volume(folder))


def test_slices_in_subfolders_and_without_endings(make_series, is_clean):
    folder = make_series()
    (folder / "a" / "b").mkdir(parents=True)
    for k in range(3):
        (folder / f"{k:02d}.dcm").rename(folder / "a" / "b" / f"{k}")
    is_clean(read_volume(folder))


def test_identical_copy_is_dropped(make_series, is_clean):
    folder = make_series()
    shutil.copy(folder / "02.dcm", folder / "copy.dcm")
    file = read_file(folder)
    is_clean(file.volume)
    assert "copies" in file.notes[0]


@pytest.mark.parametrize("between", [5.0, -3.0, 0.0])
def test_positions_win_over_spacing_between_slices(make_series, is_clean, between):
    file = read_file(make_series(edit=set_all(SpacingBetweenSlices=between)))
    is_clean(file.volume)
    assert "SpacingBetweenSlices" in file.notes[0]


def test_orientation_jitter(make_series, is_clean):
    is_clean(
        read_volume(
            make_series(
                edit=set_all(ImageOrientationPatient=lambda k: [1, 1e-6 * k, 0, 0, 1, -1e-6 * k])
            )
        )
    )


@pytest.mark.parametrize(
    ("orientation", "codes"),
    [
        ([1, 0, 0, 0, 1, 0], "LPS"),
        ([1, 0, 0, 0, 0, -1], "LIP"),
        ([0, 1, 0, 0, 0, -1], "PIR"),
        ([0.8, 0.6, 0, 0, 0, -1], "LIP"),
    ],
)
def test_orientations(make_series, orientation, codes):
    from mrisr.core import geometry

    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)

    def edit(d, k):
        d.ImageOrientationPatient = orientation
        d.ImagePositionPatient = list(np.round(normal * -3.0 * k, 6))

    volume = read_volume(make_series(edit=edit))
    assert geometry.axis_codes(volume.affine) == codes
    lps = np.array([-1, -1, 1]) * (volume.affine @ [2, 1, 0, 1])[:3]
    np.testing.assert_allclose(lps, normal * -12 + row * 1.4 + column * 0.5, atol=1e-5)


@pytest.mark.parametrize("slices", [1, 2])
def test_one_and_two_slices(make_series, is_clean, slices):
    is_clean(read_volume(make_series(slices=slices)), slices)


def test_single_file(make_series, is_clean):
    volume = read_volume(make_series() / "00.dcm")
    is_clean(volume, 1)


def test_single_slice_without_any_thickness(make_series, refused):
    edit = set_one(0, SliceThickness=None, SpacingBetweenSlices=None)
    refused(make_series(slices=1, edit=edit), "thickness")


def test_rescale_is_kept(make_series, expected_pixels, tmp_path):
    volume = read_volume(make_series(edit=set_all(RescaleSlope="0.25", RescaleIntercept="-100")))
    np.testing.assert_array_equal(volume.array, expected_pixels() * 0.25 - 100)
    assert (volume.storage.slope, volume.storage.intercept) == (0.25, -100.0)
    assert volume.storage.dtype == np.uint16
    back = read_volume(write_volume(volume, tmp_path / "v.nii.gz"))
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.storage == volume.storage


def test_rescale_of_each_slice(make_series, expected_pixels):
    edit = set_all(RescaleSlope=lambda k: str(1 + k / 4), RescaleIntercept=lambda k: str(-k))
    file = read_file(make_series(edit=edit))
    slopes, intercepts = 1 + np.arange(5) / 4, -np.arange(5)
    np.testing.assert_array_equal(file.volume.array, expected_pixels() * slopes + intercepts)
    assert file.volume.storage.dtype == np.float32
    assert "differs" in file.notes[0]


def test_signed_12_bit(make_series, expected_pixels):
    values = (expected_pixels().transpose(2, 1, 0) % 4096).astype(np.int16) - 2048

    def edit(d, k):
        d.BitsStored, d.HighBit, d.PixelRepresentation = 12, 11, 1
        word = values[k] if k % 2 else values[k] & 0x0FFF  # with and without the sign carried up
        d.PixelData = word.astype("<i2").tobytes()

    volume = read_volume(make_series(edit=edit))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))


def test_monochrome1_becomes_bright_is_high(make_series, is_clean, expected_pixels):
    def edit(d, k):
        d.PhotometricInterpretation = "MONOCHROME1"
        d.PixelData = (65535 - expected_pixels()[..., k].T).astype("<u2").tobytes()

    file = read_file(make_series(edit=edit))
    is_clean(file.volume)
    assert "MONOCHROME1" in file.notes[0]


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless],
    ids=lambda uid: uid.keyword,
)
def test_transfer_syntaxes(make_series, is_clean, syntax):
    folder = make_series()
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        if syntax in (RLELossless, JPEGLSLossless):
            d.compress(syntax, generate_instance_uid=False)
        else:
            d.file_meta.TransferSyntaxUID = syntax
        d.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    is_clean(read_volume(folder))


def test_missing_decoder_names_the_install_line(make_series, monkeypatch, refused):
    from mrisr.io import dicom_pixels

    class Unavailable:
        available_plugins = ()

    folder = make_series()
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        d.compress(JPEGLSLossless, generate_instance_uid=False)
        d.save_as(path)
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda _: Unavailable())
    refused(folder, "pip install", "JPEG-LS")


def test_file_without_meta_header(make_series, is_clean):
    folder = make_series()
    for path in folder.iterdir():
        d = pydicom.dcmread(path)
        d.file_meta, d.preamble = pydicom.dataset.FileMetaDataset(), None
        pydicom.dcmwrite(path, d, implicit_vr=True, little_endian=True)
    is_clean(read_volume(folder))


def test_two_series(make_series, is_clean, tmp_path, refused):
    make_series("study/a".replace("/", "_"), number=4)
    make_series("study_b", number=9)
    refused(tmp_path, "one series (--series picks)", "number 4", "'t2_9'", "5 files")
    is_clean(read_volume(tmp_path, series="4"))
    is_clean(read_volume(tmp_path, series="T2_9"))
    uid = str(pydicom.dcmread(tmp_path / "study_a" / "00.dcm").SeriesInstanceUID)
    is_clean(read_volume(tmp_path, series=uid))
    refused(tmp_path, "0 of 2", series="nothing")


def test_enhanced(make_enhanced, is_clean):
    volume = read_volume(make_enhanced())
    is_clean(volume)
    assert volume.slice_thickness == 2.5


def test_enhanced_with_two_volumes(make_enhanced, is_clean, expected_pixels, refused):
    path = make_enhanced(volumes=2)
    refused(path, "--frame 1 to 2", "EffectiveEchoTime: 100.0, 101.0")
    is_clean(read_volume(path, frame=1))
    np.testing.assert_array_equal(read_volume(path, frame=2).array, expected_pixels() // 2)
    refused(path, "--frame", frame=3)


def test_enhanced_without_geometry(make_enhanced, refused):
    refused(make_enhanced(geometry=False), "PerFrameFunctionalGroupsSequence")


def test_the_stack_follows_the_array(make_series):
    folder = make_series(edit=set_all(ImagePositionPatient=lambda k: [0, 0, -3.0 * k]))
    for stack in (read_stack(folder), read_file(folder).stack):
        names = [f.path.name for f in stack.frames if f.number == 0]
        assert names == ["04.dcm", "03.dcm", "02.dcm", "01.dcm", "00.dcm"]
        assert [f.header.InstanceNumber for f in stack.frames] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("wanted", [None, "4"])
def test_each_file_of_the_series_is_opened_once(make_series, monkeypatch, tmp_path, wanted):
    folder = make_series("study_a", number=4)
    (folder / "notes.txt").write_text("no image")
    if wanted is not None:
        make_series("study_b", number=9)
    opened: list[str] = []
    real = dicom_file.io.FileIO

    def counting(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(dicom_file.io, "FileIO", counting)
    monkeypatch.setattr(Path, "open", lambda path, *_: pytest.fail(f"{path} opened again"))
    read_file(tmp_path, series=wanted)
    beside = len(list(tmp_path.glob("study_b/*")))
    assert sorted(opened) == sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert len(opened) == 6 + beside


def test_more_than_the_voxels_need_is_not_kept(make_series, monkeypatch, is_clean):
    """A file that is larger than its header says is read again in its turn."""
    monkeypatch.setattr(dicom_file, "_HEADER_BYTES", 0)
    folder = make_series()
    contents = dicom_file.Contents(None, 2**31)
    dicom_scan.find_series(folder, contents)
    assert contents._held == {}
    is_clean(read_volume(folder))


@pytest.mark.parametrize(("series", "nifti"), [("t2_tse_tra", "t2w_ax"), ("t2_tse_cor", "t2w_cor")])
def test_real_series_equals_its_nifti(shared, series, nifti):
    dicom = read_volume(shared / "dicom" / "ProstateX-0000" / series)
    volume = read_volume(shared / "data" / "ProstateX-0000" / f"{nifti}.nii.gz")
    np.testing.assert_array_equal(dicom.array, volume.array)
    assert dicom.array.dtype == volume.array.dtype
    np.testing.assert_allclose(dicom.affine, volume.affine, atol=1e-4)


def test_real_awkward_series(shared, refused):
    awkward = shared / "dicom" / "awkward"
    refused(awkward / "dwi_missing_slice", "1 missing slice")
    refused(awkward / "dcm_qa_enh" / "In" / "Philips", "2 volumes")
    refused(shared / "dicom" / "ProstateX-0000", "t2_tse_tra", "t2_tse_cor")
    slices = [read_volume(p) for p in sorted((awkward / "dcm_qa_ts" / "In").glob("*.dcm"))]
    assert len(slices) == 9
    for volume in slices[1:]:
        np.testing.assert_array_equal(volume.array, slices[0].array)
    assert read_volume(awkward / "dcm_qa_enh/In/Siemens/XA10/6_1.dcm").shape == (64, 64, 6)
