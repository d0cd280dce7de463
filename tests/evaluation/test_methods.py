"""Methods made ready: models found or named as missing, and kept from the patients they were trained on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mrisr.core.errors import UsageError
from mrisr.evaluation.methods import cards_of, held_out_cases, load_methods
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.models.ancestry import training_cases
from mrisr.models.store import load_model
from tests.evaluation.conftest import METHODS, SETTINGS, THROUGH


def settings(*methods: dict[str, Any], **changes: Any) -> EvaluationSettings:
    return EvaluationSettings(
        **SETTINGS | {"reference": None} | changes | {"methods": methods or METHODS}
    )


def test_defaults_are_the_models(models: Path) -> None:
    found = {m.name: m for m in load_methods(settings(), device="cpu")}
    assert [m.evaluations for m in found.values()] == [0, 0, 1, 3, 1]
    assert [m.entry.consistency for m in found.values()] == [0, 1, None, None, None]
    assert [m.is_default for m in found.values()] == [True, False, True, False, True]
    three = found["three"].entry
    assert (three.steps, three.eta, three.sampler, three.seed) == (3, 1, "corrected", 0)
    assert found["bicubic-sharp"].entry.seed is None  # has no effect on it
    assert found["default"].model is found["three"].model
    assert found["default"].model is not None
    assert found["default"].model.card.name == "partdiff-inplane"
    (other, *_) = load_methods(settings({"name": "a"}), model="zero-inplane", device="cpu")[1:]
    assert other.model is not None
    assert other.model.card.name == "zero-inplane"


def test_all_missing_models_are_named_in_one_line(models: Path) -> None:
    asked = settings(METHODS[0], {"name": "x", "model": "none"}, {"name": "y", "model": "a/b"})
    with pytest.raises(UsageError, match=r"x \(no model 'none'\); y \(no model 'a/b'\)") as error:
        load_methods(asked, device="cpu")
    assert "\n" not in str(error.value)
    lines: list[str] = []
    found = load_methods(asked, device="cpu", skip_missing=True, report=lines.append)
    assert [m.name for m in found] == ["bicubic-sharp"]
    assert [line.split(" (")[0] for line in lines] == ["left out: x", "left out: y"]


def test_what_else_is_refused(models: Path) -> None:
    with pytest.raises(UsageError, match="a: expected a model for inplane, found throughplane"):
        load_methods(settings({"name": "a", "model": "zero-throughplane"}), device="cpu")
    with pytest.raises(UsageError, match="a: name a model"):
        load_methods(settings({"name": "a"}, model=None), device="cpu")
    with pytest.raises(UsageError, match="a: eta: has no effect on partdiff-inplane"):
        load_methods(settings({"name": "a", "steps": 1, "churn": 0}), device="cpu")


def test_what_decides_a_result(models: Path) -> None:
    def deciding(**entry: Any) -> dict[str, Any]:
        asked = settings({"name": "a", **entry}, baseline="a")
        return load_methods(asked, device="cpu")[0].deciding("patient")

    base = deciding()
    assert deciding(noise="auto", steps=1) == base  # as the model does by itself
    assert base not in (deciding(consistency=1), deciding(noise="0.02"))
    assert deciding(model="zero-inplane") != base
    many = deciding(steps=2)
    for change in ({}, {"eta": 1}, {"sampler": "published"}, {"seed": 1}):
        assert deciding(steps=2, **change) != base
        assert (deciding(steps=2, **change) == many) == (not change)
    by_old_names = deciding(steps=2, churn=1, update="published")
    assert by_old_names == deciding(steps=2, eta=1, sampler="published")
    assert deciding(model="bicubic") != deciding(model="lanczos")


def test_volumes_are_told_apart_by_their_bytes(models: Path, tmp_path: Path) -> None:
    entry = {"name": "other", "volumes": str(tmp_path / "{case}.nii")}
    asked = settings(entry, **THROUGH, scoring="reference")
    method = load_methods(asked, device="cpu")[-1]
    assert (method.model, method.evaluations) == (None, 0)
    assert method.volume_path("p") == tmp_path / "p.nii"
    (tmp_path / "p.nii").write_bytes(b"a")
    first = method.deciding("p")
    (tmp_path / "p.nii").write_bytes(b"b")
    assert method.deciding("p") != first


# --- patients -------------------------------------------------------------------------------------


def change_card(folder: Path, name: str, **training: Any) -> None:
    path = folder / f"{name}.json"
    card = json.loads(path.read_text())
    card["training"] |= training
    path.write_text(json.dumps(card))


def test_the_patients_that_all_models_held_out(own: Path) -> None:
    def names(**changes: Any) -> list[str]:
        asked = settings(**changes)
        return held_out_cases(asked, load_methods(asked, device="cpu"))

    assert names() == ["unseen", "unseen-too"]
    assert names(cases=["anyone"]) == ["anyone"]
    change_card(own, "zero-inplane", validation_cases=["unseen-too", "unseen-three"])
    assert names() == ["unseen-too"]
    change_card(own, "zero-inplane", validation_cases=["unseen-three"])
    with pytest.raises(UsageError, match="held out by all"):
        names()
    interpolation = settings(METHODS[0])
    with pytest.raises(UsageError, match="name patients"):
        held_out_cases(interpolation, load_methods(interpolation, device="cpu"))


def test_the_training_of_earlier_models_counts_too(own: Path) -> None:
    """partdiff-inplane began as zero-inplane, which began as a model in a neighbouring run's folder."""
    run = own.parent / "runs" / "first"
    run.mkdir(parents=True)
    for suffix in ("json", "safetensors"):
        shutil.copy(own / f"partdiff-inplane.{suffix}", run / f"model.{suffix}")
    change_card(own, "partdiff-inplane", initialized_from="zero-inplane", cases=["x"])
    change_card(own, "zero-inplane", initialized_from=str(run), cases=["y"])
    card = json.loads((run / "model.json").read_text())
    card["training"]["cases"], card["name"] = ["unseen"], "first"
    (run / "model.json").write_text(json.dumps(card))
    asked = settings({"name": "a"})
    words = "partdiff-inplane began as first, which was trained on unseen"
    with pytest.raises(UsageError, match=words):
        held_out_cases(asked, load_methods(asked, device="cpu"))
    found = training_cases(cards_of([load_model("partdiff-inplane")]))
    assert list(found.values()) == [("x",), ("y",), ("unseen",)]


def test_an_earlier_model_that_is_not_here_is_noted(own: Path) -> None:
    change_card(own, "partdiff-inplane", initialized_from="gone")
    asked = settings({"name": "a"})
    lines: list[str] = []
    assert held_out_cases(asked, load_methods(asked, device="cpu"), lines.append)
    assert lines == ["note: partdiff-inplane began as gone, which is not here to be checked"]
