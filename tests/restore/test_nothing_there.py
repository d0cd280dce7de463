"""Where nothing is, the released models find nothing: flat tissue stays flat, noise stays noise."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mrisr.core.options import Job, Sampling
from mrisr.core.volume import Storage, Volume
from mrisr.evaluation.lesions.observer import false_and_lost
from mrisr.physics.measurement import Measurement, measure_in_plane, measure_through_plane
from mrisr.restore import model_of, restore

JOBS = [("inplane", 2), ("inplane", 4), ("throughplane", 6)]
SHAPE, FLAT = (40, 36, 6), 100.0


def measured(array: NDArray[np.float64], job: Job, factor: int) -> Measurement:
    storage = Storage(np.dtype(np.float32))
    grid = np.diag([0.8, 0.8, 3.0, 1.0])
    volume = Volume(array.astype(np.float32), grid, storage, stacked_along=2)
    measure = measure_in_plane if job == "inplane" else measure_through_plane
    return measure(volume, factor).with_estimated_noise()


def restored(measurement: Measurement, job: Job) -> Volume:
    return restore(measurement, model_of(Sampling(device="cpu"), job)).volume


@pytest.mark.parametrize(("job", "factor"), JOBS)
def test_flat_tissue_stays_flat(job: Job, factor: int) -> None:
    """Beside air and muscle, from 3 mm off their edges on."""
    array = np.full(SHAPE, FLAT)
    array[:8], array[:, -6:] = 0, 20
    result = restored(measured(array, job, factor), job).array
    pixels = factor if job == "inplane" else 1
    inside = result[12 * pixels :, : -10 * pixels]
    assert np.abs(inside - FLAT).max() < 0.03 * FLAT


@pytest.mark.parametrize(("job", "factor"), JOBS)
@pytest.mark.parametrize("signal", [FLAT, 0.0])
def test_noise_stays_noise(job: Job, factor: int, signal: float) -> None:
    """No brighter or darker, no stronger, and no spot of 10% in it."""
    real, imaginary = 5 * np.random.default_rng(0).standard_normal((2, *SHAPE))
    array = np.hypot(signal + real, imaginary)
    result = restored(measured(array, job, factor), job)
    values = result.array.astype(np.float32)
    assert values.mean() == pytest.approx(array.mean(), abs=0.1 * array.std())
    assert values.std() < 1.02 * array.std()
    if signal:
        along = 2 if job == "inplane" else 0
        images = np.moveaxis(values, along, 0)
        a, b = (float(s) for s in np.delete(result.spacing, along))
        truth, everywhere = np.full_like(images, FLAT), np.ones(images.shape, bool)
        found = false_and_lost(images, truth, everywhere, (3.0, 5.0, 8.0), 0.1, (a, b))
        assert found == (0, 0)
