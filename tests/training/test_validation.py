"""Validation during training: a partial start, figures per factor, pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from mrisr.config import Config, load_config
from mrisr.core.options import Sampling
from mrisr.data import cache, pairs
from mrisr.data.phantom import phantom
from mrisr.data.prepare import make_stack
from mrisr.data.sources import Entry
from mrisr.models.store import load_model
from mrisr.restore import restore
from mrisr.training.figures import Example, write_examples
from mrisr.training.restoration import validate, validation_planes

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def stacks() -> list[cache.Stack]:
    out = []
    for seed, size in ((0, 48), (1, 40)):
        for plane in ("axial", "coronal"):
            volume = phantom((size, 44, 5), plane=plane, spacing=(0.8, 0.8, 3.0), seed=seed)
            out.append(make_stack(Entry(f"p{seed}", plane, Path()), volume))
    return out


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(CONFIGS / "smoke.yaml")


def test_validation_restores_as_the_product_does(
    models: Path, stacks: list[cache.Stack], config: Config
) -> None:
    """The same function, so the result agrees with the measurement and is not negative."""
    _, x_high = next(pairs.validation_images(stacks, ["axial"]))
    drawn = pairs.Drawn(config.data.degradations[0].kind, 2.0)
    measurement = pairs.measurement_of(x_high, config.job, drawn)
    x = restore(measurement, load_model("partdiff-inplane"), Sampling(precision="fp32")).stack
    assert float((measurement.operator(x) - measurement.y).square().mean().sqrt()) < 1e-3
    assert float(x.min()) >= -1


def test_a_network_that_adds_nothing_gains_nothing(
    models: Path, stacks: list[cache.Stack], config: Config
) -> None:
    model = load_model("zero-inplane")
    card = model.card.model_copy(
        update={"default_consistency": 0.0}
    )  # the projection adds something
    figures, examples = validate(replace(model, card=card), stacks, config, slices=3)
    kinds = ("psnr", "gain", "ssim", "ssim_gain")
    assert figures.keys() == {f"x{f}_{kind}" for f in (2, 4) for kind in kinds}
    for name, value in figures.items():
        if name.endswith("gain"):
            assert value == pytest.approx(0, abs=1e-4)
    assert 10 < figures["x4_psnr"] < figures["x2_psnr"] < 60
    assert 0 < figures["x4_ssim"] < figures["x2_ssim"] < 1
    assert [e.reference.shape for e in examples] == [(44, 48)] * 2 + [(44, 40)] * 2
    for e in examples:
        torch.testing.assert_close(e.restored, e.interpolated, rtol=0, atol=1e-5)
        assert float(e.restored.min()) >= 0
        assert float(e.restored.max()) <= 1


def test_through_plane_is_validated_on_coronal_slices(
    models: Path, stacks: list[cache.Stack], config: Config
) -> None:
    through = config.model_copy(update={"job": "throughplane"})
    assert validation_planes(config) == ["axial"]
    assert validation_planes(through) == ["coronal"]
    _, examples = validate(load_model("zero-throughplane"), stacks, through, slices=1)
    assert len(examples) == 4  # two patients, two factors


def test_examples_are_a_row_each(tmp_path: Path) -> None:
    def example(width: int) -> Example:
        return Example(*(torch.full((20, width), v) for v in (0.0, 0.5, 1.0)))

    path = tmp_path / "pictures" / "0000020.png"
    write_examples(path, [example(30), example(24)])
    picture = imread(path)[..., 0]
    assert picture.shape == (40, 90)
    np.testing.assert_allclose(picture[5, [5, 35, 65]], [0, 0.5, 1], atol=0.01)
    write_examples(tmp_path / "none.png", [])
    assert not (tmp_path / "none.png").exists()
