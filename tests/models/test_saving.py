"""A saved model is the old one or the new one at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mrisr.core.errors import InputError
from mrisr.models import store
from mrisr.models.card import ModelCard


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


@pytest.fixture
def saved(tmp_path: Path, tiny_models: Path) -> tuple[Path, ModelCard, dict[str, torch.Tensor]]:
    """A model in a folder, and its card and weights with a change."""
    model = store.load_model(tiny_models / "partdiff-inplane.json")
    weights = model.restorer.network.state_dict()
    store.save_model(model.card, weights, tmp_path, "model")
    new = {k: v + 1 for k, v in weights.items()}
    return tmp_path, model.card.model_copy(update={"description": "new"}), new


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_killed_before_the_card(saved, monkeypatch) -> None:
    folder, card, weights = saved
    old = store.load_model(folder)

    def kill(*arguments: object) -> None:
        raise Killed

    monkeypatch.setattr(store, "write_card", kill)
    with pytest.raises(Killed):
        store.save_model(card, weights, folder, "model")
    assert store.load_model(folder).card == old.card
    monkeypatch.undo()
    store.save_model(card, weights, folder, "model")
    assert store.load_model(folder).card.description == "new"
    assert names(folder) == ["model.json", "model.safetensors"]


def test_killed_after_the_card(saved, monkeypatch) -> None:
    folder, card, weights = saved
    replace = os.replace

    def kill(source: Path, target: Path) -> None:
        if Path(source).name == "model.next.safetensors":
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(Killed):
        store.save_model(card, weights, folder, "model")
    monkeypatch.undo()
    model = store.load_model(folder)
    assert model.card.description == "new"
    found = model.restorer.network.state_dict()
    assert all(torch.equal(found[k], weights[k]) for k in weights)
    store.save_model(card, weights, folder, "model")
    assert names(folder) == ["model.json", "model.safetensors"]


def test_weights_that_wait_do_not_hide_damage(saved) -> None:
    folder, _, _ = saved
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    (folder / "model.next.safetensors").write_bytes(b"anything")
    with pytest.raises(InputError, match=r"model\.safetensors: expected SHA-256"):
        store.load_model(folder)
    digest = json.loads((folder / "model.json").read_text())["sha256"]
    with pytest.raises(InputError, match=digest):
        store.load_model(folder)
