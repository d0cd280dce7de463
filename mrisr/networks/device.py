"""The device and the precision that a user names."""

from __future__ import annotations

import torch

from mrisr.core.errors import UsageError


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
