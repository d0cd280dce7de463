"""Damage that once came out as a volume, a crash or a second line on standard error."""

import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from mrisr.core.errors import InputError
from mrisr.io import read_volume, write_volume
from mrisr.io.dicom_scan import BoundedFile


def edit(path: Path, old: bytes, new: bytes) -> Path:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


@pytest.fixture
def written(make_volume, tmp_path):
    """The path of a volume of 9 x 7 x 5 in a format."""
    return lambda ending: write_volume(make_volume(), tmp_path / f"v{ending}")


# --- headers that claim fewer voxels than there are -----------------------------------------------


@pytest.mark.parametrize(
    ("ending", "old", "new", "words"),
    [
        (".nii", b"\3\0\x09\0\7\0\5", b"\3\0\x09\0\7\0\4", "more bytes"),
        (".nii", np.float32(352).tobytes(), np.float32(352.5).tobytes(), "vox_offset"),
        (".mhd", b"DimSize = 9 7 5", b"DimSize = 9 7 4", "bytes of voxels"),
        (".nrrd", b"sizes: 9 7 5", b"sizes: 9 7 4", "bytes of voxels"),
        (".mha", b"DimSize = 9 7 5", b"DimSize = 9 7 4", "bytes of voxels"),
    ],
)
def test_headers_of_fewer_slices(written, refused, ending, old, new, words):
    refused(edit(written(ending), old, new), words)


# --- MetaImage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_a_field_in_other_letters_counts(written, make_volume, ending):
    """ITK takes a spacing of 1 mm for the field it does not know."""
    path = edit(written(ending), b"ElementSpacing", b"elementSpacing")
    np.testing.assert_allclose(read_volume(path).spacing, [0.5, 0.7, 3.0])


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (b"Offset = ", b"Offset = 1.2.3 ", "Offset"),
        (b"Offset = ", b"Offset = 1e300 0 0\nComment = ", "1e+06 mm"),
        (b"CompressedData = True", b"CompressedData = Trte", "CompressedData"),
        (b"BinaryData = True", b"BinaryData = True\nDistanceUnits = um", "DistanceUnits"),
        (b"BinaryData = True", b"BinaryData = True\nOrigin = 1 2 3", "one Offset"),
        (b"BinaryData = True", b"BinaryData = True\nHeaderSize = 7", "HeaderSize"),
    ],
)
def test_metaimage_fields(written, refused, old, new, word):
    path = written(".mha")
    refused(edit(path, old, new), word)


def test_directions_of_another_length(written, refused):
    path = written(".mhd")
    matrix = next(line for line in path.read_bytes().splitlines() if b"TransformMatrix" in line)
    refused(edit(path, matrix, b"TransformMatrix = 3 0 0 0 1 0 0 0 1"), "unit vectors")


def test_voxels_at_the_end_of_the_file(written, make_volume):
    path = edit(written(".mhd"), b"NDims = 3", b"NDims = 3\nHeaderSize = -1")
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"a header of its own" + raw.read_bytes())
    np.testing.assert_array_equal(read_volume(path).array, make_volume().array)


def test_bytes_after_the_compressed_voxels(written, refused):
    path = written(".nrrd")
    path.write_bytes(path.read_bytes() + b"\0\0\1")
    refused(path, "more bytes")


def test_long_values_are_not_repeated(written, refused):
    path = edit(written(".nrrd"), b"encoding: gzip", b"encoding: " + b"x" * 5000)
    refused(path, "encoding", "...")


# --- DICOM ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 60, 131])
@pytest.mark.parametrize("naming", ["IM{:04d}", "1.2.826.{}", "{}"])
def test_a_stump_named_like_the_slices(make_series, refused, length, naming):
    """The last slice, cut before its magic, is not taken for a file of another kind."""
    folder = make_series()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / naming.format(number))
    last = folder / naming.format(4)
    last.write_bytes(last.read_bytes()[:length])
    with pytest.raises(InputError, match=f"{last.name}.*named like the images"):
        read_volume(folder)
    last.rename(folder / "README")
    assert read_volume(folder).shape[2] == 4


