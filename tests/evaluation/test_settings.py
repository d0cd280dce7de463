"""Evaluation files: what they may say, and those that are shipped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrisr.config import load_settings
from mrisr.core.errors import InputError
from mrisr.core.options import Segmenting
from mrisr.evaluation.case import Scale
from mrisr.evaluation.settings import EvaluationSettings, ZonesSettings
from mrisr.models.card import INTERPOLATIONS, available
from tests.evaluation.conftest import METHODS, SETTINGS, THROUGH
from tests.evaluation.zones import conftest as zones

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


ZONES = zones.SETTINGS
ONE: dict[str, Any] = {"reference": None}
REFERENCE = ONE | THROUGH | {"scoring": "reference"}
JOINED = {"name": "a", "model": "bspline", "planes": ["coronal"]}


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (SETTINGS, {"methods": []}, "methods"),
        (SETTINGS, {"methods": [METHODS[2], METHODS[2]]}, "default: named twice"),
        (SETTINGS, {"reference": "nobody"}, "nobody"),
        (SETTINGS, {"pictures": ["nobody"]}, "nobody: no method has this name"),
        (SETTINGS, {"planes": []}, "planes"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "volumes": "{case}.nii"}]}, "scoring"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "model": "b", "volumes": "c"}]}, "not both"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "update": "other"}]}, "sampler"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "steps": 0}]}, "steps"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "eta": 1, "churn": 1}]}, "old name"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "degradation": "kspace"}]}, "as `kind`"),
        (SETTINGS, ONE | {"methods": [{"name": "a", "stepps": 1}]}, "stepps"),
        (ZONES, {"factors": []}, "factors: name those"),
        (ZONES, {"factors": [1]}, "factors"),
        (ZONES, {"kind": "gaussian"}, "kind: expected one of bicubic, kspace, found gaussian"),
        (ZONES, {"job": "throughplane"}, "kind: expected one of gaussian, box, found bicubic"),
        (
            SETTINGS,
            ONE | {"methods": [{"name": "a", "planes": ["oblique"]}]},
            "joined with coronal",
        ),
        (SETTINGS, ONE | {"methods": [JOINED]}, "a: planes need `scoring: reference`"),
        (SETTINGS, REFERENCE | {"methods": [JOINED]}, "a: planes: the coronal scan is held out"),
        (ZONES, {"methods": [JOINED]}, "a: planes need `measured` alone"),
        (ZONES, {"methods": [{"name": "a", "volumes": "{case}"}]}, "a: volumes made elsewhere"),
        (ZONES, {"segmentor": "zones"}, "segmentor"),
        (ZONES, {"segmenter": {"margin": 0.6}}, "margin: expected 0 to 0.49"),
    ],
)
def test_what_is_refused(write: Callable[..., Path], kind: Any, changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_settings(
            write(kind, **changes), EvaluationSettings if kind is SETTINGS else ZonesSettings
        )


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
    settings = load_settings(CONFIGS / f"evaluate_{job}.yaml", EvaluationSettings)
    assert (settings.job, settings.crop, settings.reference) == (job, 320, "regression")
    assert settings.compared == settings.methods
    steps = {m.steps for m in settings.methods if m.model == f"invsr-{job}"}
    assert steps == {1, 2, 3, 4, 5}
    of_card = load_settings(CONFIGS / f"evaluate_card_{job}.yaml", EvaluationSettings)
    assert of_card.model == f"partdiff-{job}"
    own = [m for m in of_card.methods if m.model is None]
    assert {m.steps for m in own} >= {1, 2, 4, 10, 50}
    assert all(m.eta is not None or m.steps == 1 for m in own)


# --- zones ----------------------------------------------------------------------------------------


def test_scales_come_in_order() -> None:
    settings = ZonesSettings(**ZONES | {"factors": [8, 2], "measured": [2]})
    assert settings.scales == [Scale("degraded", 2), Scale("degraded", 8), Scale("measured", 2)]
    assert [str(s) for s in settings.scales] == ["x2", "x8", "x2 as measured"]


def test_a_segmenter_is_a_name_or_options() -> None:
    for given in ("mine", {"model": "mine"}):
        assert ZonesSettings(**ZONES | {"segmenter": given}).segmenter == Segmenting("mine")
    options = {"nnunet": "folder", "table": {1: "TZ", 2: "PZ"}, "margin": 0.2}
    found = ZonesSettings(**ZONES | {"segmenter": options}).segmenter
    assert (found.nnunet, found.margin) == (Path("folder"), 0.2)


def test_every_model_of_the_zones_card_is_bundled() -> None:
    settings = load_settings(CONFIGS / "evaluate_card_zones.yaml", ZonesSettings)
    assert {m.model for m in settings.compared} <= {*available(), *INTERPOLATIONS}
