"""LPIPS (Zhang et al. 2018, version 0.1 on AlexNet), where its weights lie on the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mrisr.core.errors import InputError

#: Folder with the weights: AlexNet's features (torchvision's names) and the five linear layers of LPIPS.
FOLDER_VARIABLE = "MRISR_LPIPS"
#: AlexNet's convolutions: input and output channels, kernel, stride, padding.
_CONVOLUTIONS = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
#: How LPIPS scales colours on -1..1 to what AlexNet was trained on.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """The distance; ``digest`` is the SHA-256 of the files of its weights."""

    def __init__(self, digest: str = "") -> None:
        super().__init__()
        self.digest = digest
        self.features = nn.Sequential()
        for k, (inputs, outputs, kernel, stride, padding) in enumerate(_CONVOLUTIONS):
            self.features.extend([nn.MaxPool2d(3, 2)] if k in (1, 2) else [])
            self.features.append(nn.Conv2d(inputs, outputs, kernel, stride, padding))
            self.features.append(nn.ReLU())
            weigh = nn.Sequential(nn.Dropout(), nn.Conv2d(outputs, 1, 1, bias=False))
            self.add_module(f"lin{k}", nn.ModuleDict({"model": weigh}))

    @torch.no_grad()
    def forward(self, result: Tensor, reference: Tensor) -> Tensor:
        """LPIPS per image, ``(b, 1, h, w)`` on 0..1 twice to ``(b,)``; grey is taken as a colour."""
        total = torch.zeros(len(result))
        pairs = zip(self._activations(result), self._activations(reference), strict=True)
        for k, (a, b) in enumerate(pairs):
            unit = [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b)]
            weigh = self.get_submodule(f"lin{k}.model")
            total += weigh((unit[0] - unit[1]).square()).mean((1, 2, 3))
        return total

    def _activations(self, image: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(v)[None, :, None, None] for v in (_SHIFT, _SCALE))
        x = ((image.cpu().float() * 2 - 1).expand(-1, 3, -1, -1) - shift) / scale
        found = []
        for layer in self.features:
            x = layer(x)
            found += [x] if isinstance(layer, nn.ReLU) else []
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
    paths = sorted(p for p in folder.glob("*") if p.suffix in (".safetensors", ".pth"))
    weights = {name: tensor for path in paths for name, tensor in _read(path).items()}
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    found = Lpips(digest).eval()
    for name, own in found.state_dict().items():
        given = tuple(weights[name].shape) if name in weights else "none"
        if given != own.shape:
            expected = f"LPIPS weights {name} of {tuple(own.shape)}"
            raise InputError(folder, expected=expected, found=str(given))
    found.load_state_dict({name: weights[name] for name in found.state_dict()})
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the libraries have many ways to say that a file is damaged
        message = " ".join(str(error).split())[:200]
        raise InputError(path, expected="weights of LPIPS", found=message) from error
    return {k: v for k, v in found.items() if isinstance(v, Tensor)}
