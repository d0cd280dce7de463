"""Parameterisations agree where the network is exact, and the loss is that of the network's target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mrisr.diffusion.denoiser import Denoiser, Prediction, make_path, training_noise_scales
from mrisr.diffusion.path import AlignedPath, PlainPath, diffuse
from mrisr.diffusion.schedule import INFERENCE, TRAINING
from tests.diffusion.images import images

START = 0.25
CONDITION = torch.zeros(3, 7)


class Exact(nn.Module):
    """Puts out what it was told, whatever it is shown: a network without error."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
        return self.answer


@pytest.mark.parametrize("kind", ["plain", "aligned"])
@pytest.mark.parametrize("prediction", ["high", "noise"])
def test_both_parameterisations_give_x_high(kind: str, prediction: Prediction) -> None:
    high, low, noise = images(3)
    path = make_path("plain" if kind == "plain" else "aligned", START, INFERENCE)
    g = torch.tensor([0.3, 0.6, 0.95], dtype=torch.float64)
    x_t = diffuse(path, high, low, g[:, None, None, None], noise)
    denoiser = Denoiser(Exact(high if prediction == "high" else noise), path, prediction)
    torch.testing.assert_close(denoiser(x_t, low, g, CONDITION), high, rtol=0, atol=1e-9)


def test_noise_prediction_at_the_start() -> None:
    """On the aligned path the mean is x_low there, and the noise says nothing about x_high; on the plain path
    the latent is divided by the signal level."""
    high, low, noise = images(3)
    g = torch.full((3,), START, dtype=torch.float64)
    for path, answer in ((AlignedPath(START), noise), (PlainPath(START), noise * 0)):
        x_t = diffuse(path, high, low, g[:, None, None, None], noise)
        estimate = Denoiser(Exact(answer), path, "noise")(x_t, low, g, CONDITION)
        wanted = low if isinstance(path, AlignedPath) else x_t / START
        torch.testing.assert_close(estimate, wanted)


@pytest.mark.parametrize("prediction", ["high", "noise"])
@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.5), ("l2", 0.25)])
def test_loss_is_of_the_networks_own_target(
    prediction: Prediction, kind: str, expected: float
) -> None:
    high, low, noise = images(3)
    answer = (high if prediction == "high" else noise) + 0.5
    denoiser = Denoiser(Exact(answer), AlignedPath(START), prediction)
    g = torch.tensor([0.25, 0.6, 1.0], dtype=torch.float64)
    loss = denoiser.loss(high, low, g, noise, CONDITION, "l1" if kind == "l1" else "l2")
    assert float(loss) == pytest.approx(expected)


def test_loss_shows_the_diffused_latent() -> None:
    high, low, noise = images(3)
    path = AlignedPath(START)
    g = torch.tensor([0.25, 0.6, 1.0], dtype=torch.float64)
    seen: list[Tensor] = []

    class Watching(Exact):
        def forward(self, x_t: Tensor, x_low: Tensor, g: Tensor, condition: Tensor) -> Tensor:
            seen.extend([x_t, x_low, g, condition])
            return super().forward(x_t, x_low, g, condition)

    Denoiser(Watching(high), path).loss(high, low, g, noise, CONDITION)
    torch.testing.assert_close(seen[0], diffuse(path, high, low, g[:, None, None, None], noise))
    assert torch.equal(seen[1], low)
    assert torch.equal(seen[2], g)
    assert seen[3] is CONDITION


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_batch_is_at_the_start(share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    g = training_noise_scales(TRAINING, START, 20000, share, generator)
    assert float((g == START).float().mean()) == pytest.approx(share, abs=0.015)
    assert float(g.min()) >= START
