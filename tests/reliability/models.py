"""Small models with which a run takes a moment, made when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Changes a model's weights, by name, in place.
Edit = Callable[[dict[str, Any]], None]


def build_models(folder: Path) -> None:
    """Models under the released names, and ``zero-inplane`` and ``zero-throughplane``, which answer
    with the interpolated image."""
    for job in ("inplane", "throughplane"):
        save_model(folder, f"partdiff-{job}", job, _lively)
        save_model(folder, f"zero-{job}", job)


def save_model(folder: Path, name: str, job: str = "inplane", edit: Edit | None = None) -> None:
    """A model that answers with the interpolated image, unless ``edit`` changes its weights."""
    import torch

    from mrisr import __version__
    from mrisr.config import UnshuffleSettings
    from mrisr.methods import build_restorer
    from mrisr.models import store
    from mrisr.models.card import ModelCard, TrainingRecord
    from mrisr.physics.separable import CONDITION

    record = TrainingRecord(
        cases=("seen",),
        validation_cases=("unseen", "unseen-too"),
        slices=10,
        iterations=1,
        batch=4,
        crop=32,
        seconds=0.1,
        hardware="none",
        precision="fp32",
        seed=0,
        software="none",
    )
    card = ModelCard(
        name=name,
        job=job,
        version=__version__,
        condition=CONDITION,
        network=UnshuffleSettings(width=8, blocks=1, fold=2),
        factors=(1.5, 8.0),
        training=record,
        diffusion={},
    )
    torch.manual_seed(3)
    weights = build_restorer(card, card.condition).network.state_dict()
    if edit is not None:
        edit(weights)
    store.save_model(card, weights, folder, name)


def _lively(weights: dict[str, Any]) -> None:
    for key in ("tail.weight", "body.0.second.weight", "body.0.modulate.weight"):
        weights[key].normal_(std=0.03)
