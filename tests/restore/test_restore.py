"""The restoring function: what takes effect, and that options without effect are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.data.phantom import phantom
from mrisr.methods import build_restorer
from mrisr.models.store import load_model
from mrisr.physics.measurement import (
    Measurement,
    degraded,
    fitting_size,
    measure_in_plane,
    measure_through_plane,
)
from mrisr.restore import effective, resolved, restore

CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(autouse=True)
def _small(models: Path) -> None:
    """Every test here runs on the small models."""


def measurement() -> Measurement:
    return measure_in_plane(phantom((24, 20, 3), spacing=(0.8, 0.8, 3.0)), 2.0)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ("bicubic", {"seed": 1}),
        ("bicubic", {"eta": 0.0}),
        ("bicubic", {"sampler": "published"}),
        ("bicubic", {"tile": 256}),
        ("bspline", {"start": 0.5}),
        ("partdiff-inplane", {"eta": 1.0, "steps": 1}),
        ("partdiff-inplane", {"start": 0.5}),
        ("bicubic", {"noise": "0.02"}),
    ],
)
def test_an_option_without_effect_is_refused(model: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))}: has no effect on {model}"):
        restore(measurement(), load_model(model), Sampling(**CPU, **wrong))


def test_what_took_effect_is_told() -> None:
    model = load_model("partdiff-inplane")
    told = effective(resolved(Sampling(steps=3), model))
    assert told == {"steps": 3, "sampler": "corrected", "eta": 0.0, "seed": 0}
    exact = restore(measurement(), model, Sampling(**CPU, steps=3))
    assert effective(exact.sampling) == {**told, "consistency": 1.0}
    noisy = restore(replace(measurement(), noise=0.02), model, Sampling(**CPU, steps=3))
    assert effective(noisy.sampling) == told
    assert effective(resolved(Sampling(), load_model("bicubic"))) == {"consistency": 0.0}


def test_seed_and_sampler_have_effect_where_they_are_taken() -> None:
    model = load_model("partdiff-inplane")
    base = restore(measurement(), model, Sampling(**CPU, steps=2)).stack
    for change in ({"seed": 1}, {"sampler": "published"}, {"eta": 1.0}):
        assert not torch.equal(
            restore(measurement(), model, Sampling(**CPU, steps=2, **change)).stack, base
        )


def test_noise_that_is_stated_takes_the_place_of_the_measurements() -> None:
    model = load_model("partdiff-inplane")
    measured = replace(measurement(), noise=0.02)
    stated = restore(measurement(), model, Sampling(**CPU, noise="0.02"))
    assert stated.measurement.noise == 0.02
    assert torch.equal(stated.stack, restore(measured, model, Sampling(**CPU)).stack)
    none = restore(measured, model, Sampling(**CPU, noise="0"))
    assert torch.equal(none.stack, restore(measurement(), model, Sampling(**CPU)).stack)


def test_the_level_of_the_noise_reaches_a_network_that_is_told_of_it() -> None:
    model = load_model("partdiff-throughplane")
    card = model.card.model_copy(update={"noise": True, "condition": model.card.condition + 1})
    listening = replace(model, card=card, restorer=build_restorer(card, card.condition).eval())
    seen: list[float] = []

    def watch(module: Any, inputs: tuple[Tensor, ...]) -> None:
        seen.append(float(inputs[3][0, -1]))

    listening.restorer.network.register_forward_pre_hook(watch)
    measured = measure_through_plane(phantom((24, 20, 3), spacing=(0.8, 0.8, 3.0)), 3.0)
    for level in (0.02, 0.0):
        restore(replace(measured, noise=level), listening, Sampling(**CPU))
    assert seen == [0.5, 0.5, 0, 0]


def test_images_without_a_place_are_restored_too() -> None:
    """Pictures of several channels, or crops of a training: the same function."""
    placed = measurement()
    images = Measurement(placed.y[:, None], placed.operator, placed.bounds)
    model = load_model("partdiff-inplane")
    one, other = (restore(m, model, Sampling(**CPU)).stack for m in (placed, images))
    assert torch.equal(one, other[:, 0])
    with pytest.raises(ValueError, match="no place"):
        _ = images.placed


@pytest.mark.parametrize(("job", "factor"), [("inplane", 2.5), ("throughplane", 3.0)])
def test_a_degraded_volume_measures_its_truth(job: Any, factor: float) -> None:
    """``A`` of the truth is what the coarse volume holds, and its grid leads back to the truth's."""
    n = fitting_size(41, factor)
    shape = (n, n, 6) if job == "inplane" else (20, 18, n)
    truth = phantom(shape, spacing=(0.5, 0.5, 0.5), dtype=np.float32)
    kind = "bicubic" if job == "inplane" else "gaussian"
    coarse = degraded(truth, job, factor, kind)
    measure = measure_in_plane if job == "inplane" else measure_through_plane
    again = measure(coarse, factor, kind)
    assert again.placed.shape == truth.shape
    np.testing.assert_allclose(again.placed.affine, truth.affine, atol=1e-6)
    x = again.placed.stack(truth)
    seen = again.operator(x).clamp(min=again.bounds[0])
    torch.testing.assert_close(seen, again.y, rtol=0, atol=1e-4)


def test_a_truth_that_the_factor_does_not_lead_back_to_is_refused() -> None:
    with pytest.raises(UsageError, match="fitting_size"):
        degraded(phantom((41, 41, 4)), "inplane", 2.5, "bicubic")
