"""The zonal segmenter's weights and card: load them, or make a network of random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import mrisr
from mrisr.config import ZonesNetworkSettings
from mrisr.models.card import TrainingRecord, ZonesCard
from mrisr.models.find import card_path, read_zones_card
from mrisr.models.store import checked_weights, save_model
from mrisr.zones.network import CrossSliceUNet

#: Name of the bundled model.
DEFAULT = "zones"


@dataclass(frozen=True)
class ZonesModel:
    """A network (eval mode, CPU, float32) and its card."""

    card: ZonesCard
    network: CrossSliceUNet
    path: Path


def load_zones_model(name_or_path: str | Path = DEFAULT) -> ZonesModel:
    """Load a zonal segmenter by name or path and check its weights against the card's SHA-256.

    Raises:
        UsageError: there is no such model, or it does not segment.
        InputError: weights are missing, truncated, altered or do not fit the card.
    """
    path = card_path(name_or_path)
    card = read_zones_card(path)
    weights = checked_weights(path, card, lambda: CrossSliceUNet(card.network))
    network = CrossSliceUNet(card.network)
    network.load_state_dict(weights)
    return ZonesModel(card, network.eval().requires_grad_(False), path)


def save_random(folder: Path, name: str = "zones", *, seed: int = 0) -> Path:
    """Write a small segmenter of random weights, to try out what is around it; returns its card."""
    settings = ZonesNetworkSettings(widths=(8, 16), attention_levels=(1,), heads=2, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights: dict[str, Tensor] = CrossSliceUNet(settings).state_dict()
    card = ZonesCard(
        name=name,
        job="zones",
        description="Random weights.",
        version=mrisr.__version__,
        network=settings,
        pixel_mm=1.0,
        window=(64, 8),
        slice_spacing=(3.0, 4.0),
        training=TrainingRecord.none(),
    )
    save_model(card, weights, folder, name)
    return folder / f"{name}.json"
