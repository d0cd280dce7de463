from pathlib import Path

import numpy as np
import pydicom
import pytest

from mrisr.core.errors import InputError
from mrisr.io import dicom, dicom_scan, read_file, read_volume
from mrisr.io.dicom import read_stack
from mrisr.io.dicom_pixels import read_pixels


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


def test_digest_ignores_file_names(make_series):
    folder = make_series()
    before = read_file(folder).sha256
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{9 - k}")
    assert read_file(folder).sha256 == before
    (folder / "IM9").rename(folder / "deep")
    assert len(before or "") == 64


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


def test_single_file(make_series, is_clean):
    volume = read_volume(make_series() / "00.dcm")
    is_clean(volume, 1)


def test_signed_12_bit(make_series, expected_pixels):
    values = (expected_pixels().transpose(2, 1, 0) % 4096).astype(np.int16) - 2048

    def edit(d, k):
        d.BitsStored, d.HighBit, d.PixelRepresentation = 12, 11, 1
        word = values[k] if k % 2 else values[k] & 0x0FFF  # with and without the sign carried up
        d.PixelData = word.astype("<i2").tobytes()

    volume = read_volume(make_series(edit=edit))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))


def test_the_stack_follows_the_array(make_series):
    folder = make_series(edit=lambda d, k: setattr(d, "ImagePositionPatient", [0, 0, -3.0 * k]))
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
    real = dicom_scan.io.FileIO

    def counting(path):
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(dicom_scan.io, "FileIO", counting)
    monkeypatch.setattr(Path, "open", lambda path, *_: pytest.fail(f"{path} opened again"))
    read_file(tmp_path, series=wanted)
    beside = len(list(tmp_path.glob("study_b/*")))
    assert sorted(opened) == sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert len(opened) == 6 + beside


def test_more_than_the_voxels_need_is_not_kept(make_series, monkeypatch, is_clean):
    """A file that is larger than its header says is read again in its turn."""
    monkeypatch.setattr(dicom, "_HEADER_BYTES", 0)
    folder = make_series()
    pixels = dicom._Pixels(None, 2**31)
    dicom_scan.find_series(folder, pixels.keep)
    assert pixels._held == {}
    is_clean(read_volume(folder))


def test_jpeg_of_12_bits_says_what_unpacks_it():
    path = Path(pydicom.data.get_testdata_file("JPGExtended.dcm", download=False))
    with pytest.raises(InputError, match=r"dcmdjpeg.*JPEG Extended.*12 bits"):
        read_pixels(path, path.read_bytes())


ORIGINAL = ["ORIGINAL", "PRIMARY", "M", "NORM"]
KIND = "kind of image in ImageType"


@pytest.mark.parametrize(
    ("keyword", "values", "told"),
    [
        (
            "ImageType",
            [ORIGINAL, ["DERIVED", "PRIMARY", "M", "ND"]],
            f"{KIND}: DERIVED\\PRIMARY\\M, ",
        ),
        ("ImageType", [ORIGINAL, ["ORIGINAL", "PRIMARY", "M", "T2 MAP"]], f"{KIND}: "),
        ("ImageType", [["DERIVED", "PRIMARY", "DIFFUSION", v] for v in ("ADC", "TRACEW")], KIND),
        ("ImageType", [["ORIGINAL", "PRIMARY", "DIXON", v] for v in ("IN", "OPP")], KIND),
        ("ImageType", [[*ORIGINAL, "DIS2D", v] for v in ("W", "F")], r"M\F, ORIGINAL\PRIMARY\M\W"),
        ("SequenceName", ["ep_b50t", "ep_b800t"], ""),
        ("EchoNumbers", [1, 2], ""),
        ("ScanningSequence", ["GR", "SE"], ""),
        ("ScanOptions", ["FS", "PFP"], ""),
        ("ContrastBolusAgent", [None, "Gadovist"], "ContrastBolusAgent: none, Gadovist"),
        ("TemporalPositionIdentifier", [1, 2], ""),
        ("SeriesDescription", ["adc", "t2_tse"], ""),
        ("ProtocolName", ["adc", "t2_tse"], ""),
        ("Modality", ["CT", "MR"], ""),
        ("AcquisitionContrast", ["PROTON_DENSITY", "T2"], ""),
        ("SpectrallySelectedSuppression", ["FAT", "NONE"], ""),
        ("DiffusionDirectionality", ["ISOTROPIC", "NONE"], ""),
        ("TemporalPositionIndex", [1, 2], ""),
    ],
)
@pytest.mark.parametrize("second", [lambda k: k % 2, lambda k: k > 1])
def test_slices_of_two_contrasts(make_series, refused, keyword, values, told, second):
    """Each position once: slice by slice, or one after the other."""
    folder = make_series(edit=lambda d, k: setattr(d, keyword, values[second(k)]))
    refused(folder, "2 volumes", told or f"{keyword}: {values[0]}, {values[1]}", "--frame 1 to 2")


@pytest.mark.parametrize(
    ("group", "creator", "element", "vr", "values"),
    [
        (0x0019, "SIEMENS MR HEADER", 0x0C, "IS", (50, 800)),
        (0x0019, "SIEMENS MR HEADER", 0x0C, "OB", (b"50", b"800 ")),
        (0x2001, "Philips Imaging DD 001", 0x03, "FL", (50.0, 800.0)),
        (0x0043, "GEMS_PARM_01", 0x39, "IS", ([1000000050, 8, 0, 0], [1000000800, 8, 0, 0])),
    ],
)
def test_b_values_that_only_the_vendor_states(
    make_series, refused, group, creator, element, vr, values
):
    """In the first block of the group, or behind that of another."""

    def edit(d, k):
        if k > 1:
            d.private_block(group, "SOMEBODY ELSE", create=True).add_new(element, "LO", "7")
        block = d.private_block(group, creator, create=True)
        block.add_new(element, vr, values[k % 2])

    refused(make_series(edit=edit), "2 volumes", "DiffusionBValue: 50, 800")


def test_what_varies_within_one_contrast(make_series, is_clean):
    """Counts of slices, a vendor's corrections, and private elements that are no numbers."""

    def edit(d, k):
        d.ImageType = [*ORIGINAL[:3], *(["NORM", "DIS2D"] if k % 2 else ["ND"])]
        d.SequenceName, d.TemporalPositionIdentifier = f"*tse2d1_{k}", k + 1
        d.EchoNumbers = 1 if k % 2 else None
        block = d.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "OB", bytes([200 + k, 0]))

    is_clean(read_volume(make_series(edit=edit)))


@pytest.mark.parametrize(("series", "nifti"), [("t2_tse_tra", "t2w_ax"), ("t2_tse_cor", "t2w_cor")])
def test_real_series_equals_its_nifti(shared, series, nifti):
    dicom = read_volume(shared / "dicom" / "ProstateX-0000" / series)
    volume = read_volume(shared / "data" / "ProstateX-0000" / f"{nifti}.nii.gz")
    np.testing.assert_array_equal(dicom.array, volume.array)
    assert dicom.array.dtype == volume.array.dtype
    np.testing.assert_allclose(dicom.affine, volume.affine, atol=1e-4)


def test_real_enhanced_series(shared):
    path = shared / "dicom" / "awkward" / "dcm_qa_enh/In/Siemens/XA10/6_1.dcm"
    assert read_volume(path).shape == (64, 64, 6)
