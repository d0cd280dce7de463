"""What every method promises, and how they differ."""

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from mrisr.config import MethodSettings
from mrisr.core.errors import UsageError
from mrisr.core.options import Sampling
from mrisr.core.statistics import seeded
from mrisr.data.pairs import Pair
from mrisr.diffusion import start_latent
from mrisr.methods import Restorer
from mrisr.methods.base import Given, directly, given
from mrisr.networks.liif import Liif
from mrisr.physics.separable import in_plane_operator, through_plane_operator
from tests.methods.conftest import SETTINGS, fields

Make = Callable[..., Restorer]
TRAINED = sorted(set(SETTINGS) - {"bspline"})


def loss_of(restorer: Restorer, pair: Pair, seed: int) -> float:
    return float(restorer.objective(pair, seeded("cpu", seed)).loss.detach())


@pytest.mark.parametrize("name", sorted(SETTINGS))
@torch.inference_mode()
def test_a_measurement_becomes_an_image(name: str, make: Make, measurement: Given) -> None:
    restorer = make(name)
    x = restorer.restore(measurement, Sampling(steps=1), fields)
    assert x.shape == measurement.x_low.shape
    assert x.dtype == torch.float32
    assert torch.equal(x, restorer.restore(measurement, Sampling(steps=1), fields))
    assert not torch.equal(x, measurement.x_low)  # B-spline is not the operator's own bicubic


@pytest.mark.parametrize(
    ("name", "steps"), [("aligned", 3), ("plain", 4), ("regression", 1), ("inversion", 5)]
)
@torch.inference_mode()
def test_evaluations_are_counted(name: str, steps: int, make: Make, measurement: Given) -> None:
    restorer, evaluate = make(name), Mock(side_effect=directly)
    restorer.restore(measurement, Sampling(steps=steps), fields, evaluate)
    assert evaluate.call_count == restorer.evaluations(Sampling(steps=steps))


@pytest.mark.parametrize(
    ("name", "sampling", "word"),
    [
        ("regression", Sampling(steps=2), "steps"),
        ("implicit", Sampling(steps=2), "steps"),
        ("bspline", Sampling(steps=2), "steps"),
        ("inversion", Sampling(steps=6), "1 to 5"),
        ("inversion", Sampling(steps=50), "1 to 5"),
        ("plain", Sampling(steps=2, start=0.005), "start"),
    ],
)
def test_steps_that_a_method_cannot_do(
    name: str, sampling: Sampling, word: str, make: Make
) -> None:
    with pytest.raises(UsageError, match=word):
        make(name).evaluations(sampling)


@pytest.mark.parametrize(
    ("name", "steps", "takes"),
    [
        ("aligned", 1, {"steps", "sampler", "seed", "samples", "tile"}),
        ("aligned", 2, {"steps", "sampler", "eta", "seed", "samples", "tile"}),
        ("plain", 2, {"steps", "eta", "start", "seed", "samples", "tile"}),
        ("inversion", 2, {"steps", "seed", "samples", "tile"}),
        ("regression", 1, {"tile"}),
        ("implicit", 1, {"tile"}),
        ("bspline", 1, set()),
    ],
)
def test_a_method_states_the_options_it_takes(
    name: str, steps: int, takes: set[str], make: Make
) -> None:
    assert make(name).takes(Sampling(steps=steps)) == takes


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_weight_has_a_gradient_and_the_loss_falls(
    name: str, make: Make, pair: Pair
) -> None:
    restorer = make(name)
    trained = [p for p in restorer.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 3e-3)
    losses = []
    for _ in range(25):
        loss, _ = restorer.objective(pair, seeded("cpu", 0))
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_an_objective_repeats_from_its_generator(name: str, make: Make, pair: Pair) -> None:
    restorer = make(name)
    first, again, other = (loss_of(restorer, pair, seed) for seed in (0, 0, 1))
    assert first == again
    assert (first == other) == (name == "regression")  # the only one without chance


@pytest.mark.parametrize("wrong", [{"method": "implicit"}, {"method": "inversion"}])
def test_a_method_needs_its_network_and_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs a network|belong to"):
        MethodSettings.model_validate(wrong)


# --- diffusion ------------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_plain_path_starts_where_it_is_told(make: Make, measurement: Given) -> None:
    """With a start SR3's denoiser is partial diffusion: from the noised low-resolution image."""
    restorer = make("plain")
    spy = Mock(side_effect=directly)
    restorer.restore(measurement, Sampling(steps=2, start=0.25), fields, spy)
    g = torch.tensor(0.25, dtype=torch.float64)
    first = spy.call_args_list[0].args[1]
    torch.testing.assert_close(
        first.float(), start_latent(measurement.x_low, g, fields(0)).float(), rtol=0, atol=1e-5
    )
    restorer.restore(measurement, Sampling(steps=2), fields, spy)
    assert torch.equal(spy.call_args_list[2].args[1], fields(0).expand_as(measurement.x_low))


