"""Zones that are nowhere near a prostate, or do not look like one, give reasons to look."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrisr.batch.status import Part, Status
from mrisr.core.volume import Storage, Volume
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.zones.plausibility import disagreements, doubts

SHAPE = (120, 120, 24)
SPACING = (1.4, 1.4, 3.0)


def gland() -> Volume:
    return label_volume(SHAPE, phantom_affine(SHAPE, spacing=SPACING), 3)


def changed(labels: Volume, array: np.ndarray) -> Volume:
    return replace(labels, array=array.astype(np.uint8), storage=Storage(np.dtype(np.uint8)))


def test_a_prostate_is_not_in_doubt() -> None:
    for codes in ("LPS", "RAS", "SRA"):
        assert doubts(gland().reoriented(codes)) == ()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda a: np.roll(a, (32, 35), (0, 1)), " mm from the middle of the field"),
        (lambda a: a * 0, "no prostate was found"),
        (lambda a: np.where(np.arange(SHAPE[2]) == SHAPE[2] // 2, a, 0), "where 10 to 250 are"),
        (lambda a: np.choose(a, (0, 0, 2)), "no peripheral zone was found"),
        (lambda a: a[:, ::-1], "in front of the transition zone"),
        (lambda a: np.where(abs(np.arange(SHAPE[2]) - 12) == 2, 0, a), "in pieces apart"),
    ],
)
def test_what_is_no_prostate_is(spoil: Any, told: str) -> None:
    labels = gland()
    reasons = doubts(changed(labels, spoil(labels.array)))
    assert any(told in reason for reason in reasons), reasons


def test_volumes_of_one_study_have_one_gland() -> None:
    labels = gland()
    assert disagreements(labels, labels) == ()
    half = changed(labels, np.where(np.arange(SHAPE[2]) < 12, labels.array, 0))
    assert "ml, in the measured volume" in disagreements(half, labels)[0]
    moved = changed(labels, np.roll(labels.array, 10, 0))
    assert disagreements(moved, labels) == (
        "the gland lies 14 mm from the one in the measured volume",
    )
    assert disagreements(changed(labels, labels.array * 0), labels) == (), "said of it alone"


def test_a_study_to_look_at_is_done_unless_it_failed() -> None:
    look = Part("segment", "source", state="done", check=("far away",))
    fine, bad = Part("score", "source", state="done"), Part("score", "x", state="failed")
    assert Status("", (look, fine)).state == "check"
    assert Status("", (look, fine)).check == ["source: far away"]
    assert Status("", (look, bad)).state == "failed"
    assert Status("", (replace(look, check=()), fine)).state == "done"
