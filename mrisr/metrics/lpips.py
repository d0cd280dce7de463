"""LPIPS (Zhang et al. 2018, version 0.1 on AlexNet), where its weights lie on the disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mrisr.core.errors import InputError

#: Folder with the weights: AlexNet's features (torchvision's names) and the five linear layers of LPIPS.
FOLDER_VARIABLE = "MRISR_LPIPS"
#: AlexNet's convolutions: position among its layers, input and output channels, kernel, stride, padding.
_CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
#: How LPIPS scales colours on -1..1 to what AlexNet was trained on.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class Lpips:
    """The distance, from weights by their names; ``digest`` is the SHA-256 of their files."""

    weights: dict[str, Tensor]
    digest: str

    @torch.no_grad()
    def __call__(self, result: Tensor, reference: Tensor) -> Tensor:
        """LPIPS per image, ``(b, 1, h, w)`` on 0..1 twice to ``(b,)``; grey is taken as a colour."""
        total = torch.zeros(len(result))
        pairs = zip(self._features(result), self._features(reference), strict=True)
        for layer, (a, b) in enumerate(pairs):
            unit = [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b)]
            weighted = functional.conv2d(
                (unit[0] - unit[1]).square(), self.weights[f"lin{layer}.model.1.weight"]
            )
            total += weighted.mean((1, 2, 3))
        return total

    def _features(self, image: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(v)[None, :, None, None] for v in (_SHIFT, _SCALE))
        x = ((image.cpu().float() * 2 - 1).expand(-1, 3, -1, -1) - shift) / scale
        found = []
        for place, _, _, _, stride, padding in _CONVOLUTIONS:
            if place in (3, 6):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = (self.weights[f"features.{place}.{n}"] for n in ("weight", "bias"))
            x = functional.relu(functional.conv2d(x, weight, bias, stride, padding))
            found.append(x)
        return found


def load_lpips() -> Lpips | None:
    """LPIPS with the weights in the folder that the environment variable ``MRISR_LPIPS`` names; none where it
    is not set.

    All ``.safetensors`` and ``.pth`` files of the folder are read, the latter as tensors only.

    Raises:
        InputError: the folder lacks weights, or has others than LPIPS on AlexNet.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    weights: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".pth")):
        digest.update(path.read_bytes())
        weights |= _read(path)
    for name, shape in _shapes().items():
        found = tuple(weights[name].shape) if name in weights else "none"
        if found != shape:
            raise InputError(folder, expected=f"LPIPS weights {name} of {shape}", found=str(found))
    return Lpips({name: weights[name].float() for name in _shapes()}, digest.hexdigest())


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the libraries have many ways to say that a file is damaged
        message = " ".join(str(error).split())[:200]
        raise InputError(path, expected="weights of LPIPS", found=message) from error
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (place, inputs, outputs, kernel, _, _) in enumerate(_CONVOLUTIONS):
        shapes[f"features.{place}.weight"] = (outputs, inputs, kernel, kernel)
        shapes[f"features.{place}.bias"] = (outputs,)
        shapes[f"lin{layer}.model.1.weight"] = (1, outputs, 1, 1)
    return shapes
