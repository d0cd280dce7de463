"""The project's own segmenter on volumes: places, orientations, thin slices, with a network whose answer is
known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.zones.model import ZonesModel, load_zones_model
from mrisr.zones.predict import ZonesSegmenter, largest_gland, make_segmenter
from mrisr.zones.segmenter import load_segmenter
from tests.zones.models import random_zones_model

LPS = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 50], [0, 0, 1, -20], [0, 0, 0, 1]])


class ByIntensity(nn.Module):
    """Bright is peripheral, middling transition zone, dark background; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.slices: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.slices.append(x.shape[2])
        levels = torch.tensor([0.1, 0.9, 0.5]).reshape(1, 3, 1, 1, 1)
        return -200 * (x - levels).square()


def segmenter(folder: Path, **card: object) -> tuple[ZonesSegmenter, ByIntensity]:
    model = load_zones_model(random_zones_model(folder))
    network = ByIntensity()
    made = model.card.model_copy(update={"pixel_mm": 1.0, "window": (64, 8), **card})
    return make_segmenter(ZonesModel(made, network, model.path), "cpu"), network  # type: ignore[arg-type]


def study(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> tuple[Volume, Volume]:
    """A gland of two boxes, off the middle, and its labels; 96 x 80 x 36 mm."""
    size = tuple(round(n / s) for n, s in zip((96, 80, 36), spacing, strict=True))
    affine = LPS @ np.diag([*spacing, 1.0])
    mm = [(np.arange(n) + 0.5) * s for n, s in zip(size, spacing, strict=True)]
    x, y, z = np.meshgrid(*mm, indexing="ij")
    gland = (abs(x - 56) < 20) & (abs(y - 34) < 14) & (abs(z - 17) < 12)
    inner = (abs(x - 56) < 12) & (abs(y - 30) < 8) & (abs(z - 17) < 9)
    labels = np.where(inner, 2, np.where(gland, 1, 0)).astype(np.uint8)
    image = np.array([100, 900, 500], np.uint16)[labels]
    image[0, 0, 0] = 0
    return Volume(image, affine), Volume(labels, affine)


def dice(a: Volume, b: Volume, label: int) -> float:
    x, y = a.array == label, b.array == label
    return float(2 * (x & y).sum() / (x.sum() + y.sum()))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI", "SPL", "IAR", "PSR"])
def test_the_order_of_the_array_makes_no_difference(tmp_path: Path, codes: str) -> None:
    segment, _ = segmenter(tmp_path)
    image, labels = (v.reoriented(codes) for v in study())
    found = segment(image)
    assert found.notes == ()
    assert np.array_equal(found.labels.affine, image.affine)
    assert np.array_equal(found.labels.array, labels.array)


@pytest.mark.parametrize("pixel", [0.5, 0.6, 0.993, 1.3])
def test_other_pixels(tmp_path: Path, pixel: float) -> None:
    segment, _ = segmenter(tmp_path)
    volume, labels = study((pixel, pixel, 3.0))
    found = segment(volume).labels
    assert found.shape == volume.shape
    for label in (1, 2):
        assert dice(found, labels, label) > 0.93


def test_thin_slices_are_dealt_out(tmp_path: Path) -> None:
    segment, network = segmenter(tmp_path)
    volume, labels = study((1.0, 1.0, 0.5))
    found = segment(volume).labels
    assert np.array_equal(found.array, labels.array)
    assert max(network.slices) == 8  # windows over 12 slices of 3 mm, none over 72 of 0.5 mm
    # One pass to find the gland, then two looks at each of six stacks, in windows of 8 of 12 slices.
    assert network.slices.count(8) == len(network.slices)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_thin_slices_than_stacks(tmp_path: Path, count: int) -> None:
    segment, _ = segmenter(tmp_path)
    volume, labels = study((1.0, 1.0, 0.5))
    middle = slice(34, 34 + count)
    found = segment(volume.with_array(volume.array[..., middle].copy())).labels
    assert np.array_equal(found.array, labels.array[..., middle])


def test_places_do_not_drift_where_pixels_are_nearly_those_of_the_network(tmp_path: Path) -> None:
    """Half a percent, far from the first pixel: the borders of the labels stay where the image has them."""
    segment, _ = segmenter(tmp_path)
    affine = LPS @ np.diag([1.005, 1.005, 3.0, 1.0])
    labels = np.zeros((300, 300, 8), np.uint8)
    labels[240:280, 236:276], labels[250:270, 246:266] = 1, 2
    image = np.array([100, 900, 500], np.uint16)[labels]
    image[0, 0, 0] = 0
    found = segment(Volume(image, affine)).labels.array
    for axis in (0, 1):
        ends = [np.flatnonzero((v > 0).any((1 - axis, 2)))[[0, -1]] for v in (found, labels)]
        assert abs(ends[0] - ends[1]).max() <= 1
        centres = [
            np.average(np.arange(300), weights=(v > 0).sum((1 - axis, 2))) for v in (found, labels)
        ]
        assert abs(centres[0] - centres[1]) < 0.6  # a border may round up by a pixel


def test_nothing_is_found_in_nothing(tmp_path: Path) -> None:
    segment, _ = segmenter(tmp_path)
    volume, _ = study()
    dark = np.full(volume.shape, 100, np.uint16)
    dark[0, :, :], dark[-1, :3, 0] = 0, 5000  # so bright that the rest is scaled to a fiftieth
    found = segment(volume.with_array(dark))
    assert not found.labels.array.any()
    assert found.notes == ("no prostate was found",)


def test_largest_gland() -> None:
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[1:3, 2:10, 2:10] = 1
    labels[1:3, 4:6, 4:6] = 2
    alone = labels.copy()
    labels[1, 15, 15] = 2
    assert np.array_equal(largest_gland(labels), alone)
    assert np.array_equal(largest_gland(alone), alone)


def test_same_answer_twice_and_from_its_path(tmp_path: Path) -> None:
    card = random_zones_model(tmp_path)
    volume, _ = study((2.0, 2.0, 3.0))
    first, second = (
        load_segmenter(Segmenting(model=str(path), device="cpu"))
        for path in (card, card.with_suffix(".safetensors"))
    )
    assert first.sha256 == second.sha256 != ""
    assert np.array_equal(first(volume).labels.array, second(volume).labels.array)
