"""Weights and card of the project's own segmenter of the zones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mrisr.models.card import ZonesCard, card_path, read_zones_card
from mrisr.models.store import checked_weights
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
