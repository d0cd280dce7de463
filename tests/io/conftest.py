"""Small synthetic volumes, DICOM series and the checks that several test files share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import MRImageStorage, generate_uid

from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume
from mrisr.io import read_volume
from tests.reliability.dicom_files import blank, set_pixels


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def affine() -> np.ndarray:
    """An oblique, left-handed grid of 0.5 x 0.7 x 3 mm."""
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
    grid = np.eye(4)
    grid[:3, :3] = rotation * [0.5, 0.7, -3.0]
    grid[:3, 3] = [-101.25, 37.5, -12.125]
    return grid


@pytest.fixture
def make_volume(affine: np.ndarray) -> Callable[..., Volume]:
    def make(dtype: object = np.uint16, slope: float = 1.0, intercept: float = 0.0) -> Volume:
        dtype = np.dtype(dtype)
        rng = np.random.default_rng(3)
        if dtype.kind == "f":
            stored = rng.normal(size=(9, 7, 5)).astype(dtype)
        else:
            info = np.iinfo(dtype)
            stored = rng.integers(info.min, info.max, (9, 7, 5), dtype=dtype, endpoint=True)
        storage = Storage(dtype, slope, intercept)
        return Volume(storage.decode(stored), affine, storage=storage)

    return make


Edit = Callable[[FileDataset, int], None]


@pytest.fixture
def make_series(tmp_path: Path) -> Callable[..., Path]:
    """A factory of classic MR series: slice k at z = 3k, its pixels drawn with seed k."""

    def make(
        name: str = "series", *, slices: int = 5, edit: Edit | None = None, number: int = 1
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        series, study = generate_uid(), generate_uid()
        for k in range(slices):
            dataset = _slice(k, series, study, number)
            if edit is not None:
                edit(dataset, k)
            dataset.save_as(folder / f"{k:02d}.dcm", enforce_file_format=True)
        return folder

    return make


def _slice(k: int, series: str, study: str, number: int) -> FileDataset:
    d = blank(MRImageStorage, generate_uid())
    d.SeriesInstanceUID, d.StudyInstanceUID = series, study
    d.Modality, d.SeriesDescription, d.SeriesNumber = "MR", f"t2_{number}", number
    d.PatientName, d.PatientID = "Secret^Name", "SECRET-ID"
    d.InstanceNumber = k + 1
    d.ImagePositionPatient = [-10.5, -20.25, 3.0 * k]
    d.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    d.PixelSpacing, d.SliceThickness, d.SpacingBetweenSlices = [0.5, 0.7], 2.5, 3.0
    set_pixels(d, pixels(k))
    return d


def pixels(k: int) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 65536, (6, 8)).astype("<u2")


@pytest.fixture
def expected_pixels() -> Callable[[int], np.ndarray]:
    """Array ``(columns, rows, slices)`` of the clean series."""

    def stack(slices: int = 5) -> np.ndarray:
        return np.stack([pixels(k) for k in range(slices)]).transpose(2, 1, 0)

    return stack


@pytest.fixture
def edit_file() -> Callable[[Path, Callable[[Dataset], None]], None]:
    def edit(path: Path, change: Callable[[Dataset], None]) -> None:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)

    return edit


@pytest.fixture
def is_clean(expected_pixels):
    """Assert that a volume is the clean series."""

    def check(volume, slices=5):
        np.testing.assert_array_equal(volume.array, expected_pixels(slices))
        grid = np.diag([-0.7, -0.5, 3.0, 1.0])
        grid[:3, 3] = [10.5, 20.25, 0.0]
        np.testing.assert_allclose(volume.affine, grid, atol=1e-5)

    return check


@pytest.fixture
def refused() -> Callable[..., None]:
    """Assert that a path is refused in one line that names it, says the words, and no patient."""

    def check(path: Path, *words: str, **options: Any) -> None:
        with pytest.raises(InputError) as caught:
            read_volume(path, **options)
        message = str(caught.value)
        assert path.name in message
        assert "\n" not in message
        assert "SECRET" not in message.upper()
        for word in words:
            assert word in message, message

    return check
