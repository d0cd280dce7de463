"""Zones of a volume by the project's own network, on the volume's grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr.core.volume import Volume
from mrisr.data import cache, pairs
from mrisr.networks.device import resolve_device, resolve_precision
from mrisr.zones.data import resized
from mrisr.zones.foreign import check_axial, labels_on, turned, turned_back
from mrisr.zones.model import ZonesModel
from mrisr.zones.windows import Windowed, around, find_gland

#: The axes that the network's stacks run along: columns, rows, slices.
_AXES = "LPS"


class ZonesSegmenter:
    """The project's own segmenter.

    Slices that lie closer than those of training are dealt out into several stacks, each spaced about as
    in training: a volume that was super-resolved through the plane is segmented as what it is, thin
    slices, and yet seen as the network has learned to see.

    Args:
        model: from :func:`mrisr.zones.model.load_zones_model`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    def __init__(self, model: ZonesModel, device: str = "auto") -> None:
        self.card = model.card
        self.name, self.sha256, self.kind = model.card.name, model.card.sha256, "mrisr"
        self.table = None
        self.device = resolve_device(device)
        self.precision = resolve_precision("auto", self.device)
        self.network = model.network.to(self.device)
        self.notes: list[str] = []
        edge, slices = self.card.window
        self.windowed = Windowed(self._scores, edge, slices)

    @torch.inference_mode()
    def __call__(self, volume: Volume) -> Volume:
        """The zones of a volume: uint8 labels 0, 1 (peripheral) and 2 (transition) on its grid.

        Raises:
            InputError: it is a coronal or sagittal stack of thick slices.
        """
        self.notes = []
        check_axial(volume)
        stood = turned(volume, _AXES)
        labels = self._labels(np.ascontiguousarray(stood.array.transpose(2, 1, 0)), stood)
        labels = largest_gland(labels)
        if not labels.any():
            self.notes.append("no prostate was found")
        return labels_on(volume, turned_back(labels.transpose(2, 1, 0), volume, _AXES))

    def _labels(self, array: NDArray[np.generic], stood: Volume) -> NDArray[np.uint8]:
        """Labels of a stack ``(slices, rows, columns)``, inferior to superior."""
        columns_mm, rows_mm, between = (float(s) for s in stood.spacing)
        stack = cache.Stack("", "", "axial", (between, rows_mm, columns_mm), cache.quantise(array))
        levels = pairs.on_pixels(stack, self.card.pixel_mm).levels
        images = torch.from_numpy(levels.astype(np.float32) / cache.LEVELS)
        step = min(stride(between, self.card.slice_spacing[0]), len(images))
        factors = (self.card.pixel_mm / rows_mm, self.card.pixel_mm / columns_mm)
        labels = np.zeros(array.shape, np.uint8)
        middle = images[step // 2 :: step]
        centre = find_gland(middle, self.windowed)
        if centre is None:
            return labels
        for phase in range(step):
            shares = around(images[phase::step], centre, self.windowed)
            labels[phase::step] = _on_pixels(shares, factors, labels.shape[1:])
        return labels

    def _scores(self, x: Tensor) -> Tensor:
        bf16 = self.precision == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            return self.network(x.to(self.device)).float().cpu()


def stride(between: float, trained: float) -> int:
    """How many slices apart the members of a stack are, so that they lie about as far apart as in training.

    >>> stride(3.0, 3.0), stride(0.5, 3.0), stride(0.625, 3.0), stride(2.0, 3.0)
    (1, 6, 5, 2)
    """
    return max(1, round(trained / between))


def _on_pixels(
    shares: Tensor, factors: tuple[float, float], size: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The likeliest label on the volume's own pixels, slice by slice to save memory."""
    slices = [resized(one, factors, size).argmax(0) for one in shares.movedim(1, 0)]
    return torch.stack(slices).byte().numpy()


def largest_gland(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The labels without what is not connected to the largest part of the gland."""
    from scipy import ndimage

    parts, count = ndimage.label(labels > 0)
    if count < 2:
        return labels
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where(parts == sizes.argmax(), labels, 0).astype(np.uint8)
