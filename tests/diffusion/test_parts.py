"""Schedules, paths, samplers and parameterisations by their definitions; draws with fixed seeds."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mrisr.diffusion import (
    INFERENCE,
    SAMPLERS,
    TRAINING,
    AlignedPath,
    Denoiser,
    LinearSchedule,
    Path,
    PlainPath,
    Prediction,
    diffuse,
    draw_noise_scales,
    implied_high,
    mean,
    sampling_levels,
    start_latent,
    step,
)

PUBLISHED = {1: 0.999995, 25: 0.719884, 50: 0.254757, 75: 0.042462, 100: 0.003176}
SCHEDULES = [
    pytest.param(TRAINING, id="training"),
    pytest.param(INFERENCE, id="inference"),
    pytest.param(LinearSchedule(0.1, 0.1, 1), id="one step"),
    pytest.param(LinearSchedule(1e-4, 0.02, 1000), id="ddpm"),
]
G = [float(g) for g in INFERENCE.noise_scales()]
PATHS: list[Path] = [PlainPath(G[50]), AlignedPath(G[50]), AlignedPath(G[25])]
START = 0.25
CONDITION = torch.zeros(3, 7)


def images(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x_high, x_low and noise, float64 ``(batch, 1, 4, 5)``."""
    generator = torch.Generator().manual_seed(0)
    high, low, noise = torch.randn(3, batch, 1, 4, 5, generator=generator, dtype=torch.float64)
    return high, low, noise


def scale(g: float) -> Tensor:
    """A signal level."""
    return torch.tensor(g, dtype=torch.float64)


@pytest.mark.parametrize("t", PUBLISHED)
def test_inference_schedule_has_the_published_values(t: int) -> None:
    assert float(INFERENCE.noise_scales()[t]) == pytest.approx(PUBLISHED[t], abs=6e-7)


def test_quarter_noise_scale_in_the_training_schedule() -> None:
    g = TRAINING.noise_scales()
    assert g[1045] >= 0.25 > g[1046]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_scales_by_their_definition(schedule: LinearSchedule) -> None:
    g = schedule.noise_scales()
    beta = np.linspace(schedule.beta_start, schedule.beta_end, schedule.steps)
    expected = np.sqrt(np.cumprod(1 - beta))
    assert g.dtype == torch.float64
    assert g[0] == 1
    np.testing.assert_allclose(g[1:], expected, rtol=1e-11)
    assert bool((g.diff() < 0).all())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_and_scale_are_inverse_and_exact_at_the_levels(schedule: LinearSchedule) -> None:
    steps = torch.arange(schedule.steps + 1, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.noise_scales()), steps, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.scale_at(steps), schedule.noise_scales())
    t = torch.linspace(0, schedule.steps, 997, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.scale_at(t)), t, rtol=0, atol=1e-6)
    assert bool((schedule.scale_at(t).diff() < 0).all())


def test_time_outside_the_schedule_and_in_any_shape() -> None:
    g = torch.tensor([[1.0, 1.5], [1e-9, 0.254757]])
    t = INFERENCE.time(g)
    assert t.tolist() == [[0, 0], [100, pytest.approx(50, abs=1e-4)]]
    assert INFERENCE.scale_at(torch.tensor([-3.0, 101.0])).tolist() == [
        1.0,
        pytest.approx(PUBLISHED[100], abs=1e-6),
    ]


@pytest.mark.parametrize("last", [1, 25, 50, 75, 100])
def test_as_many_steps_as_levels_gives_the_table(last: int) -> None:
    table = INFERENCE.noise_scales()
    levels = sampling_levels(INFERENCE, float(table[last]), last)
    torch.testing.assert_close(levels, table[: last + 1].flip(0), rtol=1e-6, atol=0)
    assert levels[-1] == 1


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
def test_levels_increase_to_one_evenly_in_time(steps: int) -> None:
    levels = sampling_levels(INFERENCE, 0.25, steps)
    assert len(levels) == steps + 1
    assert levels[0] == pytest.approx(0.25)
    assert levels[-1] == 1
    gaps = INFERENCE.time(levels).diff()
    torch.testing.assert_close(gaps, gaps[:1].expand(steps), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("start", "steps"), [(0.25, 0), (0.0, 1), (1.0, 1)])
