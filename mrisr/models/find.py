"""Search for models and reading of their cards, without the libraries that run them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from mrisr.config import Job
from mrisr.core.errors import InputError, UsageError
from mrisr.models.card import ModelCard, ZonesCard
from mrisr.physics.rows import Interpolation

BUNDLED = Path(__file__).parent
#: The methods of the published comparison, each trained for the same few minutes.
COMPARISON = BUNDLED / "comparison"
#: Folder with further models, searched before the bundled ones.
FOLDER_VARIABLE = "MRISR_MODELS"
DEFAULTS: dict[Job, str] = {"inplane": "partdiff-inplane", "throughplane": "partdiff-throughplane"}
#: Models without weights, for both jobs.
INTERPOLATIONS: tuple[Interpolation, ...] = ("bicubic", "bicubic-sharp", "bspline", "lanczos")


def folders() -> list[Path]:
    """Folders in which models are looked for; the first hit wins."""
    extra = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(extra)] if extra else []), BUNDLED, COMPARISON]


def available() -> dict[str, Path]:
    """Map names to card files of every model that is bundled or installed."""
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
    """Find the card of a model given by name, by its weights or card file, or by a training run's folder.

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
    """Read the card of a model that restores.

    Raises:
        InputError: it is missing or not a card.
        UsageError: it is that of a model that segments.
    """
    card = read_any_card(path)
    if isinstance(card, ZonesCard):
        raise UsageError(
            f"model {card.name}: expected one that restores, found one for `mrisr segment`"
        )
    return card


def read_zones_card(path: Path) -> ZonesCard:
    """Read the card of a model that segments zones. Raises as :func:`read_card`, the other way round."""
    card = read_any_card(path)
    if isinstance(card, ModelCard):
        raise UsageError(
            f"model {card.name}: expected one that segments zones, found one that restores"
        )
    return card


def read_any_card(path: Path) -> ModelCard | ZonesCard:
    """Read a card of either kind. Raises InputError: it is missing or not a card."""
    try:
        content = path.read_bytes()
        zones = _job(content) == "zones"
        return (ZonesCard if zones else ModelCard).model_validate_json(content)
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


def _job(content: bytes) -> object:
    try:
        card = json.loads(content)
    except ValueError:
        return None
    return card.get("job") if isinstance(card, dict) else None
