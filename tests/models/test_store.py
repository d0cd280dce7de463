"""Models are loaded when weights and card belong together, and refused in one line otherwise."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from mrisr import __version__
from mrisr.config import DiffusionSettings, UnshuffleSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.methods import build_restorer
from mrisr.models import store
from mrisr.models.card import ModelCard, TrainingRecord
from mrisr.physics.separable import CONDITION

CARD = ModelCard(
    name="tiny",
    job="inplane",
    version=__version__,
    condition=CONDITION,
    network=UnshuffleSettings(width=8, blocks=1, fold=2),
    diffusion=DiffusionSettings(start=0.5),
    factors=(2.0, 4.0),
    training=TrainingRecord(
        cases=("a", "b"),
        validation_cases=("c",),
        slices=10,
        iterations=1,
        batch=4,
        crop=32,
        seconds=0.1,
        hardware="",
        precision="fp32",
        seed=0,
        software="",
    ),
)


def fresh_weights(card: ModelCard = CARD) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_restorer(card, card.condition).network.state_dict()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with one model, ``tiny``."""
    store.save_model(CARD, fresh_weights(), tmp_path, "tiny")
    return tmp_path


def refused(name_or_path: str | Path, kind: type[Exception]) -> str:
    """The message of the refusal: one line."""
    with pytest.raises(kind) as caught:
        store.load_model(name_or_path)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.json"])
def test_round_trip(saved: Path, name: str) -> None:
    model = store.load_model(saved / name)
    weights = fresh_weights()
    loaded = model.restorer.network.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[k], weights[k]) for k in weights)
    assert model.card.model_copy(update={"sha256": ""}) == CARD
    assert model.path == saved / "tiny.json"
    assert not model.restorer.training
    assert not any(p.requires_grad for p in model.restorer.parameters())
    assert model.card.diffusion.start == 0.5


def test_the_card_states_the_weights_digest(saved: Path) -> None:
    digest = hashlib.sha256((saved / "tiny.safetensors").read_bytes()).hexdigest()
    assert json.loads((saved / "tiny.json").read_text())["sha256"] == digest


def test_a_runs_folder_is_a_model(tmp_path: Path) -> None:
    store.save_model(CARD, fresh_weights(), tmp_path, "model")
    assert store.load_model(tmp_path).card.name == "tiny"


def test_installed_models_come_before_the_bundled(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(saved))
    assert store.available()["tiny"] == saved / "tiny.json"
    assert store.load_model("tiny").card.name == "tiny"


def test_altered_weights_are_refused(saved: Path) -> None:
    path = saved / "tiny.safetensors"
    data = bytearray(path.read_bytes())
    digest = hashlib.sha256(data).hexdigest()
    data[-1] ^= 1
    path.write_bytes(data)
    message = refused(saved / "tiny.json", InputError)
    assert str(path) in message
    assert digest in message
    assert hashlib.sha256(data).hexdigest() in message


def test_truncated_weights_are_refused(saved: Path) -> None:
    path = saved / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "SHA-256" in refused(path, InputError)


def resign(folder: Path) -> None:
    """Make the card state the digest of the weights as they are."""
    digest = hashlib.sha256((folder / "tiny.safetensors").read_bytes()).hexdigest()
    store.write_card(CARD.model_copy(update={"sha256": digest}), folder / "tiny.json")


@pytest.mark.parametrize("keep", [0, 4, 300, -100])
def test_truncated_weights_with_a_matching_card_are_refused(saved: Path, keep: int) -> None:
    path = saved / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    resign(saved)
    assert str(path) in refused(path, InputError)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    other = CARD.model_copy(update={"network": UnshuffleSettings(width=8, blocks=2, fold=2)})
    store.save_model(other, fresh_weights(other), saved, "tiny")
    resign(saved)
    assert "weights that fit the card" in refused(saved / "tiny.json", InputError)


def test_missing_weights_are_refused(saved: Path) -> None:
    (saved / "tiny.safetensors").unlink()
    assert str(saved / "tiny.safetensors") in refused(saved / "tiny.json", InputError)


def test_a_missing_card_is_refused(saved: Path) -> None:
    (saved / "tiny.json").unlink()
    assert str(saved / "tiny.json") in refused(saved / "tiny.safetensors", InputError)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"name": "x"}', "[]"])
def test_a_broken_card_is_refused(saved: Path, text: str) -> None:
    (saved / "tiny.json").write_text(text)
    assert str(saved / "tiny.json") in refused(saved / "tiny.safetensors", InputError)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "model.bin", "model.pkl"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"a": torch.zeros(1)}, path)
    assert "never pickles" in refused(path, UsageError)


def test_an_unknown_name_lists_what_there_is(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(saved))
    message = refused("tinny", UsageError)
    assert "'tinny'" in message
    assert "tiny" in message.split("there are:")[1]


def test_a_card_without_weights_is_not_listed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.FOLDER_VARIABLE, str(saved))
    (saved / "tiny.safetensors").unlink()
    assert "tiny" not in store.available()


# --- models without weights, and models by method -------------------------------------------------


@pytest.mark.parametrize("kind", store.INTERPOLATIONS)
def test_interpolations_are_models(kind: str) -> None:
    model = store.load_model(kind)
    assert (model.card.method, model.card.job, model.card.default_consistency) == (
        "interpolation",
        None,
        0.0,
    )
    assert store.card_of(kind) == model.card
    assert list(model.restorer.parameters()) == []


def test_a_method_names_the_jobs_model() -> None:
    assert store.model_for("inplane") == "partdiff-inplane"
    assert store.model_for("throughplane", "sr3") == "sr3-throughplane"
    assert store.model_for("throughplane", "bspline") == "bspline"
