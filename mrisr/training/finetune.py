"""Training from another model: its weights, the configuration that goes on from it, and whom that may be
validated on."""

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from mrisr.config import Config, ZonesConfig
from mrisr.config.base import checked, read_mapping
from mrisr.core.errors import UsageError
from mrisr.core.shipped import shipped
from mrisr.data.cache import read_index
from mrisr.models.ancestry import training_cases
from mrisr.models.card import card_path, read_any_card, read_card

#: Share of a cache's patients that are validated on where nobody names any.
HELD_OUT = 0.2
#: Weights that what a network is told enters by, and the residual blocks, of which it may have more.
TOLD, GROWING = "embed.mlp.0.weight", "body."


def fine_tuning(
    base: str, data: Path, validation: tuple[str, ...] = (), iterations: int | None = None
) -> Config:
    """Configuration that trains a model further on the patients of a cache.

    Method, network and licences are those of the model; data and optimisation those of
    ``configs/finetune-JOB.yaml``. Of a model with two networks the one that is told of noise is trained.

    Args:
        base: name or path of a model that restores.
        data: cache made by ``mrisr prepare``.
        validation: patients to validate on; empty, a fifth of those that the model has not seen.
        iterations: steps, instead of the file's.

    Raises:
        UsageError: there is no such model, or no patient is left to train or to validate on.
        InputError: the cache is unusable.
    """
    path = card_path(base)
    card = read_card(path)
    file = shipped("configs") / f"finetune-{card.job}.yaml"
    network = card.network.model_dump()
    if network.get("by_noise"):
        network["by_noise"] = False
    content = read_mapping(file)
    content |= {"name": f"{card.name}-finetuned", "description": f"Fine-tuned from {card.name}."}
    content |= {"method": card.method, "network": network}
    content |= {"diffusion": card.diffusion.model_dump(), "inversion": card.inversion}
    content["data"]["validation"] = validation or _held_out(base, data)
    content["train"] |= {"initialize": base} | ({"iterations": iterations} if iterations else {})
    content["card"] = {
        "data_licences": card.data_licences,
        "weights_licence": card.weights_licence,
        "limitations": card.limitations,
    }
    return checked(file, content, Config)


def _held_out(base: str, data: Path) -> tuple[str, ...]:
    """A fifth of a cache's patients, the last by name among those that the model has not seen."""
    cases = sorted({entry["case"] for entry in read_index(data)})
    path = card_path(base)
    seen = {n for names in training_cases([(read_any_card(path), path)]).values() for n in names}
    unseen = [case for case in cases if case not in seen]
    if not unseen or len(cases) < 2:
        raise UsageError(
            f"{data}: expected a patient to train on and another, whom {base} has not seen, to "
            f"validate on; found {', '.join(cases)}"
        )
    return tuple(unseen[-max(1, int(HELD_OUT * len(cases))) :])


def check_held_out(config: Config | ZonesConfig, report: Callable[[str], None]) -> None:
    """Refuse validation patients that a model to start from was trained on.

    Raises:
        UsageError: it was, or one that its weights began with; or there is no such model.
    """
    inversion = config.inversion if isinstance(config, Config) else None
    for base in (config.train.initialize, inversion and inversion.denoiser):
        if base:
            path = card_path(base)
            for name, cases in training_cases([(read_any_card(path), path)], report).items():
                both = sorted({*config.data.validation} & {*cases})
                if both:
                    raise UsageError(
                        f"data.validation: {name} was trained on {', '.join(both)}; validate on "
                        "other patients"
                    )


def take_weights(network: nn.Module, other: nn.Module, name: str) -> None:
    """Start from the weights of a model called ``name``.

    The network may have more residual blocks, and be told more, than that model: what is new begins without
    effect (after Net2Net, Chen et al. 2016), so the network begins as that model.

    Raises:
        UsageError: its network is another.
    """
    mine, theirs = network.state_dict(), other.state_dict()
    for key, value in theirs.items():
        if key.endswith(TOLD) and key in mine and mine[key].shape[0] == value.shape[0]:
            theirs[key] = F.pad(value, (0, max(0, mine[key].shape[1] - value.shape[1])))
    try:
        missing, unexpected = network.load_state_dict(theirs, strict=False)
    except RuntimeError as error:
        missing, unexpected = [str(error)], []
    if unexpected or any(not key.startswith(GROWING) for key in missing):
        raise UsageError(f"train.initialize: {name} has another network than the configuration")
