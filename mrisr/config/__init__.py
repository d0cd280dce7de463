"""Configuration of networks, diffusion, data and training: frozen, checked, loaded from YAML.

A file may name a ``base`` (a path relative to itself) whose settings it changes: mappings are merged,
lists replaced, and ``null`` takes a setting (or a key of the base) back to its default. What was resolved is
written beside every run, so a run can be repeated from its own folder.
"""

from mrisr.config.base import Positive as Positive
from mrisr.config.base import Settings as Settings
from mrisr.config.base import load_settings as load_settings
from mrisr.config.methods import AdversarialSettings as AdversarialSettings
from mrisr.config.methods import DiffusionSettings as DiffusionSettings
from mrisr.config.methods import InterpolationSettings as InterpolationSettings
from mrisr.config.methods import LiifSettings as LiifSettings
from mrisr.config.methods import MethodSettings as MethodSettings
from mrisr.config.methods import NetworkSettings as NetworkSettings
from mrisr.config.methods import UNetSettings as UNetSettings
from mrisr.config.methods import UnshuffleSettings as UnshuffleSettings
from mrisr.config.training import AugmentationSettings as AugmentationSettings
from mrisr.config.training import CardSettings as CardSettings
from mrisr.config.training import Config as Config
from mrisr.config.training import DataSettings as DataSettings
from mrisr.config.training import Plane as Plane
from mrisr.config.training import TrainSettings as TrainSettings
from mrisr.config.training import ZonesConfig as ZonesConfig
from mrisr.config.training import ZonesDataSettings as ZonesDataSettings
from mrisr.config.training import ZonesNetworkSettings as ZonesNetworkSettings
from mrisr.config.training import load_config as load_config
from mrisr.core.options import Job as Job
from mrisr.core.options import Kind as Kind
