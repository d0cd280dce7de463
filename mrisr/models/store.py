"""Find, check, load and save models: safetensors weights with a JSON card of the same name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mrisr.diffusion.denoiser import Denoiser, make_path
from mrisr.diffusion.schedule import LinearSchedule
from mrisr.errors import InputError, UsageError
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.models.card import ModelCard
from mrisr.networks import build_network

BUNDLED = Path(__file__).parent
#: Folder with further models, searched before the bundled ones.
FOLDER_VARIABLE = "MRISR_MODELS"
DEFAULTS = {"inplane": "partdiff-inplane", "throughplane": "partdiff-throughplane"}


@dataclass(frozen=True)
class Model:
    """Weights in a :class:`Denoiser` (eval mode, CPU, float32) and their card."""

    card: ModelCard
    denoiser: Denoiser
    path: Path


def folders() -> list[Path]:
    """Where models are looked for, first hit wins."""
    extra = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(extra)] if extra else []), BUNDLED]


def available() -> dict[str, Path]:
    """Name to card file of every model that is bundled or installed."""
    found: dict[str, Path] = {}
    for folder in folders():
        for card in sorted(folder.glob("*.json")):
            if card.with_suffix(".safetensors").exists():
                found.setdefault(card.stem, card)
    return found


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
        raise UsageError(f"no model {str(name_or_path)!r}; there are: {', '.join(known) or 'none'}")
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


def build_denoiser(card: ModelCard) -> Denoiser:
    """The denoiser a card describes, with fresh weights."""
    d = card.diffusion
    clock = LinearSchedule(**d.inference.model_dump())
    network = build_network(card.network, card.condition)
    return Denoiser(network, make_path(d.path, d.start, clock), d.prediction)


def load_model(name_or_path: str | Path) -> Model:
    """Load a model by name or path and check its weights against the card's SHA-256.

    Raises:
        UsageError: there is no such model.
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    card_file = card_path(name_or_path)
    card = read_card(card_file)
    weights = card_file.with_suffix(".safetensors")
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(
            weights, expected="safetensors weights", found=error.strerror or str(error)
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise InputError(weights, expected=f"SHA-256 {card.sha256}", found=digest)
    denoiser = build_denoiser(card)
    try:
        denoiser.network.load_state_dict(load_tensors(data))
    except (SafetensorError, RuntimeError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(weights, expected="weights that fit the card", found=message) from error
    return Model(card, denoiser.eval().requires_grad_(False), card_file)


def save_model(card: ModelCard, weights: dict[str, Tensor], folder: Path, name: str) -> ModelCard:
    """Write ``name.safetensors`` and ``name.json``; returns the card with the weights' SHA-256."""
    make_folder(folder)
    data = save_tensors({k: v.detach().cpu().contiguous() for k, v in weights.items()})
    card = card.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
    write_bytes(folder / f"{name}.safetensors", data)
    write_card(card, folder / f"{name}.json")
    return card


def write_card(card: ModelCard, path: Path) -> None:
    """Write a card file."""
    write_bytes(path, (card.model_dump_json(indent=2) + "\n").encode())
