"""Models are loaded when weights and card belong together, and refused in one line otherwise.

Damaged and hostile weights are rows of the reliability table.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from mrisr import __version__
from mrisr.config import DiffusionSettings, UnshuffleSettings
from mrisr.core.errors import InputError, UsageError
from mrisr.methods import build_restorer
from mrisr.models import card as cards
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
    training=TrainingRecord.none(),
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


def test_installed_models_are_found_and_listed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cards.FOLDER_VARIABLE, str(saved))
    assert cards.available()["tiny"] == saved / "tiny.json"
    assert store.load_model("tiny").card.name == "tiny"
    message = refused("tinny", UsageError)
    assert "'tinny'" in message
    assert "tiny" in message.split("there are:")[1]
    (saved / "tiny.safetensors").unlink()
    assert "tiny" not in cards.available()


def test_weights_that_a_package_leaves_out(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their cards can be read; the weights are asked for in one line, and found in a copy of the folder."""
    monkeypatch.setattr(cards, "COMPARISON", tmp_path / "comparison")
    shutil.copytree(saved, tmp_path / "comparison")
    assert cards.available()["tiny"].parent.name == "comparison"
    assert cards.left_out() == {}
    (tmp_path / "comparison" / "tiny.safetensors").unlink()
    assert cards.card_path("tiny", weights=False).parent.name == "comparison"
    assert "MRISR_MODELS" in refused("tiny", UsageError)
    monkeypatch.setenv(cards.FOLDER_VARIABLE, str(saved))
    assert store.load_model("tiny").path == saved / "tiny.json"


def test_weights_that_wait_do_not_hide_damage(saved: Path) -> None:
    """Those that a killed ``save_model`` left under the other name count only if they are the card's."""
    weights = saved / "tiny.safetensors"
    waiting = saved / "tiny.next.safetensors"
    waiting.write_bytes(b"anything")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"oops")
    digest = hashlib.sha256(whole).hexdigest()
    assert f"tiny.safetensors: expected SHA-256 {digest}" in refused(
        saved / "tiny.json", InputError
    )
    waiting.write_bytes(whole)
    assert store.load_model(saved / "tiny.json").card.name == "tiny"


@pytest.mark.parametrize(("gone", "asked"), [("safetensors", "json"), ("json", "safetensors")])
def test_half_a_model_is_refused(saved: Path, gone: str, asked: str) -> None:
    path = saved / f"tiny.{gone}"
    path.unlink()
    assert str(path) in refused(saved / f"tiny.{asked}", InputError)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"name": "x"}', "[]"])
def test_a_broken_card_is_refused(saved: Path, text: str) -> None:
    (saved / "tiny.json").write_text(text)
    assert str(saved / "tiny.json") in refused(saved / "tiny.safetensors", InputError)


# --- models without weights, and models by method -------------------------------------------------


@pytest.mark.parametrize("kind", cards.INTERPOLATIONS)
def test_interpolations_are_models(kind: str) -> None:
    model = store.load_model(kind)
    assert (model.card.method, model.card.job, model.card.default_consistency) == (
        "interpolation",
        None,
        0.0,
    )
    assert list(model.restorer.parameters()) == []


def test_a_method_names_the_jobs_model() -> None:
    assert cards.model_for("inplane") == "partdiff-inplane"
    assert cards.model_for("throughplane", "sr3") == "sr3-throughplane"
    assert cards.model_for("throughplane", "bspline") == "bspline"