def test_impossible_levels_are_refused(start: float, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps={steps}, start={start}"):
        sampling_levels(INFERENCE, start, steps)


@pytest.mark.parametrize("start", [0.003176, 0.25, 0.719884, 0.999999])
def test_draws_stay_within_bounds(start: float) -> None:
    g = draw_noise_scales(TRAINING, start, 20000, torch.Generator().manual_seed(0))
    assert g.dtype == torch.float32
    assert float(g.min()) >= np.float32(start)
    assert float(g.max()) <= 1


@pytest.mark.parametrize("start", [0.25, 0.72])
def test_draws_are_uniform_in_time_and_within_each_level(start: float) -> None:
    """t uniform over the levels down to ``start``, then g uniform between two levels: so the
    distribution function of g is piecewise linear through the levels, in equal steps."""
    table = TRAINING.noise_scales().numpy()
    levels = table[table >= start][::-1]
    g = draw_noise_scales(TRAINING, start, 20000, torch.Generator().manual_seed(1)).numpy()
    shares = np.linspace(0, 1, len(levels))
    assert stats.kstest(g, lambda x: np.interp(x, levels, shares)).pvalue > 0.01


@pytest.mark.parametrize("last", [25, 50, 75, 100])
def test_aligned_share_falls_linearly_in_time(last: int) -> None:
    """``lambda_t = (K - t) / K`` at the published levels."""
    path = AlignedPath(G[last])
    for t in range(last + 1):
        assert float(path.mixing(scale(G[t]))) == pytest.approx((last - t) / last, abs=1e-7)


def test_aligned_path_runs_from_low_to_high() -> None:
    high, low, _ = images()
    path = AlignedPath(0.25)
    torch.testing.assert_close(mean(path, high, low, scale(0.25)), low, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean(path, high, low, scale(1.0)), high, rtol=0, atol=1e-12)
    torch.testing.assert_close(mean(path, high, low, scale(0.1)), low, rtol=0, atol=0)


def test_the_clock_is_the_paths_own() -> None:
    """Another sampling or training schedule does not change the path; another clock does."""
    g = scale(0.6)
    share = float(AlignedPath(0.25).mixing(g))
    assert share == pytest.approx(1 - float(INFERENCE.time(g)) / float(INFERENCE.time(scale(0.25))))
    assert float(AlignedPath(0.25, TRAINING).mixing(g)) != pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("g", [0.8, 0.9, 0.999])
def test_implied_high_inverts_the_mean(path: Path, g: float) -> None:
    high, low, _ = images()
    back = implied_high(path, mean(path, high, low, scale(g)), low, scale(g))
    torch.testing.assert_close(back, high, rtol=0, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_diffuse_by_its_definition(path: Path) -> None:
    high, low, noise = images()
    g = torch.tensor([0.75, 1.0], dtype=torch.float64)[:, None, None, None]
    x = diffuse(path, high, low, g, noise)
    share = path.mixing(g)
    expected = g * (share * high + (1 - share) * low) + (1 - g**2).sqrt() * noise
    torch.testing.assert_close(x, expected)
    assert torch.equal(x[1], high[1])
    assert path.mixing(g.float()).dtype == torch.float32


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_samplers_agree_on_the_plain_path(eta: float) -> None:
    high, low, noise = images()
    levels = torch.tensor([0.25, 0.4, 0.7, 1.0], dtype=torch.float64)
    one, other = (
        SAMPLERS[name](
            lambda x, g: high + 0.1 * x, low, low, levels, PlainPath(0.25), lambda i: noise, eta
        )
        for name in ("corrected", "published")
    )
    assert torch.equal(one, other)


def test_deterministic_step_follows_the_path() -> None:
    """With the true x_HR a step stays on the path, with the same noise."""
    high, low, noise = images()
    path = AlignedPath(0.25)
    g, s = scale(0.4), scale(0.7)

    def latent(level: Tensor) -> Tensor:
        lam = path.mixing(level)
        return level * (lam * high + (1 - lam) * low) + (1 - level**2).sqrt() * noise

    torch.testing.assert_close(
        step(latent(g), mean(path, high, low, g), mean(path, high, low, s), g, s), latent(s)
    )


def test_ancestral_step_is_the_posterior() -> None:
    """Equations 6 and 7 on the plain path: mean and variance of q(x_s | x_t, x_0)."""
    high, x_t, noise = images()
    g, s = 0.4, 0.7
    alpha = (g / s) ** 2
    centre = s * (1 - alpha) / (1 - g**2) * high + math.sqrt(alpha) * (1 - s**2) / (1 - g**2) * x_t
    sd = math.sqrt((1 - alpha) * (1 - s**2) / (1 - g**2))
    found = step(x_t, high, high, scale(g), scale(s), eta=1, noise=noise)
    torch.testing.assert_close(found, centre + sd * noise)
    with pytest.raises(ValueError, match="needs noise"):
        step(x_t, high, high, scale(g), scale(s), eta=1.0)


def test_last_step_returns_the_estimate() -> None:
    high, low, noise = images()
    levels = torch.tensor([0.5, 1.0], dtype=torch.float64)
    for path in (PlainPath(0.25), AlignedPath(0.25)):
        run = SAMPLERS["corrected"]
        assert torch.equal(run(lambda x, g: high, noise, low, levels, path, lambda i: noise), high)


def test_noise_is_asked_for_by_step_and_a_run_replays() -> None:
    low = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def shared(index: int) -> Tensor:
        asked.append(index)
        return torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(index))

    path = AlignedPath(0.25)
    levels = sampling_levels(INFERENCE, 0.25, 4)

    def run(eta: float) -> Tensor:
        start = start_latent(low, levels[0], shared(0))
        return SAMPLERS["corrected"](lambda x, g: low + x, start, low, levels, path, shared, eta)

    result = run(0.0)
    assert asked == [0]
    assert torch.equal(result, run(0.0))
    asked.clear()
    assert not torch.equal(result, run(1.0))
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("steps", [500, pytest.param(1000, marks=pytest.mark.slow)])
def test_levels_close_to_one_do_not_ruin_a_long_run(steps: int) -> None:
    path = AlignedPath(0.25)
    x_low = torch.full((1, 1, 4, 4), 0.3)
    levels = sampling_levels(INFERENCE, path.start, steps)
    start = start_latent(x_low, levels[0], torch.ones(1))
    out = SAMPLERS["corrected"](
        lambda x, g: torch.full_like(x, 0.8), start, x_low, levels, path, lambda i: torch.ones(1)
    )
    torch.testing.assert_close(out, torch.full_like(out, 0.8))


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
    path = PlainPath(START) if kind == "plain" else AlignedPath(START)
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
    g = draw_noise_scales(TRAINING, START, 20000, generator, share)
    assert float((g == START).float().mean()) == pytest.approx(share, abs=0.015)
    assert float(g.min()) >= START
