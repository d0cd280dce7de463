"""Scores of degraded slices against the engine, the metrics and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mrisr import metrics
from mrisr.data.cache import read_stacks
from mrisr.evaluation.methods import load_methods
from mrisr.evaluation.score import DegradedCase, degraded_cases, operator_for
from mrisr.evaluation.settings import EvaluationSettings
from tests.evaluation.conftest import SETTINGS, THROUGH


def case_of(data: Path, name: str, **changes: Any) -> DegradedCase:
    settings = EvaluationSettings(**SETTINGS | changes)
    stacks = read_stacks(data, settings.planes)
    return degraded_cases(stacks, settings, [name])[0]


def test_a_score_is_what_the_engine_and_the_metrics_say(models: Path, data: Path) -> None:
    case = case_of(data, "unseen-too")
    assert case.images.shape == (4, 1, 48, 48)
    operator = operator_for(case.settings, 2.0, case.images.shape)
    y, reference = operator(case.images), (case.images + 1) / 2
    for method in load_methods(case.settings, device="cpu"):
        assert method.engine is not None
        found = case.score(method, 2.0)
        x = operator.project(method.engine.restore(y, operator), y, method.consistency)
        scaled = ((x + 1) / 2).clamp(0, 1)
        close = {"abs": 2e-3}
        for name, values in (
            ("psnr", metrics.psnr(scaled, reference)),
            ("ssim", metrics.ssim(scaled, reference)),
            ("spectrum", metrics.spectrum_error(scaled, reference)),
            ("texture", metrics.texture(scaled, reference, (2, 2))),
        ):
            assert found.slices[name] == pytest.approx(values.tolist(), **close)
        mse = float(((operator(x) - y) / 2).square().mean())
        assert found.volume["residual"] == pytest.approx(mse**0.5, rel=1e-3, abs=1e-7)
        assert found.volume["consistency"] == pytest.approx(1e5 * mse, rel=1e-3, abs=1e-6)
        assert found.seconds > 0
        assert found.result.shape == found.reference.shape == (48, 48)
        np.testing.assert_allclose(found.result, scaled[2, 0].numpy(), atol=1e-4)
        assert (found.volume["residual"] < 1e-6) == (method.consistency == 1)


def test_a_network_that_adds_nothing_scores_as_interpolation(models: Path, data: Path) -> None:
    entries = [
        {"name": "b", "model": "bspline"},
        {"name": "b1", "model": "bspline", "consistency": 1},
        {"name": "zero", "model": "zero-throughplane", "consistency": 0},
        {"name": "zero1", "model": "zero-throughplane"},
        {"name": "four", "model": "zero-throughplane", "steps": 4, "churn": 1},
    ]
    changes = {**THROUGH, "methods": entries, "baseline": "b", "reference": None}
    case = case_of(data, "unseen", **changes)
    found = {m.name: case.score(m, 4.0).means() for m in load_methods(case.settings, device="cpu")}
    for name, same in (("zero", "b"), ("zero1", "b1"), ("four", "b1")):
        for figure in ("psnr", "texture", "spectrum"):
            assert found[name][figure] == pytest.approx(found[same][figure], abs=0.01)
    assert found["four"]["evaluations"] == 4


def test_through_plane_degrades_rows_only_and_looks_along_them(models: Path, data: Path) -> None:
    case = case_of(
        data, "unseen", **THROUGH, reference=None, methods=[{"name": "b", "model": "bspline"}]
    )
    operator = operator_for(case.settings, 4.0, case.images.shape)
    assert operator(case.images).shape == (3, 1, 12, 48)
    (method,) = [m for m in load_methods(case.settings, device="cpu") if m.name == "b"]
    found = case.score(method, 4.0)
    x, reference = ((i + 1).div(2).clamp(0, 1) for i in (_restored(method, case), case.images))
    expected = metrics.spectrum_error(x, reference, (-2,))
    assert found.slices["spectrum"] == pytest.approx(expected.tolist(), abs=2e-3)


def _restored(method: Any, case: DegradedCase) -> torch.Tensor:
    operator = operator_for(case.settings, 4.0, case.images.shape)
    return method.engine.restore(operator(case.images), operator)


def test_the_digest_is_that_of_the_slices(data: Path) -> None:
    case, other = case_of(data, "unseen"), case_of(data, "unseen-too")
    assert case.digest == case_of(data, "unseen").digest != other.digest
    changed = DegradedCase(case.name, case.series, case.images.clone(), case.settings)
    changed.images[0, 0, 5, 5] += 1e-3
    assert changed.digest != case.digest
