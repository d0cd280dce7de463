"""Networks, built from their settings, and the device and precision that they run in."""

from typing import TypeVar

import torch
from torch import nn

from mrisr.config import NetworkSettings, UNetSettings, UnshuffleSettings
from mrisr.core.errors import UsageError

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
        from mrisr.networks.unshuffle import ByNoise, UnshuffleResNet

        kind = ByNoise if options.pop("by_noise") else UnshuffleResNet
        return kind(condition=condition, **options)
    if not isinstance(settings, UNetSettings):
        raise TypeError(f"{settings.type} is no network of this kind")
    from mrisr.networks.unet import UNet

    return UNet(condition=condition, **options)


def resolve_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that exists. Raises UsageError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device: expected auto, cpu, cuda or cuda:N, found {name}") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device: expected auto, cpu, cuda or cuda:N, found {name}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name}: found {torch.cuda.device_count()} CUDA devices")
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where it is asked for, or with ``auto`` where the device computes it natively."""
    if name != "auto":
        return torch.bfloat16 if name == "bf16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu._is_avx512_bf16_supported()) or bool(
            torch.cpu._is_amx_tile_supported()
        )
    return torch.bfloat16 if native else torch.float32
