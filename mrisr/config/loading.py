"""Loading of a training configuration, whatever it trains."""

from __future__ import annotations

from pathlib import Path

from mrisr.config.base import checked, read_mapping
from mrisr.config.training import Config
from mrisr.config.zones import ZonesConfig


def load_config(path: str | Path) -> Config | ZonesConfig:
    """Read the configuration of a training; its ``job`` says of what kind. See :func:`load_settings`."""
    content = read_mapping(Path(path))
    if content.get("job") == "zones":
        return checked(path, content, ZonesConfig)
    return checked(path, content, Config)
