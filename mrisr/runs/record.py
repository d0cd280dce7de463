"""The provenance record of an output: how it was made, and how well it agrees with the measurement."""

from __future__ import annotations

import json
import platform
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

import mrisr
from mrisr.config import Settings
from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.models.card import Adaptation

if TYPE_CHECKING:
    from mrisr.dicom.derivation import Derivation

#: Raised when a key of the record changes its name or its meaning.
FORMAT = 2
DISCLAIMER = "For research use only. Not for diagnosis."
#: Bytes of a NIfTI description.
_LINE = 79
#: Added to 100 times the source's SeriesNumber.
_SERIES_OFFSET = {"inplane": 81, "throughplane": 82, "segment": 83}


class ModelRecord(Settings):
    """Model that made an output; ``version`` is that of the program that trained it."""

    name: str
    method: str
    version: str | None = None
    sha256: str = ""


class VolumeRecord(Settings):
    """Grid and storage of a volume; no file name and no patient attribute. ``sha256`` is an input's."""

    sha256: str | None = None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    plane: str
    dtype: str
    affine_ras_mm: tuple[tuple[float, float, float, float], ...]

    @classmethod
    def of(cls, volume: Volume, sha256: str | None = None) -> VolumeRecord:
        """The record of a volume."""
        i, j, k = (round(float(s), 6) for s in volume.spacing)
        return cls(
            sha256=sha256,
            shape=volume.shape,
            spacing_mm=(i, j, k),
            orientation=geometry.axis_codes(volume.affine),
            plane=volume.plane,
            dtype=str(volume.storage.dtype),
            affine_ras_mm=np.round(volume.affine, 6).tolist(),
        )


class Residual(Settings):
    """Agreement with the measurement: RMS and maximum of ``A x - y`` in the source's units, the intensity
    range, and the RMS as a share of it and, where noise was assumed, of the noise's standard deviation."""

    rms: float
    max: float
    intensity_range: float
    rms_of_range: float
    rms_of_noise: float | None = None

    @property
    def in_words(self) -> str:
        """The RMS in units of the noise or, without noise, of the range."""
        if self.rms_of_noise is None:
            return f"residual {self.rms_of_range:.1e} of the range"
        return f"residual {self.rms_of_noise:.2f} of the noise"


class UncertaintyRecord(Settings):
    """The standard deviations of the voxels: whether errors have calibrated them, what the spread of samples
    was multiplied by, and their mean in the source's units and as a share of its intensity range."""

    calibrated: bool
    scalar: float | None = None
    mean: float
    mean_of_range: float


class PlaneRecord(Settings):
    """A further stack of the exam: its motion to the first one's frame, how far it agrees with that around
    the gland (0 to 1), and why it was left out, if it was."""

    input: VolumeRecord
    shift_mm: tuple[float, float, float] | None = None
    angles_deg: tuple[float, float, float] | None = None
    matrix_ras_mm: tuple[tuple[float, float, float, float], ...] | None = None
    correlation: float | None = None
    uncertainty_mm: float | None = None
    agreement: float
    left_out: str | None = None


