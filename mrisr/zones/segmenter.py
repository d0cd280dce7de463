"""Segmenters of the zones: the project's own network, a MONAI bundle or an nnU-Net, behind one call."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Storage, Volume
from mrisr.zones.labels import LabelTable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Zones of a volume: labels in uint8, 0, 1 (peripheral zone) and 2 (transition zone), on exactly its
    grid, and notes of what a record should state."""

    labels: Volume
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmenter(ABC):
    """A function from volumes to zones, without state: it may be called from several threads."""

    kind: str  #: ``mrisr``, ``bundle`` or ``nnunet``
    name: str  #: for records and tables
    sha256: str  #: digest of everything that decides the labels: weights, label table, margin
    device: torch.device
    table: LabelTable | None = (
        None  #: meaning of an external model's labels; `None` for the project's own
    )
    #: Share of the width left out at each of the four edges of axial slices, for models trained on cropped
    #: images; nothing is found there.
    margin: float = 0.0

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment a volume.

        Raises:
            InputError: it is a coronal or sagittal stack of thick slices, or the model fails.
        """
        check_axial(volume)
        crop = _central(volume, self.margin)
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [float(s.start) for s in crop]
        found, notes = self.label(volume.with_array(volume.array[crop], affine))
        array = np.zeros(volume.shape, np.uint8)
        array[crop] = found
        return Segmentation(replace(volume, array=array, storage=Storage(array.dtype)), notes)

    @abstractmethod
    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Labels on the voxels of a volume that :meth:`__call__` has checked and cropped, and notes."""


def check_axial(volume: Volume) -> None:
    """Refuse a coronal or sagittal stack of thick slices: models are trained on axial ones. Thin slices of
    any plane are as good. Raises InputError."""
    if volume.plane != "axial" and volume.is_stack:
        wanted = "axial slices, or voxels of about the same size along all axes"
        found = f"{volume.spacing[volume.slice_axis]:.3g} mm between slices"
        raise InputError(volume.name, expected=wanted, found=f"a {volume.plane} stack with {found}")


def load_segmenter(settings: Segmenting) -> Segmenter:
    """Load the segmenter that the settings name, by default the bundled one.

    Raises:
        UsageError: there is no such model or device, or the table cannot be read as one.
        InputError: it cannot be loaded.
    """
    table = None if settings.table is None else LabelTable.given(settings.table)
    segmenter: Segmenter
    if settings.bundle is not None:
        from mrisr.zones.external.bundle import load_bundle

        segmenter = load_bundle(settings.bundle, table, settings.device)
    elif settings.nnunet is not None:
        from mrisr.zones.external.nnunet import load_nnunet

        segmenter = load_nnunet(settings.nnunet, table, settings.device)
    else:
        from mrisr.zones.model import DEFAULT, load_zones_model
        from mrisr.zones.predict import make_segmenter

        segmenter = make_segmenter(load_zones_model(settings.model or DEFAULT), settings.device)
    if not settings.margin:
        return segmenter
    decides = f"{segmenter.sha256} margin {settings.margin!r}"
    sha256 = hashlib.sha256(decides.encode()).hexdigest()
    return replace(segmenter, margin=settings.margin, sha256=sha256)


def _central(volume: Volume, margin: float) -> tuple[slice, slice, slice]:
    """The voxels left when a share of the width is left out at each edge within axial slices."""
    worlds = geometry.world_axes(volume.affine)
    edges = [int(n * margin) * (w < 2) for n, w in zip(volume.shape, worlds, strict=True)]
    i, j, k = (slice(edge, n - edge) for edge, n in zip(edges, volume.shape, strict=True))
    return i, j, k
