"""The project's own network as a segmenter of volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.models.card import ZonesCard
from mrisr.networks import resolve_device, resolve_precision
from mrisr.zones.data import resized, to_pixel_size
from mrisr.zones.model import ZonesModel
from mrisr.zones.segmenter import Segmenter
from mrisr.zones.windows import SlidingWindow, find_gland, predict_at

#: Directions of the network's columns, rows and slices.
AXES = "LPS"


@dataclass(frozen=True, eq=False, kw_only=True)
class ZonesSegmenter(Segmenter):
    """The project's own segmenter; see :func:`make_segmenter`.

    Slices that lie closer than those of training are dealt out into several stacks, each spaced about as
    in training: a volume that was super-resolved through the plane is segmented as what it is, thin
    slices, and yet seen as the network has learned to see.
    """

    card: ZonesCard
    network: nn.Module
    precision: torch.dtype

    @torch.inference_mode()
    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Labels of the largest connected gland; a note where there is none."""
        lps = volume.reoriented(AXES)
        stack = np.ascontiguousarray(lps.array.transpose(2, 1, 0))
        labels = largest_gland(self._label_stack(stack, lps.spacing))
        notes = () if labels.any() else ("no prostate was found",)
        found, _ = geometry.reoriented(
            labels.transpose(2, 1, 0), lps.affine, geometry.axis_codes(volume.affine)
        )
        return np.ascontiguousarray(found), notes

    def _label_stack(
        self, array: NDArray[np.generic], spacing: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Labels of a stack ``(slices, rows, columns)``, inferior to superior.

        Args:
            spacing: mm between columns, rows and slices.
        """
        columns_mm, rows_mm, between = (float(s) for s in spacing)
        levels = to_pixel_size(cache.quantise(array), (rows_mm, columns_mm), self.card.pixel_mm)
        images = torch.from_numpy(levels.astype(np.float32) / cache.LEVELS)
        step = min(stride(between, self.card.slice_spacing[0]), len(images))
        factors = (self.card.pixel_mm / rows_mm, self.card.pixel_mm / columns_mm)
        window = SlidingWindow(self._scores, *self.card.window)
        labels = np.zeros(array.shape, np.uint8)
        centre = find_gland(images[step // 2 :: step], window)
        if centre is None:
            return labels
        for phase in range(step):
            probabilities = predict_at(images[phase::step], centre, window)
            for k, one in enumerate(probabilities.movedim(1, 0)):  # slice by slice to save memory
                found = resized(one, factors, labels.shape[1:]).argmax(0)
                labels[phase + k * step] = found.byte().numpy()
        return labels

    def _scores(self, x: Tensor) -> Tensor:
        bf16 = self.precision == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            scores: Tensor = self.network(x.to(self.device))
        return scores.float().cpu()


def make_segmenter(model: ZonesModel, device: str = "auto") -> ZonesSegmenter:
    """The segmenter of a model, whose network is moved to the device: ``auto``, ``cpu``, ``cuda`` or
    ``cuda:N``. Raises UsageError where there is no such device."""
    on = resolve_device(device)
    return ZonesSegmenter(
        kind="mrisr",
        name=model.card.name,
        sha256=model.card.sha256,
        device=on,
        card=model.card,
        network=model.network.to(on),
        precision=resolve_precision("auto", on),
    )


def stride(between: float, trained: float) -> int:
    """Slices from one to the next of a stack, so that they lie about as far apart as in training.

    >>> stride(3.0, 3.0), stride(0.5, 3.0), stride(0.625, 3.0), stride(2.0, 3.0)
    (1, 6, 5, 2)
    """
    return max(1, round(trained / between))


def largest_gland(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the largest connected component of the gland."""
    from scipy import ndimage

    parts, count = ndimage.label(labels > 0)
    if count < 2:
        return labels
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.where(parts == sizes.argmax(), labels, 0).astype(np.uint8)
