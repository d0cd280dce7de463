"""Configuration of networks, diffusion, data and training: frozen, checked, loaded from YAML.

A file may name a ``base`` (a path relative to itself) whose settings it changes: mappings are merged,
lists replaced, and ``null`` takes a setting (or a key of the base) back to its default. What was resolved is
written beside every run, so a run can be repeated from its own folder.
"""

from mrisr.config.base import Positive, Settings, load_settings
from mrisr.config.methods import (
    AdversarialSettings,
    DiffusionSettings,
    InterpolationSettings,
    LiifSettings,
    MethodSettings,
    NetworkSettings,
    UNetSettings,
    UnshuffleSettings,
)
from mrisr.config.training import (
    CardSettings,
    Config,
    DataSettings,
    Plane,
    TrainSettings,
)
from mrisr.config.zones import (
    AugmentationSettings,
    ZonesConfig,
    ZonesDataSettings,
    ZonesNetworkSettings,
    load_config,
)
from mrisr.core.options import Job, Kind

__all__ = [
    "AdversarialSettings",
    "AugmentationSettings",
    "CardSettings",
    "Config",
    "DataSettings",
    "DiffusionSettings",
    "InterpolationSettings",
    "Job",
    "Kind",
    "LiifSettings",
    "MethodSettings",
    "NetworkSettings",
    "Plane",
    "Positive",
    "Settings",
    "TrainSettings",
    "UNetSettings",
    "UnshuffleSettings",
    "ZonesConfig",
    "ZonesDataSettings",
    "ZonesNetworkSettings",
    "load_config",
    "load_settings",
]