def test_a_found_schedule_serves_its_number_of_steps(make: Make) -> None:
    levels = (0.25, 0.9, 1.0)
    restorer: Any = make("aligned", diffusion={"start": 0.25, "schedules": {2: levels}})
    assert restorer.levels(Sampling(steps=2)).tolist() == list(levels)
    assert len(restorer.levels(Sampling(steps=3))) == 4


@pytest.mark.parametrize("levels", [(0.25, 1.0), (0.25, 0.2, 1.0), (0.25, 0.5, 0.9)])
def test_a_schedule_that_cannot_be_is_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising levels"):
        MethodSettings.model_validate({"diffusion": {"schedules": {2: levels}}})


# --- LIIF -----------------------------------------------------------------------------------------


def transparent() -> Liif:
    """A LIIF whose answer is the measured pixel: with its ensemble it must be linear interpolation."""
    network = Liif(width=8, blocks=1, hidden=8, layers=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head.weight[0, 0, 1, 1] = 0.5  # passes the head and, by the long skip, once more
        network.unfold.weight[0, 0, 1, 1] = 1.0
        network.mlp[0].weight[0, 0] = 1.0
        network.tail.weight[0, 0] = 1.0
    return network


@pytest.mark.parametrize(
    "operator",
    [
        in_plane_operator((20, 24), (40, 48), 2.0),
        in_plane_operator((16, 20), (42, 52), 2.6),
        through_plane_operator(8, 48, 6.0),
    ],
)
@torch.inference_mode()
def test_liif_lies_where_the_pixels_lie(operator: Any, make: Make) -> None:
    restorer = make("implicit")
    restorer.network.load_state_dict(transparent().state_dict())
    low = [operator.axes[d].n_low if d in operator.axes else 44 for d in (-2, -1)]
    y = torch.rand(1, 1, *low, generator=seeded("cpu", 3))
    found = restorer.restore(given(y, operator), Sampling(), fields) - operator.interpolate(y)
    wanted = operator.interpolating_by("linear").interpolate(y)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


# --- inversion ------------------------------------------------------------------------------------


@torch.inference_mode()
def test_a_fresh_predictor_is_plain_noise(make: Make, measurement: Given) -> None:
    """Mean 0 and variance 1: one step is the frozen denoiser from the noised low-resolution image."""
    restorer: Any = make("inversion")
    torch.nn.init.zeros_(restorer.predictor.tail.weight)
    torch.nn.init.zeros_(restorer.predictor.tail.bias)
    found = restorer.restore(measurement, Sampling(steps=1), fields)
    g = torch.tensor(restorer.levels(Sampling(steps=1))[0], dtype=torch.float64)
    latent = start_latent(measurement.x_low, g, fields(0)).float()
    condition = measurement.condition.expand(2, -1)
    wanted = restorer.denoiser(latent, measurement.x_low, g.float().expand(2), condition)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_one_to_five_steps_rise_from_allowed_starts(make: Make) -> None:
    restorer: Any = make("inversion")
    for steps in range(1, 6):
        levels = restorer.levels(Sampling(steps=steps))
        assert len(levels) == steps
        assert levels == sorted(levels)
        assert levels[0] ** 2 / (1 - levels[0] ** 2) >= 1.44


def test_only_later_levels_are_held_to_gaussian_noise(make: Make, pair: Pair) -> None:
    def loss(at_start: float, kl: float) -> float:
        inversion = SETTINGS["inversion"]["inversion"] | {"at_start": at_start, "kl": kl}
        restorer = make("inversion", inversion=inversion)
        return loss_of(restorer, pair, 0)

    assert loss(1.0, 0.0) == loss(1.0, 5.0)
    assert loss(0.0, 5.0) > loss(0.0, 0.0)


def test_the_denoiser_stays_frozen(make: Make, pair: Pair) -> None:
    restorer: Any = make("inversion")
    frozen = list(restorer.denoiser.network.parameters())
    assert not any(p.requires_grad for p in frozen)
    restorer.objective(pair, seeded("cpu", 0)).loss.backward()
    assert all(p.grad is None for p in frozen)


def test_levels_below_the_signal_to_noise_bound_are_refused() -> None:
    content = SETTINGS["inversion"]
    inversion = content["inversion"] | {"levels": (0.7, 0.8, 0.9, 0.95, 0.98)}
    with pytest.raises(ValueError, match=r"0\.768"):
        MethodSettings.model_validate(content | {"inversion": inversion})
