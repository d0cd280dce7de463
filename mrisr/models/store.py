"""Find, check, load and save models: safetensors weights with a JSON card of the same name."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mrisr import __version__
from mrisr.config import DiffusionSettings, InterpolationSettings, Job
from mrisr.errors import InputError, UsageError
from mrisr.io.atomic import as_output_error, make_folder, write_bytes
from mrisr.io.steps import locked
from mrisr.matrices import Interpolation
from mrisr.models.card import ModelCard, TrainingRecord
from mrisr.operators import CONDITION
from mrisr.restorers import Restorer, build_restorer

BUNDLED = Path(__file__).parent
#: The methods of the published comparison, each trained for the same few minutes.
COMPARISON = BUNDLED / "comparison"
#: Folder with further models, searched before the bundled ones.
FOLDER_VARIABLE = "MRISR_MODELS"
DEFAULTS: dict[Job, str] = {"inplane": "partdiff-inplane", "throughplane": "partdiff-throughplane"}
#: Models without weights, for both jobs.
INTERPOLATIONS: tuple[Interpolation, ...] = ("bicubic", "bicubic-sharp", "bspline", "lanczos")


@dataclass(frozen=True)
class Model:
    """Weights in a :class:`mrisr.restorers.Restorer` (eval mode, CPU, float32) and their card."""

    card: ModelCard
    restorer: Restorer
    path: Path


def folders() -> list[Path]:
    """Where models are looked for, first hit wins."""
    extra = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(extra)] if extra else []), BUNDLED, COMPARISON]


def available() -> dict[str, Path]:
    """Name to card file of every model that is bundled or installed."""
    found: dict[str, Path] = {}
    for folder in folders():
        for card in sorted(folder.glob("*.json")):
            if card.with_suffix(".safetensors").exists():
                found.setdefault(card.stem, card)
    return found


def model_for(job: Job, method: str | None = None) -> str:
    """Name of a job's model: of a method (``sr3``, ``invsr``, ``bicubic`` ...), or its default one."""
    if method is None:
        return DEFAULTS[job]
    return method if method in INTERPOLATIONS else f"{method}-{job}"


def card_path(name_or_path: str | Path) -> Path:
    """The card of a model given by name, by its weights or card file, or by a training run's folder.

    Raises:
        UsageError: there is no such model; the message lists those there are.
    """
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "model.json"
    if path.suffix in (".safetensors", ".json") and path.exists():
        return path.with_suffix(".json")
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        raise UsageError(f"{path}: only safetensors weights are loaded, never pickles")
    known = available()
    if str(name_or_path) not in known:
        raise UsageError(
            f"no model {str(name_or_path)!r}; there are: {', '.join([*known, *INTERPOLATIONS])}"
        )
    return known[str(name_or_path)]


def read_card(path: Path) -> ModelCard:
    """Read a card file.

    Raises:
        InputError: it is missing or not a card.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            path, expected="a model card", found=error.strerror or str(error)
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            path, expected=f"a model card with a valid {where!r}", found=first["msg"]
        ) from error


def interpolation_card(kind: Interpolation) -> ModelCard:
    """The card of an interpolation: no job of its own, no weights, no training."""
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


def card_of(name_or_path: str | Path) -> ModelCard:
    """The card of a model, or of an interpolation. Raises as :func:`card_path` and :func:`read_card`."""
    for kind in INTERPOLATIONS:
        if str(name_or_path) == kind:
            return interpolation_card(kind)
    return read_card(card_path(name_or_path))


def load_model(name_or_path: str | Path) -> Model:
    """Load a model by name or path and check its weights against the card's SHA-256; or make an interpolation
    by its name.

    Raises:
        UsageError: there is no such model.
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    if name_or_path in INTERPOLATIONS:
        card = card_of(name_or_path)
        return Model(card, build_restorer(card, card.condition).eval(), Path(card.name))
    card_file = card_path(name_or_path)
    card = read_card(card_file)
    weights = card_file.with_suffix(".safetensors")
    data = _read_weights(weights, card.sha256)
    try:
        tensors = load_tensors(data)
        _check_shapes(card, tensors)
        restorer = build_restorer(card, card.condition)
        restorer.network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(weights, expected="weights that fit the card", found=message) from error
    return Model(card, restorer.eval().requires_grad_(False), card_file)


def _check_shapes(card: ModelCard, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError unless the card's network has these weights; it is built without memory."""
    with torch.device("meta"):
        wanted = build_restorer(card, card.condition).network.state_dict()
    for name in sorted({*wanted, *tensors}):
        shapes = [tuple(d[name].shape) if name in d else None for d in (wanted, tensors)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} of shape {shapes[1]}, by the card {shapes[0]}")


def _read_weights(path: Path, digest: str) -> bytes:
    """The weights of a card. Raises InputError unless they have the card's SHA-256."""
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
    """Where weights wait until their card has replaced the old one."""
    return path.with_name(f"{path.stem}.next{path.suffix}")


def save_model(
    card: ModelCard,
    weights: dict[str, Tensor],
    folder: Path,
    name: str,
    store: Literal["float32", "float16"] = "float32",
) -> ModelCard:
    """Write ``name.safetensors`` and ``name.json``; returns the card with the weights' SHA-256.

    A kill at any moment leaves the old model, the new one, or none where there was none: the card
    decides, and :func:`load_model` finds its weights under the one name or the other.
    """
    make_folder(folder)
    dtype = getattr(torch, store)
    data = save_tensors({k: v.detach().to("cpu", dtype).contiguous() for k, v in weights.items()})
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


def write_card(card: ModelCard, path: Path) -> None:
    """Write a card file."""
    write_bytes(path, (card.model_dump_json(indent=2) + "\n").encode())
