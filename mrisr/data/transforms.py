"""MONAI dictionary transforms over the readers and the degradation operators.

Images are MetaTensors, channel first ``(1, i, j, k)``, with a RAS affine; nothing is reoriented.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform, Randomizable

from mrisr.config import Job, Kind
from mrisr.core import geometry
from mrisr.data import pairs
from mrisr.io import read_volume
from mrisr.io.metatensor import as_metatensor


class LoadVolumed(MapTransform):
    """Read paths with ``mrisr.io.read_volume`` into float32 MetaTensors ``(1, i, j, k)``.

    Args:
        keys: entries that hold a path.
        allow_constant: accept volumes whose voxels are all equal, such as empty masks.
        allow_missing_keys: as in MONAI.

    Raises:
        InputError: for every file that ``read_volume`` refuses.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        allow_constant: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.allow_constant = allow_constant

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with images in place of paths."""
        out = dict(data)
        for key in self.key_iterator(out):
            volume = read_volume(out[key], allow_constant=self.allow_constant)
            image = as_metatensor(volume)
            image.meta["filename_or_obj"] = str(out[key])
            out[key] = image
        return out


class DegradeInPlaned(MapTransform):
    """Add ``<key>_low`` (degraded within the slices) and ``<key>_up`` (that, interpolated back).

    Args:
        keys: images ``(1, i, j, k)``.
        scale: spacing of the degraded pixels over that of the image's, 1 or more.
        kind: the degradation, as in ``mrisr.physics.separable``.
        axis: array axis along which slices are stacked; by default told from the affine.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        scale: float,
        kind: Kind = "bicubic",
        *,
        axis: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale, self.kind, self.axis = scale, kind, axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the two images for each key."""
        out = dict(data)
        drawn = pairs.Drawn(self.kind, self.scale)
        for key in self.key_iterator(out):
            axis = geometry.slice_axis(_affine(out[key])) if self.axis is None else self.axis
            out |= _degraded(str(key), out[key], "inplane", drawn, axis)
        return out


class RandDegradeInPlaned(DegradeInPlaned, Randomizable):
    """``DegradeInPlaned`` with a scale drawn log-uniformly from ``scale_range``, one for all keys.

    ``randomize`` draws and stores ``scale``; ``apply`` uses what is stored, so a draw can be
    replayed. Seed with ``set_random_state``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        scale_range: tuple[float, float],
        kind: Kind = "bicubic",
        *,
        axis: int | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        low, high = scale_range
        if not 1 <= low <= high:
            raise ValueError(f"expected 1 <= low <= high in scale_range, got {scale_range}")
        super().__init__(keys, low, kind, axis=axis, allow_missing_keys=allow_missing_keys)
        self.scale_range = scale_range

    def randomize(self, data: Any = None) -> None:
        """Draw ``scale``."""
        low, high = np.log(self.scale_range)
        self.scale = float(np.exp(self.R.uniform(low, high)))

    apply = DegradeInPlaned.__call__

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw, then apply."""
        self.randomize()
        return self.apply(data)


class DegradeThroughPlaned(MapTransform):
    """Add ``<key>_low`` (thick slices along one axis) and ``<key>_up`` (those, interpolated back).

    Args:
        keys: images ``(1, i, j, k)``.
        factor: spacing of the degraded slices over the image's voxel size along the axis.
        thickness: slice thickness over slice *spacing*: 1 contiguous, below 1 a gap.
        kind: slice profile, ``"gaussian"`` (FWHM) or ``"box"``.
        world_axis: axis to degrade along: 0 R-L, 1 A-P, 2 S-I.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        factor: float,
        thickness: float = 1.0,
        kind: Kind = "gaussian",
        *,
        world_axis: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.drawn, self.world_axis = pairs.Drawn(kind, factor, thickness), world_axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the two images for each key."""
        out = dict(data)
        for key in self.key_iterator(out):
            axis = geometry.world_axes(_affine(out[key])).index(self.world_axis)
            out.update(_degraded(str(key), out[key], "throughplane", self.drawn, axis))
        return out


def _degraded(
    key: str, image: MetaTensor, job: Job, drawn: pairs.Drawn, axis: int
) -> dict[Hashable, Any]:
    """The degraded image on its own grid and, interpolated, on the grid of ``image``.

    ``axis`` is the array axis across the slices in-plane, the degraded one through-plane.
    """
    affine, to = _affine(image), 1 if job == "inplane" else 2
    x = image.as_tensor().movedim(axis + 1, to)  # where the job's operator expects it
    operator = pairs.pair_operator(job, drawn, (x.shape[-2], x.shape[-1]))
    low = operator(x)
    along = [a != axis if job == "inplane" else a == axis for a in range(3)]
    factors = [1 / drawn.factor if degraded else 1.0 for degraded in along]
    _, low_affine = geometry.resampled_grid(image.shape[1:], affine, factors)
    meta = {name: value for name, value in image.meta.items() if name != "affine"}
    images = {"low": (low, low_affine), "up": (operator.interpolate(low), affine)}
    return {
        f"{key}_{name}": MetaTensor(
            y.movedim(to, axis + 1), affine=torch.as_tensor(grid), meta=dict(meta)
        )
        for name, (y, grid) in images.items()
    }


def _affine(image: MetaTensor) -> geometry.Affine:
    if not isinstance(image, MetaTensor) or image.ndim != 4:
        raise TypeError(f"expected a MetaTensor (1, i, j, k), got {type(image).__name__}")
    return np.asarray(image.affine.cpu().numpy(), dtype=np.float64)
