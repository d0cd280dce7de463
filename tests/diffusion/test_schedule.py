"""Schedules against the published check values, and the distribution of continuous draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mrisr.diffusion.schedule import (
    INFERENCE,
    TRAINING,
    LinearSchedule,
    draw_noise_scales,
    sampling_levels,
)

PUBLISHED = {1: 0.999995, 25: 0.719884, 50: 0.254757, 75: 0.042462, 100: 0.003176}
SCHEDULES = [
    pytest.param(TRAINING, id="training"),
    pytest.param(INFERENCE, id="inference"),
    pytest.param(LinearSchedule(0.1, 0.1, 1), id="one step"),
    pytest.param(LinearSchedule(1e-4, 0.02, 1000), id="ddpm"),
]


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
def test_time_is_exact_at_the_levels(schedule: LinearSchedule) -> None:
    steps = torch.arange(schedule.steps + 1, dtype=torch.float64)
    torch.testing.assert_close(schedule.time(schedule.noise_scales()), steps, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.scale_at(steps), schedule.noise_scales())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_and_scale_are_inverse(schedule: LinearSchedule) -> None:
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
