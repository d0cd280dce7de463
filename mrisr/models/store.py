"""Loading, checking and saving of models: safetensors weights with a JSON card of the same name."""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mrisr import __version__
from mrisr.config import DiffusionSettings, InterpolationSettings
from mrisr.core.errors import InputError
from mrisr.io.atomic import as_output_error, make_folder, write_bytes
from mrisr.io.files import locked
from mrisr.methods import build_restorer
from mrisr.methods.base import Restorer
from mrisr.models.card import INTERPOLATIONS, Card, ModelCard, TrainingRecord, card_path, read_card
from mrisr.physics.rows import Interpolation
from mrisr.physics.separable import CONDITION

AnyCard = TypeVar("AnyCard", bound=Card)


@dataclass(frozen=True)
class Model:
    """Model: weights in a :class:`mrisr.methods.Restorer` (eval mode, CPU, float32) and their card."""

    card: ModelCard
    restorer: Restorer
    path: Path


def interpolation_card(kind: Interpolation) -> ModelCard:
    """Make the card of an interpolation: no job of its own, no weights, no training."""
    return ModelCard(
        name=kind,
        job=None,
        description=f"{kind} interpolation, without training.",
        version=__version__,
        condition=CONDITION,
        method="interpolation",
        network=InterpolationSettings(type="interpolation", kind=kind),
        diffusion=DiffusionSettings(),
        factors=(1.0, 8.0),
        default_consistency=0.0,
        training=TrainingRecord.none(),
    )


def load_model(name_or_path: str | Path) -> Model:
    """Load a model by name or path and check its weights against the card's SHA-256; or make an interpolation
    by its name.

    Raises:
        UsageError: there is no such model.
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    for kind in INTERPOLATIONS:
        if name_or_path == kind:
            card = interpolation_card(kind)
            return Model(card, build_restorer(card, card.condition).eval(), Path(kind))
    card_file = card_path(name_or_path)
    card = read_card(card_file)
    restorer_of = partial(build_restorer, card, card.condition)
    tensors = checked_weights(card_file, card, lambda: restorer_of().network)
    restorer = restorer_of()
    restorer.network.load_state_dict(tensors)
    return Model(card, restorer.eval().requires_grad_(False), card_file)


def checked_weights(
    card_file: Path, card: Card, build: Callable[[], nn.Module]
) -> dict[str, Tensor]:
    """Read the weights beside a card, for the network that ``build`` makes, which takes no memory here.

    Raises:
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    weights = card_file.with_suffix(".safetensors")
    data = read_weights(weights, card.sha256)
    try:
        tensors = load_tensors(data)
        with torch.device("meta"):
            _check_shapes(build().state_dict(), tensors)
    except (SafetensorError, RuntimeError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(weights, expected="weights that fit the card", found=message) from error
    return tensors


def _check_shapes(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless both have the same names and shapes."""
    for name in sorted({*wanted, *tensors}):
        shapes = [tuple(d[name].shape) if name in d else None for d in (wanted, tensors)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} of shape {shapes[1]}, by the card {shapes[0]}")


def read_weights(path: Path, digest: str) -> bytes:
    """Read the weights of a card. Raises InputError unless they have the card's SHA-256."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            path, expected="safetensors weights", found=error.strerror or str(error)
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found == digest:
        return data
    with suppress(OSError):  # a killed save_model left them under the other name
        data = _next_weights(path).read_bytes()
        if hashlib.sha256(data).hexdigest() == digest:
            return data
    raise InputError(path, expected=f"SHA-256 {digest}", found=found)


def _next_weights(path: Path) -> Path:
    """Path at which weights wait until their card has replaced the old one."""
    return path.with_name(f"{path.stem}.next{path.suffix}")


def serialised(
    weights: Mapping[str, Tensor], store: Literal["float32", "float16"] = "float32"
) -> bytes:
    """Weights as the content of a safetensors file."""
    dtype = getattr(torch, store)
    return save_tensors({k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()})


def save_model(
    card: AnyCard,
    weights: dict[str, Tensor],
    folder: Path,
    name: str,
    store: Literal["float32", "float16"] = "float32",
) -> AnyCard:
    """Write ``name.safetensors`` and ``name.json``; returns the card with the weights' SHA-256.

    A kill at any moment leaves the old model, the new one, or none where there was none: the card
    decides, and :func:`load_model` finds its weights under the one name or the other.
    """
    make_folder(folder)
    data = serialised(weights, store)
    digest = hashlib.sha256(data).hexdigest()
    card = card.model_copy(update={"sha256": digest})
    file, path = folder / f"{name}.safetensors", folder / f"{name}.json"
    waiting = _next_weights(file)
    with as_output_error(file, len(data)), locked(folder):
        write_bytes(waiting, data)
        if not path.exists():
            os.replace(waiting, file)
        write_card(card, path)
        if waiting.exists():
            os.replace(waiting, file)
    return card


def write_card(card: Card, path: Path) -> None:
    """Write a card file."""
    write_bytes(path, (card.model_dump_json(indent=2) + "\n").encode())
