"""Files of the experiment: what they may say, and those that are shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrisr.core.errors import InputError
from mrisr.core.options import Segmenting
from mrisr.evaluation.case import Scale
from mrisr.evaluation.zones.settings import ZonesSettings, load_zones_settings
from mrisr.models.store import INTERPOLATIONS, available
from tests.evaluation.zones.conftest import METHODS, SETTINGS, THROUGH

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SHIPPED = [
    "evaluate_card_zones",
    "evaluate_zones",
    "evaluate_zones_measured",
    "evaluate_zones_throughplane",
]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"factors": []}, "factors: name those"),
        ({"factors": [1]}, "factors"),
        ({"kind": "gaussian"}, "kind: expected one of bicubic, kspace, found gaussian"),
        ({"job": "throughplane"}, "kind: expected one of gaussian, box, found bicubic"),
        ({"pictures": ["nobody"]}, "nobody: no method has this name"),
        ({"methods": [METHODS[0], METHODS[0]]}, "bicubic: named twice"),
        ({"methods": [{"name": "a", "volumes": "{case}.nii"}]}, "a: volumes made elsewhere"),
        ({"segmentor": "zones"}, "segmentor"),
        ({"segmenter": {"margin": 0.6}}, "margin: expected 0 to 0.49"),
    ],
)
def test_what_is_refused(write: Callable[..., Path], changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_zones_settings(write(**changes))


def test_scales_come_in_order() -> None:
    settings = ZonesSettings(**SETTINGS | {"factors": [8, 2], "measured": [2]})
    assert settings.scales == [Scale("degraded", 2), Scale("degraded", 8), Scale("measured", 2)]
    assert [str(s) for s in settings.scales] == ["x2", "x8", "x2 as measured"]


def test_a_segmenter_is_a_name_or_options() -> None:
    for given in ("mine", {"model": "mine"}):
        assert ZonesSettings(**SETTINGS | {"segmenter": given}).segmenter == Segmenting("mine")
    options = {"nnunet": "folder", "table": {1: "TZ", 2: "PZ"}, "margin": 0.2}
    found = ZonesSettings(**SETTINGS | {"segmenter": options}).segmenter
    assert (found.nnunet, found.margin) == (Path("folder"), 0.2)


def test_a_score_depends_on_the_degradation_only() -> None:
    base = ZonesSettings(**THROUGH)
    for change in ({"factors": [3]}, {"cases": ["a"]}, {"segmenter": "b"}, {"pictures": ["zero"]}):
        assert ZonesSettings(**THROUGH | change).deciding() == base.deciding()
    for change in ({"kind": "box"}, {"thickness": 1.2}):
        assert ZonesSettings(**THROUGH | change).deciding() != base.deciding()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_model_of_a_shipped_file_is_bundled(name: str) -> None:
    settings = load_zones_settings(CONFIGS / f"{name}.yaml")
    assert {m.model for m in settings.compared} <= {*available(), *INTERPOLATIONS}
