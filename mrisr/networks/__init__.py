"""Networks, built from their settings."""

from __future__ import annotations

from torch import nn

from mrisr.config import UNetSettings, UnshuffleSettings


def build_network(settings: UnshuffleSettings | UNetSettings, condition: int) -> nn.Module:
    """The network of a configuration, freshly initialised; ``condition`` is the vector's length."""
    options = settings.model_dump(exclude={"type"})
    if isinstance(settings, UnshuffleSettings):
        from mrisr.networks.unshuffle import UnshuffleResNet

        return UnshuffleResNet(condition=condition, **options)
    from mrisr.networks.unet import UNet

    return UNet(condition=condition, **options)
