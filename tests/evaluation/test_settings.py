"""Evaluation files: what they may say, and those that are shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrisr.core.errors import InputError
from mrisr.evaluation.settings import EvaluationSettings, load_evaluation
from tests.evaluation.conftest import METHODS, SETTINGS, THROUGH

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": []}, "methods"),
        ({"methods": [METHODS[2], METHODS[2]]}, "default: named twice"),
        ({"reference": "nobody"}, "nobody"),
        ({"pictures": ["nobody"]}, "nobody"),
        ({"planes": []}, "planes"),
        ({"methods": [{"name": "a", "model": "b", "volumes": "c"}], "reference": None}, "not both"),
        ({"methods": [{"name": "a", "volumes": "{case}.nii"}], "reference": None}, "scoring"),
        ({"methods": [{"name": "a", "update": "other"}], "reference": None}, "sampler"),
        ({"methods": [{"name": "a", "steps": 0}], "reference": None}, "steps"),
        ({"methods": [{"name": "a", "eta": 1, "churn": 1}], "reference": None}, "old name"),
        ({"methods": [{"name": "a", "degradation": "kspace"}], "reference": None}, "as `kind`"),
        ({"methods": [{"name": "a", "stepps": 1}], "reference": None}, "stepps"),
    ],
)
def test_what_is_refused(write: Callable[..., Path], changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_evaluation(write(**changes))


def test_the_baseline_is_among_the_methods() -> None:
    settings = EvaluationSettings(**SETTINGS)
    assert settings.baseline_name == "bicubic-sharp"
    assert settings.compared == settings.methods
    other = EvaluationSettings(**SETTINGS | THROUGH)
    assert other.baseline_name == "bspline"
    assert [m.name for m in other.compared] == ["bspline", *(m["name"] for m in METHODS)]
    assert other.compared[0].model == "bspline"


def test_only_what_decides_a_score_is_in_its_key() -> None:
    def deciding(**changes: Any) -> dict[str, Any]:
        return EvaluationSettings(**SETTINGS | changes).deciding()

    same = deciding()
    assert deciding(factors=[3], reference=None, cases=["a"], methods=METHODS[:1]) == same
    assert deciding(baseline="zero", pictures=["zero"], model="other", planes=["coronal"]) == same
    assert deciding(rows=3) == same
    assert deciding(crop=64) != same
    assert deciding(kind="kspace") != same
    assert deciding(thickness=0.9) != same
    assert deciding(scoring="reference", rows=3) != deciding(scoring="reference")


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_the_shipped_comparisons(job: str) -> None:
    settings = load_evaluation(CONFIGS / f"evaluate_{job}.yaml")
    assert (settings.job, settings.crop, settings.reference) == (job, 320, "regression")
    assert settings.compared == settings.methods
    models = {m.model for m in settings.methods}
    methods = ("regression", "srgan", "liif", "sr3", "invsr")
    expected = {f"{name}-{job}" for name in (*methods, "partdiff25", "partdiff50", "partdiff75")}
    expected |= {"invsr-adversarial-inplane"} if job == "inplane" else set()
    assert expected <= models
    steps = {m.steps for m in settings.methods if m.model == f"invsr-{job}"}
    assert steps == {1, 2, 3, 4, 5}
    unaligned = {m.steps: m.start for m in settings.methods if m.start is not None}
    assert unaligned == {25: 0.719884, 50: 0.254757, 75: 0.042462}


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_the_shipped_evaluations_of_the_cards(job: str) -> None:
    settings = load_evaluation(CONFIGS / f"evaluate_card_{job}.yaml")
    assert settings.model == f"partdiff-{job}"
    own = [m for m in settings.methods if m.model is None]
    assert {m.steps for m in own} >= {1, 2, 4, 10, 50}
    assert all(m.eta is not None or m.steps == 1 for m in own)
