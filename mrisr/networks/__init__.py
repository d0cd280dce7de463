"""Networks, built from their settings."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from mrisr.config import NetworkSettings, UNetSettings, UnshuffleSettings

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def channels_last(module: AnyModule) -> AnyModule:
    """Bring a module's convolutions into the memory format that they run fastest in."""
    converted: AnyModule = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return converted


def build_network(settings: NetworkSettings, condition: int) -> nn.Module:
    """Build the denoising or regressing network of a configuration, freshly initialised.

    Args:
        settings: of the network.
        condition: length of the vector that describes the degradation.

    Raises:
        TypeError: the settings are of a network of another kind.
    """
    options = settings.model_dump(exclude={"type"})
    if isinstance(settings, UnshuffleSettings):
        from mrisr.networks.unshuffle import UnshuffleResNet

        return UnshuffleResNet(condition=condition, **options)
    if not isinstance(settings, UNetSettings):
        raise TypeError(f"{settings.type} is no network of this kind")
    from mrisr.networks.unet import UNet

    return UNet(condition=condition, **options)
