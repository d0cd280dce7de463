"""Lesions drawn and put in, the observer, spots and the scanning FRC, held to closed forms."""

from itertools import combinations

import numpy as np
import pytest

from mrisr.core.labels import ZONES
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.evaluation.lesions.observer import false_and_lost, reach_of_correlation
from mrisr.evaluation.lesions.places import (
    SURROUND_MM,
    Lesion,
    contrast_at,
    contrast_map,
    draw_lesions,
    measured_spots,
    surround,
    template,
    with_lesions,
)

PIXEL = (0.5, 0.6)
LESION = Lesion("PZ", 8.0, 0.4, (1, 30, 28))
FLAT = np.full((2, 60, 56), 200.0, np.float32)


@pytest.mark.parametrize("diameter", [3.0, 12.0])
def test_a_disc_has_its_area(diameter: float) -> None:
    disc, ring = template(diameter, PIXEL)
    assert disc.sum() * PIXEL[0] * PIXEL[1] == pytest.approx(np.pi * diameter**2 / 4, rel=0.01)
    assert disc[ring > 0].max() < 0.1


def test_the_observer_measures_the_contrast() -> None:
    images = with_lesions(FLAT, [LESION], PIXEL)
    disc = template(8.0, PIXEL).disc
    seen = LESION.contrast * (disc**2).sum() / disc.sum()  # blurred at its edge
    assert contrast_at(images, LESION, PIXEL) == pytest.approx(seen, abs=2e-3)
    assert contrast_at(FLAT, LESION, PIXEL) == pytest.approx(0, abs=1e-6)
    found = contrast_map(images, FLAT, 8.0, PIXEL)
    assert np.unravel_index(found.argmax(), found.shape) == LESION.centre
    assert found.max() == pytest.approx(seen, abs=2e-3)


def test_a_spot_is_erased() -> None:
    images = with_lesions(FLAT, [LESION], PIXEL)
    zones = np.full(images.shape, ZONES["TZ"], np.uint8)
    (spot,) = measured_spots(images, zones, PIXEL, (3.0, 8.0), 0.1)
    assert (spot.zone, *spot.centre[:1]) == ("TZ", 1)
    filled = with_lesions(images, [spot], PIXEL)
    assert abs(contrast_at(filled, spot, PIXEL)) < 0.35 * contrast_at(images, spot, PIXEL)


def test_places() -> None:
    """Inside the gland, apart, in equal numbers as far as there is room; a seed draws the same again."""
    affine = phantom_affine((110, 100, 3), spacing=(0.5, 0.6, 3.0))
    zones = np.moveaxis(label_volume((110, 100, 3), affine).array, 2, 0).astype(np.uint8)
    passes = draw_lesions(zones, PIXEL, (3.0, 6.0), (0.1, 0.4), 3, seed=0)
    assert passes == draw_lesions(zones, PIXEL, (3.0, 6.0), (0.1, 0.4), 3, seed=0)
    kinds = [(x.zone, x.diameter, x.contrast) for lesions in passes for x in lesions]
    counts = [kinds.count(kind) for kind in set(kinds)]
    assert len(counts) == 8
    assert max(counts) <= 1.5 * min(counts)
    for lesions in passes:
        for x in lesions:
            inside = zones[x.window(PIXEL)][template(x.diameter, PIXEL).disc > 0.5] > 0
            assert zones[x.centre] == ZONES[x.zone]
            assert inside.mean() > 0.95
        for a, b in combinations(lesions, 2):
            step = np.subtract(a.centre, b.centre)[1:] * PIXEL
            gap = np.hypot(*step) - (a.diameter + b.diameter) / 2
            assert a.centre[0] != b.centre[0] or gap >= SURROUND_MM


def test_false_and_lost_spots() -> None:
    images, gland = with_lesions(FLAT, [LESION], PIXEL), np.ones(FLAT.shape, bool)
    shared = {"gland": gland, "diameters": (3.0, 8.0), "threshold": 0.1, "pixel": PIXEL}
    assert false_and_lost(images, FLAT, **shared) == (1, 0)
    assert false_and_lost(FLAT, images, **shared) == (0, 1)
    assert false_and_lost(images, images, **shared) == (0, 0)
    faint = with_lesions(FLAT, [LESION._replace(contrast=0.08)], PIXEL)
    assert false_and_lost(faint, FLAT, **shared) == (0, 0)
    assert surround(FLAT, 8.0, PIXEL) == pytest.approx(FLAT)


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_correlation_reaches_as_far_as_two_images_agree(job: str) -> None:
    """Above 0.4 cycles per mm (along the rows' axis through the plane) the two are independent."""
    rng = np.random.default_rng(0)
    spectra = [np.fft.fft2(rng.standard_normal((3, 96, 96))) for _ in range(2)]
    f = np.abs(np.fft.fftfreq(96, 0.5))
    radius = np.hypot(f[:, None], f) if job == "inplane" else f[:, None] + 0 * f
    images = [np.fft.ifft2(np.where(radius < 0.4, spectra[0], s)).real for s in spectra]
    a, b = (x.astype(np.float32) for x in images)
    gland = np.ones(a.shape, bool)
    reach = reach_of_correlation(a, b, gland, job, (0.5, 0.5))  # type: ignore[arg-type]
    assert reach.mean() == pytest.approx(0.4, abs=0.05)
    assert np.all(reach_of_correlation(a, a, gland, job, (0.5, 0.5)) == 1.0)  # type: ignore[arg-type]
