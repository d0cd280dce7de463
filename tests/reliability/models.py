"""Small models with which a run takes a moment, made when they are needed."""

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
    from mrisr.models import store

    card, restorer = restorer_of(name, job, seed=3)
    weights = restorer.network.state_dict()
    if edit is not None:
        edit(weights)
    store.save_model(card, weights, folder, name)


def restorer_of(
    name: str, job: str = "inplane", *, width: int = 8, blocks: int = 1, seed: int = 0
) -> Any:
    """A card and a restorer with random weights."""
    import torch

    from mrisr import __version__
    from mrisr.config import UnshuffleSettings
    from mrisr.methods import build_restorer
    from mrisr.models.card import ModelCard, TrainingRecord
    from mrisr.physics.separable import CONDITION

    held_out = {"cases": ("seen",), "validation_cases": ("unseen", "unseen-too")}
    card = ModelCard(
        name=name,
        job=job,
        version=__version__,
        condition=CONDITION,
        network=UnshuffleSettings(width=width, blocks=blocks, fold=2),
        factors=(1.5, 8.0),
        training=TrainingRecord.none().model_copy(update=held_out),
        diffusion={},
    )
    torch.manual_seed(seed)
    return card, build_restorer(card, card.condition)


def _lively(weights: dict[str, Any]) -> None:
    for key in ("tail.weight", "body.0.second.weight", "body.0.modulate.weight"):
        weights[key].normal_(std=0.03)
