"""MONAI dictionary transforms over the readers and the degradation operators.

Images are MetaTensors, channel first ``(1, i, j, k)``, with a RAS affine; nothing is reoriented.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from mrisr.core import geometry
from mrisr.io import read_volume
from mrisr.io.metatensor import as_metatensor
from mrisr.physics.separable import Axis, Interpolation, Kind, SeparableOperator

#: How an array axis is degraded: factor, kind, thickness over spacing, interpolation.
_How: TypeAlias = tuple[float, Kind, float, Interpolation]


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
        for key in self.key_iterator(out):
            out.update(_in_plane(str(key), out[key], self.scale, self.kind, self.axis))
        return out


class RandDegradeInPlaned(MapTransform, Randomizable):
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
        super().__init__(keys, allow_missing_keys)
        low, high = scale_range
        if not 1 <= low <= high:
            raise ValueError(f"expected 1 <= low <= high in scale_range, got {scale_range}")
        self.scale_range, self.kind, self.axis = scale_range, kind, axis
        self.scale = low

    def randomize(self, data: Any = None) -> None:
        """Draw ``scale``."""
        low, high = np.log(self.scale_range)
        self.scale = float(np.exp(self.R.uniform(low, high)))

    def apply(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Degrade by the stored ``scale``."""
        out = dict(data)
        for key in self.key_iterator(out):
            out.update(_in_plane(str(key), out[key], self.scale, self.kind, self.axis))
        return out

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
        self.factor, self.thickness, self.kind = factor, thickness, kind
        self.world_axis = world_axis

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the two images for each key."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = out[key]
            axis = geometry.world_axes(_affine(image)).index(self.world_axis)
            how: _How = (self.factor, self.kind, self.thickness, "bspline")
            out.update(_degraded(str(key), image, {axis: how}))
        return out


def _in_plane(
    key: str, image: MetaTensor, scale: float, kind: Kind, axis: int | None
) -> dict[Hashable, Any]:
    stacked = geometry.slice_axis(_affine(image)) if axis is None else axis
    return _degraded(
        key, image, {a: (scale, kind, 1.0, "bicubic") for a in range(3) if a != stacked}
    )


def _degraded(key: str, image: MetaTensor, how: dict[int, _How]) -> dict[Hashable, Any]:
    """The degraded image on its own grid and, interpolated, on the grid of ``image``."""
    shape, affine = tuple(image.shape[1:]), _affine(image)
    inverse = [1.0 / how[a][0] if a in how else 1.0 for a in range(3)]
    low_shape, low_affine = geometry.resampled_grid(shape, affine, inverse)
    operator = SeparableOperator({a - 3: Axis(shape[a], low_shape[a], *h) for a, h in how.items()})
    low = operator(image.as_tensor())
    meta = {name: value for name, value in image.meta.items() if name != "affine"}
    up = operator.interpolate(low)
    return {
        f"{key}_low": MetaTensor(low, affine=torch.as_tensor(low_affine), meta=dict(meta)),
        f"{key}_up": MetaTensor(up, affine=torch.as_tensor(affine), meta=dict(meta)),
    }


def _affine(image: MetaTensor) -> geometry.Affine:
    if not isinstance(image, MetaTensor) or image.ndim != 4:
        raise TypeError(f"expected a MetaTensor (1, i, j, k), got {type(image).__name__}")
    return np.asarray(image.affine.cpu().numpy(), dtype=np.float64)
