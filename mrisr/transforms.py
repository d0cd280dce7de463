"""MONAI transforms: super-resolution with its inverse, and from :mod:`mrisr.data.transforms` loading and
degradation.

Images are MetaTensors, channel first ``(1, i, j, k)``, with a RAS affine; nothing is reoriented.
"""

import json
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.transform import MapTransform
from monai.utils.enums import TraceKeys

from mrisr.core.options import InPlane, Job, ThroughPlane, split_options
from mrisr.data.transforms import (
    DegradeInPlaned,
    DegradeThroughPlaned,
    LoadVolumed,
    RandDegradeInPlaned,
)
from mrisr.io import as_file, like
from mrisr.models.store import Model
from mrisr.physics.measurement import Measurement
from mrisr.physics.separable import Axis, SeparableOperator
from mrisr.restore import model_of
from mrisr.runs.results import upsample

__all__ = [
    "DegradeInPlaned",
    "DegradeThroughPlaned",
    "LoadVolumed",
    "RandDegradeInPlaned",
    "SuperResolve",
    "SuperResolved",
]


class SuperResolve(InvertibleTransform):
    """Super-resolve an image as ``mrisr.inplane`` or ``mrisr.throughplane`` does.

    The inverse is the measurement: an image or class probabilities ``(c, i, j, k)`` on the fine grid, brought
    by the operator ``A`` of the run to the voxels that were measured.

    Args:
        job: ``inplane`` or ``throughplane``.
        **options: the fields of :class:`~mrisr.core.options.InPlane` or
            :class:`~mrisr.core.options.ThroughPlane`.

    Raises:
        UsageError, InputError: as the two functions.
    """

    def __init__(self, job: Job = "inplane", **options: Any) -> None:
        kind = InPlane if job == "inplane" else ThroughPlane
        (self.settings,) = split_options(options, kind)

    @cached_property
    def model(self) -> Model:
        """The model, loaded once."""
        return model_of(self.settings, self.settings.job)

    def __call__(self, img: MetaTensor) -> MetaTensor:
        """The image on the fine grid, of the same type and device."""
        made = upsample(as_file(img), self.settings, model=self.model)
        out = like(made.volume, img)
        out.applied_operations = list(img.applied_operations)
        assert isinstance(made.measurement, Measurement)
        axes, order = made.measurement.operator.axes, made.measurement.placed.order
        told = {
            "axes": {order[dim] - 3: vars(axis) for dim, axis in axes.items()},
            "affine": img.affine.tolist(),
        }
        # As text, which goes through collating and its reverse unchanged.
        info = {"measured": json.dumps(told)}
        self.push_transform(out, orig_size=tuple(img.shape[1:]), extra_info=info)  # type: ignore[no-untyped-call]
        return out

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """``A x`` on the measured voxels, float32. Raises RuntimeError: this transform was not the last."""
        told = json.loads(self.pop_transform(data)[TraceKeys.EXTRA_INFO]["measured"])
        axes = {int(dim): Axis(**axis) for dim, axis in told["axes"].items()}
        meta = {name: value for name, value in data.meta.items() if name != "affine"}
        y = SeparableOperator(axes)(data.as_tensor())
        grid = torch.tensor(told["affine"], dtype=torch.float64)
        out = MetaTensor(y, meta=meta, affine=grid)
        out.applied_operations = data.applied_operations
        return out


class SuperResolved(MapTransform, InvertibleTransform):
    """:class:`SuperResolve` for the entries of a dictionary.

    Args:
        keys: images ``(1, i, j, k)``.
        job: as of :class:`SuperResolve`.
        **options: the same.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        job: Job = "inplane",
        *,
        allow_missing_keys: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = SuperResolve(job, **options)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the images on the fine grid."""
        return {**data, **{key: self.transform(data[key]) for key in self.key_iterator(data)}}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A copy of ``data`` with the images on the voxels that were measured."""
        return {
            **data,
            **{key: self.transform.inverse(data[key]) for key in self.key_iterator(data)},
        }
