"""Claims of code and docs about libraries, against the libraries: a failure means that one is false now."""

import re
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import RLELossless

from mrisr.io.dicom_pixels import check_frames

VOXELS = np.random.default_rng(0).integers(1, 60000, (90, 70, 50)).astype(np.uint16)
CRC = slice(-8, -4)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """A factory of files by SimpleITK with a spacing that is not 1 mm, turned about the last axis."""

    def make(ending: str, *, compress: bool = False) -> Path:
        image = sitk.GetImageFromArray(VOXELS.T)
        image.SetSpacing((0.5, 0.7, 3.0))
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        sitk.WriteImage(image, str(tmp_path / f"v{ending}"), compress)
        return tmp_path / f"v{ending}"

    return make


def edit(path: Path, old: str, new: str) -> sitk.Image:
    """The file with a text replaced, as SimpleITK reads it."""
    data, count = re.subn(old.encode(), new.encode(), path.read_bytes(), count=1)
    assert count == 1
    path.write_bytes(data)
    return sitk.ReadImage(str(path))


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image).T


# --- SimpleITK ------------------------------------------------------------------------------------


def test_simpleitk_returns_memory_that_it_never_filled(save: Callable[..., Path]) -> None:
    image = edit(save(".mha", compress=True), r"CompressedDataSize = \d+", "CompressedDataSize = 1")
    assert image.GetSize() == VOXELS.shape
    assert (voxels(image) != VOXELS).any()


def test_simpleitk_takes_1_mm_for_a_spacing_in_other_letters(save: Callable[..., Path]) -> None:
    assert edit(save(".mha"), "ElementSpacing", "elementSpacing").GetSpacing() == (1, 1, 1)


def test_simpleitk_takes_the_identity_for_a_missing_direction(save: Callable[..., Path]) -> None:
    direction = edit(save(".mha"), "TransformMatrix", "OtherMatrix").GetDirection()
    assert direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_simpleitk_follows_a_header_out_of_its_folder(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    header = save(".mhd")
    (tmp_path / "in").mkdir()
    moved = header.rename(tmp_path / "in" / "v.mhd")
    np.testing.assert_array_equal(voxels(edit(moved, r"v\.raw", "../v.raw")), VOXELS)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_simpleitk_fills_a_truncated_nifti_with_zeros(
    save: Callable[..., Path], ending: str
) -> None:
    path = save(ending)
    path.write_bytes(path.read_bytes()[:400_000])
    found = voxels(sitk.ReadImage(str(path)))
    assert found.shape == VOXELS.shape
    assert (found[..., -1] == 0).all()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_simpleitk_does_not_notice_a_full_disk(tmp_path: Path, ending: str) -> None:
    code = """
import resource, signal, sys, numpy as np, SimpleITK as sitk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(0).integers(0, 60000, (50, 70, 90)).astype(np.uint16)
sitk.WriteImage(sitk.GetImageFromArray(noise), sys.argv[1])
"""
    path = tmp_path / f"v{ending}"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    assert path.stat().st_size <= 100_000


def test_simpleitk_ignores_bytes_after_the_voxels(save: Callable[..., Path]) -> None:
    shorter = voxels(edit(save(".mha"), "DimSize = 90 70 50", "DimSize = 90 70 49"))
    assert shorter.shape == (90, 70, 49)


# --- nibabel and pynrrd ---------------------------------------------------------------------------


def test_nibabel_accepts_bytes_after_a_plain_file(tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path)
    path.write_bytes(path.read_bytes() + b"rubbish")
    np.testing.assert_array_equal(nib.load(path).dataobj, VOXELS)


@pytest.mark.parametrize("cut", [False, True])
def test_nibabel_does_not_reach_the_checksum_of_a_larger_file(tmp_path: Path, cut: bool) -> None:
    larger = np.tile(VOXELS, (2, 2, 4))
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(larger, np.eye(4)), path)
    data = bytearray(path.read_bytes())
    data[CRC] = b"" if cut else b"rubb"
    path.write_bytes(data)
    np.testing.assert_array_equal(nib.load(path).dataobj, larger)


def test_pynrrd_accepts_a_stream_without_its_checksum(save: Callable[..., Path]) -> None:
    path = save(".nrrd", compress=True)
    path.write_bytes(path.read_bytes()[:-8])
    np.testing.assert_array_equal(nrrd.read(str(path))[0], VOXELS)


# --- DICOM ----------------------------------------------------------------------------------------


def by_gdcm(bit: int) -> subprocess.CompletedProcess[str]:
    """A process in which GDCM decodes JPEG lossless with one bit turned over."""
    code = """
import sys, numpy as np
from tests.reliability.jpeg_encoder import by_gdcm, encode
pixels = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
stream, bit = bytearray(encode(pixels, 1, 12)), int(sys.argv[1])
stream[bit // 8] ^= 1 << bit % 8
print((by_gdcm(bytes(stream), 12) == pixels).all())
"""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code, str(bit)], capture_output=True, text=True, cwd=root
    )


def test_gdcm_ends_the_process() -> None:
    assert by_gdcm(16).returncode < 0  # of a marker


def test_gdcm_makes_up_pixels() -> None:
    made = by_gdcm(96)  # of the frame header
    assert (made.returncode, made.stdout.split()) == (0, ["False"])


def example(name: str) -> pydicom.Dataset:
    """One of pydicom's own files."""
    return pydicom.dcmread(str(pydicom.data.get_testdata_file(name, download=False)))


def test_pydicom_cuts_numbers_down_to_bits_stored() -> None:
    d = example("MR_small.dcm")
    whole = d.pixel_array.copy()
    d.BitsStored, d.HighBit, d.PixelRepresentation = 8, 7, 0
    assert whole.max() > 255 >= d.pixel_array.max()


def test_pydicom_leaves_out_numbers_that_rle_holds() -> None:
    d = example("MR_small.dcm")
    whole = d.pixel_array.copy()
    d.compress(RLELossless, generate_instance_uid=False)
    d.Rows = 60
    with pytest.warns(UserWarning, match="non-conformant padding"):
        assert d.pixel_array.shape == (60, whole.shape[1])


def test_libjpeg_carries_on_after_damage(capfd: pytest.CaptureFixture[str]) -> None:
    d = example("SC_rgb_jpeg_dcmtk.dcm")
    whole = d.pixel_array.copy()
    (frame,) = generate_frames(d.PixelData, number_of_frames=1)
    damaged = bytearray(frame)
    middle = len(damaged) * 2 // 3
    damaged[middle : middle + 8] = b"\xff\x00\x5a\xa5" * 2
    d.PixelData = encapsulate([bytes(damaged)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d.pixel_array_options(decoding_plugin="pillow")
        found = d.pixel_array
    assert found.shape == whole.shape
    assert (found != whole).any()


# --- compressed frames ----------------------------------------------------------------------------

END = b"\xff\xd9"
JPEG, JPEG_2000, JPEG_LS = (
    "SC_jpeg_no_color_transform.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
)


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
from tests.claims.test_libraries import *
frame = frame_of(JPEG_LS)
print("ready", flush=True)
for lost in range(8, 2000, 7):
    try:
        framed(JPEG_LS, frame[:-lost]).pixel_array
    except RuntimeError:
        pass
"""


@pytest.mark.slow
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