class Record(Settings):
    """The record as it stands beside an output; docs/how-to/read-the-record.md explains each key."""

    format: int = FORMAT
    mrisr: str = mrisr.__version__
    job: str
    created: datetime = Field(
        default_factory=lambda: datetime.now(timezone.utc).replace(microsecond=0)
    )
    use: str = DISCLAIMER
    model: ModelRecord
    #: The settings that took effect; one without effect does not stand here.
    parameters: dict[str, Any]
    input: VolumeRecord
    output: VolumeRecord
    residual: Residual | None = None
    uncertainty: UncertaintyRecord | None = None
    adaptation: Adaptation | None = None
    planes: tuple[PlaneRecord, ...] | None = None
    volumes_ml: dict[str, float] | None = None
    #: Reasons to look at the zones; left out where there are none.
    check: tuple[str, ...] | None = None
    device: str
    precision: str | None = None
    seconds: float
    peak_memory_gib: dict[str, float]
    software: dict[str, str] = Field(
        default_factory=lambda: {"torch": torch.__version__, "python": platform.python_version()}
    )
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready values; keys without a value for this job are left out."""
        names = "residual uncertainty adaptation planes volumes_ml check precision"
        optional = set(names.split())
        without: dict[str, Any] = {k: True for k in optional if getattr(self, k) is None}
        if self.model.version is None:
            without["model"] = {"version"}
        if self.residual is not None and self.residual.rms_of_noise is None:
            without["residual"] = {"rms_of_noise"}
        return self.model_dump(mode="json", exclude={**without, "output": {"sha256"}})

    @property
    def size(self) -> str:
        """The factor as ``x4``, or how many planes were joined; empty for zones."""
        if self.planes is not None:
            return f"{1 + sum(plane.left_out is None for plane in self.planes)} planes"
        factor = self.parameters.get("scale", self.parameters.get("factor"))
        return "" if factor is None else f"x{factor:.4g}"

    @property
    def title(self) -> str:
        """The record above a picture: factor, voxels before and after, and how far they agree; of zones what
        was found, and below it what needs a look."""
        parts = [f"{zone} {ml:.1f} ml" for zone, ml in (self.volumes_ml or {}).items()]
        if self.job != "segment":
            through = self.input.spacing_mm.index(max(self.input.spacing_mm))
            axis = through if self.job == "throughplane" else (through + 1) % 3
            before, after = (v.spacing_mm[axis] for v in (self.input, self.output))
            parts = [self.size, f"{before:.3g} \u2192 {after:.3g} mm"]
        parts += [self.residual.in_words] if self.residual is not None else []
        line = " - ".join([*parts, "research use only"])
        return "\n".join([line, *(f"check: {reason}" for reason in self.check or ())])

    def line(self) -> str:
        """The record in a NIfTI description; a long name of a model is cut."""
        name, weights = self.model.name, self.model.sha256[:8]
        made = f"{self.job} {self.size} " if self.size else "zones by "
        before, after = f"mrisr {self.mrisr} {made}", f" {weights}; research use"
        return f"{before}{name[: _LINE - len(before) - len(after)]}{after}"

    def derivation(self, *, templated: bool = False) -> Derivation:
        """The record in the attributes of a derived DICOM object.

        ``templated``: the DICOM source is not the input, whose digest then tells results apart.
        """
        from mrisr.dicom.derivation import Derivation

        label, description = self._in_words()
        return Derivation(
            label=label,
            description=f"{description}. Research use only, not for diagnosis.",
            details="; ".join(f"{k} {v}" for k, v in self._details().items() if v is not None),
            version=self.mrisr,
            model_sha256=self.model.sha256,
            seed=self.parameters.get("seed", 0),
            key=json.dumps(self._decides(templated), sort_keys=True),
            series_offset=_SERIES_OFFSET[self.job],
            created=self.created,
        )

    def _in_words(self) -> tuple[str, str]:
        """Label and description of a derived object."""
        by = f"by mrisr {self.mrisr}, model {self.model.name}"
        if self.job == "segment":
            return "prostate zones", f"Zones of the prostate, segmented {by}"
        size = f"{'through-plane' if self.job == 'throughplane' else 'in-plane'} {self.size}"
        assumed = f"{self.parameters['degradation']} degradation assumed"
        return f"super-resolved {size}", f"Super-resolved {size} {by}, {assumed}"

    def _details(self) -> dict[str, object]:
        told: dict[str, object] = {"model": self.model.name, "sha256": self.model.sha256 or None}
        if self.job == "segment":
            told["method"] = self.model.method
            told |= {f"{zone}_ml": f"{ml:.2f}" for zone, ml in (self.volumes_ml or {}).items()}
            told |= {"table": self.parameters.get("table"), "device": self.device}
            told["check"] = ", ".join(self.check or ()) or None
        else:
            told |= {**self.parameters, "device": self.device, "precision": self.precision}
        if self.adaptation is not None and self.adaptation.kept:
            told["adapted_from"] = self.adaptation.base_sha256
        if self.residual is not None:
            told["residual_rms_of_range"] = f"{self.residual.rms_of_range:.2e}"
            told["residual_rms_of_noise"] = self.residual.rms_of_noise
        return {**told, "input_sha256": self.input.sha256}

    def _decides(self, templated: bool) -> dict[str, object]:
        """Everything that decides the voxels: UIDs follow from it."""
        content = self.as_dict()
        keys = ["mrisr", "job", "model", "parameters"]
        if self.job == "segment":  # of the source or of an image made of it: its grid tells
            return {key: content[key] for key in [*keys, "input"]}
        decides = {key: content[key] for key in [*keys, "precision"]}
        if self.planes is not None:
            decides["planes"] = [plane.input.sha256 for plane in self.planes]
        decides["device"] = self.device.partition(":")[0]
        return {**decides, "input": self.input.sha256} if templated else decides


def device_name(device: torch.device) -> str:
    """A device as the record names it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory_gib(device: torch.device) -> dict[str, float]:
    """Peak resident memory of this process and, on CUDA, peak memory of the device, in GiB."""
    if sys.platform == "win32":
        import psutil

        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    memory = {"process": round(peak / 2**30, 3)}
    if device.type == "cuda":
        memory["device"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return memory