def test_a_slice_cut_in_its_file_meta(make_series):
    """Its class is not that of an image by then, and it is not taken for a report."""
    folder = make_series()
    for path in sorted(folder.iterdir()):
        path.rename(path.with_suffix(""))
    last = folder / "04"
    whole = last.read_bytes()
    damaged = whole.replace(b"DICM", b"DICN", 1)
    for stump in (damaged, *(whole[:length] for length in range(132, 400, 3))):
        last.write_bytes(stump)
        with pytest.raises(InputError, match="04: expected"):
            read_volume(folder)


def _encapsulated(folder: Path, syntax: str, frame: bytes | None = None) -> Path:
    path = folder / "00.dcm"
    d = pydicom.dcmread(path)
    if frame is None:
        d.compress(syntax, generate_instance_uid=False)
    else:
        d.PixelData = encapsulate([frame])
        d["PixelData"].VR, d["PixelData"].is_undefined_length = "OB", True
        d.file_meta.TransferSyntaxUID = syntax
    d.save_as(path)
    return path


def test_a_cut_end_of_encapsulated_pixels(make_series, refused):
    path = _encapsulated(make_series(slices=1), JPEGLSLossless)
    whole = path.read_bytes()
    for lost in range(1, 9):
        path.write_bytes(whole[:-lost])
        refused(path, "00.dcm")


@pytest.mark.parametrize("change", [{"Rows": 4}, {"Columns": 6}, {"NumberOfFrames": 2}])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_pixels_of_another_size(make_series, edit_file, refused, change, syntax):
    path = _encapsulated(make_series(slices=1), syntax)
    edit_file(path, lambda d: d.update(change))
    refused(path, "00.dcm")


def test_more_frames_than_stated(make_series, refused):
    path = _encapsulated(make_series(slices=1), JPEGLSLossless)
    d = pydicom.dcmread(path)
    (frame,) = generate_frames(d.PixelData, number_of_frames=1)
    d.PixelData = encapsulate([frame, frame])
    d.save_as(path)
    refused(path, "00.dcm")


def test_a_few_compressed_bytes_that_claim_a_gigabyte(make_series, refused):
    folder = make_series(slices=1)
    path = _encapsulated(folder, JPEG2000Lossless, b"\xff\x4f\xff\x51" + b"\0" * 96)
    d = pydicom.dcmread(path)
    d.Rows = d.Columns = 30000
    d.save_as(path)
    refused(path, "claim to be")


def test_a_deflated_bomb(make_series, refused):
    path = make_series(slices=1) / "00.dcm"
    d = pydicom.dcmread(path)
    d.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    d.save_as(path)
    meta = pydicom.filereader.read_file_meta_info(path)
    start = path.read_bytes()[: 132 + 12 + meta.FileMetaInformationGroupLength]
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    element = b"\x09\x00\x10\x00OB\0\0" + (1 << 29).to_bytes(4, "little")
    body = [packer.compress(element), *(packer.compress(bytes(1 << 24)) for _ in range(17))]
    path.write_bytes(start + b"".join(body) + packer.flush())
    refused(path, "inflate to more than")


def test_absurd_lengths_cost_no_memory(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"x" * 100)
    with BoundedFile(path) as file:
        assert file.read(1 << 40) == b"x" * 100
        file.seek(90)
        assert file.read(0xFFFFFFFE) == b"x" * 10
        file.seek(200)
        assert file.read(1 << 40) == b""
        file.seek(0)
        assert len(file.read()) == 100


def test_odd_uids_give_no_warnings(make_series, edit_file, refused):
    """Warnings are errors in these tests, and lines on standard error elsewhere."""
    folder = make_series()

    def change(d):
        with pydicom.config.disable_value_validation():
            d.SOPClassUID = "1.2.x"
            del d.Rows

    edit_file(folder / "03.dcm", change)
    with pytest.raises(InputError, match="SOPClassUID"):
        read_volume(folder)
