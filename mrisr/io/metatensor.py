"""MONAI MetaTensors in memory: ``(i, j, k)`` or channel first ``(1, i, j, k)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import Storage, Volume, VolumeFile
from mrisr.io import checks

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor

_SOURCE = "in-memory MetaTensor"


def from_image(tensor: MetaTensor, *, allow_constant: bool = False) -> VolumeFile:
    """A MetaTensor as a Volume; its affine is RAS unless its metadata says LPS. Raises InputError."""
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[0] != 1):
        raise InputError(_SOURCE, expected="shape (i, j, k) or (1, i, j, k)", found=str(shape))
    values = tensor.as_tensor().detach().cpu()
    if values.is_complex() or (values.is_floating_point() and values.itemsize < 2):
        expected = "real voxels, floating-point ones of 16 bits or more"
        raise InputError(_SOURCE, expected=expected, found=str(values.dtype))
    if str(values.dtype) == "torch.bfloat16":  # which numpy does not have
        values = values.float()
    array = values.numpy().reshape(shape[-3:])
    grid = np.asarray(tensor.affine.detach().cpu().numpy(), dtype=np.float64)
    if grid.shape != (4, 4):
        raise InputError(_SOURCE, expected="a 4x4 affine", found=f"shape {grid.shape}")
    space = str(getattr(tensor.meta.get("space"), "value", tensor.meta.get("space") or "RAS"))
    if space == "LPS":
        grid = geometry.LPS_TO_RAS @ grid
    elif space != "RAS":
        raise InputError(_SOURCE, expected="space RAS or LPS", found=repr(space))
    checks.check_affine(grid, _SOURCE)
    checks.check_values(array, _SOURCE, allow_constant=allow_constant)
    return VolumeFile(Volume(array, grid, storage=Storage(array.dtype), name=_SOURCE))


def to_image(volume: Volume, original: MetaTensor) -> MetaTensor:
    """A Volume as a MetaTensor in RAS, of the original's dtype, device, number of axes and file name.

    Integer tensors get rounded values, clipped to their range.
    """
    import torch

    values = volume.array
    if not original.dtype.is_floating_point:
        dtype = np.dtype(str(original.dtype).removeprefix("torch."))
        values = Storage(dtype).encode(np.asarray(values, dtype=np.float64))
    data = torch.from_numpy(np.array(values, order="C"))
    if original.ndim == 4:
        data = data[None]
    image = _tensor(data.to(device=original.device, dtype=original.dtype), volume)
    if name := original.meta.get("filename_or_obj"):  # after which SaveImage calls its file
        image.meta["filename_or_obj"] = name
    return image


def as_metatensor(volume: Volume) -> MetaTensor:
    """A Volume as a float32 MetaTensor ``(1, i, j, k)`` with its affine (float64, RAS)."""
    import torch

    values = np.ascontiguousarray(volume.array, dtype=np.float32)[None]
    return _tensor(torch.from_numpy(values), volume)


def _tensor(data: torch.Tensor, volume: Volume) -> MetaTensor:
    import torch
    from monai.data import MetaTensor
    from monai.utils.enums import SpaceKeys

    affine = torch.as_tensor(volume.affine.copy())
    return MetaTensor(data, affine=affine, meta={"space": SpaceKeys.RAS})
