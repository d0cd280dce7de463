"""A segmenter that sees only the middle of an image."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch

from mrisr.core import geometry
from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume
from mrisr.zones.foreign import labels_on
from mrisr.zones.labels import LabelTable
from mrisr.zones.segmenter import Segmenter


class Cropped:
    """A segmenter given an image without its edges, which some models want, having been trained so.

    Args:
        segmenter: what segments the rest.
        margin: share of the width left out at each of the four edges of axial slices; nothing is found
            there.

    Raises:
        UsageError: nothing would be left.
    """

    def __init__(self, segmenter: Segmenter, margin: float) -> None:
        if not 0 <= margin < 0.5:
            raise UsageError(f"margin: expected 0 to less than 0.5, found {margin:g}")
        self.segmenter, self.margin = segmenter, margin
        self.name, self.kind = segmenter.name, segmenter.kind
        self.device: torch.device = segmenter.device
        told = f"{segmenter.sha256} margin {margin!r}"
        self.sha256 = hashlib.sha256(told.encode()).hexdigest() if margin else segmenter.sha256
        self.notes: list[str] = []

    @property
    def table(self) -> LabelTable | None:
        """As of the segmenter."""
        return self.segmenter.table

    def __call__(self, volume: Volume) -> Volume:
        """Labels on the volume's grid, background at its edges. Raises as the segmenter does."""
        cut = [slice(None)] * 3
        for axis, world in enumerate(geometry.world_axes(volume.affine)):
            edge = int(volume.shape[axis] * self.margin) if world < 2 else 0
            cut[axis] = slice(edge, volume.shape[axis] - edge)
        window = (cut[0], cut[1], cut[2])
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [float(s.start) for s in window]
        labels = self.segmenter(replace(volume, array=volume.array[window], affine=affine))
        self.notes = list(self.segmenter.notes)
        array = np.zeros(volume.shape, np.uint8)
        array[window] = labels.array
        return labels_on(volume, array)
