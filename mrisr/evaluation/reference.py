"""A real axial stack restored, against another scan of the same patient: through the plane his coronal one,
in-plane a second axial one of a patient who was scanned twice.

The coronal scan is a reference, not the truth: another acquisition, minutes apart, with thick slices and
intensities of its own. Protocol of Zhao et al. 2023 (PartDiff): upsample the axial stack along S-I, average
neighbouring A-P rows over the coronal slice's thickness, compare. docs/explanation/reference-scan.md explains
the registration, the overlap and the fit of intensities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrisr import metrics
from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.options import Job
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume
from mrisr.data.sources import find_sources
from mrisr.evaluation import degraded
from mrisr.evaluation.case import BANDS, Case, Scale, Scored
from mrisr.evaluation.methods import Method
from mrisr.evaluation.overlap import Overlap, find_overlap, overlap_centre, upright
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.io import read_volume, stem
from mrisr.io.checks import read_json
from mrisr.physics.measurement import Measurement
from mrisr.physics.noise import grain
from mrisr.planes.registration import Registration, register_rigid

Images = Sequence[NDArray[np.float64]]

#: A-P rows restored beyond those that are compared: for the spline that samples them and, where the sagittal
#: reformats are restored too, for what a network sees around a pixel.
MARGIN = {"coronal": 12, "both": 48}
#: Standard deviation in mm of the blur by which it is told whether a score rewards blur.
BLUR = 1.0


@dataclass(frozen=True, eq=False)
class ReferenceCase(Case):
    """A patient's axial stack, which methods restore, and the other scan that they are compared with.

    In-plane the stack is first degraded. Both scans have noise of their own, so what correlates between a
    result and the other scan, band by band of frequency, was there; how two samples of a prior agree
    with each other would not tell that.
    """

    axial: Volume
    other: Volume
    settings: EvaluationSettings
    further: Mapping[str, Volume] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        return degraded.digest_of(self.axial, self.other, *self.further.values())

    @cached_property
    def reference(self) -> Volume:
        """The other scan, upright."""
        return upright(self.other)

    @cached_property
    def region(self) -> tuple[NDArray[np.float64], float] | None:
        """What is compared: the centre of the overlap before registration, RAS mm of the other scan, and
        its extent in mm; None for everything that both show. Raises InputError."""
        edge = self.settings.region
        return None if edge is None else (overlap_centre(self.reference, self.axial), edge)

    @cached_property
    def registration(self) -> Registration:
        """The other scan's motion to the axial stack as it was measured, so that no method is favoured.

        Raises:
            InputError: the scans do not overlap, or the result is not to be believed.
        """
        found = register_rigid(self.reference, self.axial, self.region)
        if found.doubt is not None:
            expected = f"a scan that registers to {self.axial.name}"
            raise InputError(self.other.name, expected=expected, found=found.doubt)
        return found

    @cached_property
    def overlap(self) -> Overlap:
        """Where both scans show the patient. Raises InputError where that is nowhere."""
        matrix, rows = self.registration.matrix, self.settings.rows
        return find_overlap(self.reference, self.axial, matrix, rows, self.region)

    def score(self, method: Method, scale: Scale) -> Scored:
        """Upsample what of the axial stack is compared, and compare it with the other scan.

        Raises:
            InputError: the scans cannot be registered, or a volume made elsewhere cannot be used.
        """
        motion, overlap = self.registration, self.overlap
        volume, cost, facts = self._upsampled(method, scale)
        # how much coarser than the coronal rows the axial slices are
        step = self.axial.spacing[self.axial.slice_axis] / self.reference.spacing[1]
        if self.settings.job == "inplane":
            step = scale.factor
        compared = compare(overlap, volume, max(1.0, float(step)), self.settings.job)
        where = {
            "shift_mm": np.round(motion.shift_mm, 3).tolist(),
            "angles_deg": np.round(motion.angles_deg, 3).tolist(),
            "mutual_information": np.round(motion.information, 4).tolist(),
            "overlap_mm": np.round(overlap.size_mm, 1).tolist(),
            "overlap_slices": len(overlap.boxes),
            "rows": overlap.rows,
        }
        figures = {**cost, "evaluations": method.evaluations}
        return replace(compared, figures=figures, facts={**where, **compared.facts, **facts})

    def _upsampled(
        self, method: Method, scale: Scale
    ) -> tuple[Volume, dict[str, float], dict[str, Any]]:
        """A volume to compare, its cost and agreement with the measurement, and facts."""
        path = method.volume_path(self.name)
        if path is None and method.entry.planes:
            return self._joined(method, scale)
        if path is None:
            measurement = self.measurement(scale)
            restored = method.restore(measurement)
            images = sum(measurement.y.shape[3 - view] for view in measurement.views)
            facts = {"images": images, **degraded.notes_of(restored.notes)}
            return restored.volume, degraded.figures_of(restored, method), facts
        beside = path.with_name(stem(path) + ".json")  # CASE.json beside CASE.nii.gz
        content = read_json(beside, "the cost of a volume as JSON") if beside.exists() else {}
        cost = {k: content.get(k) for k in ("seconds", "cpu_seconds")}
        spent = {k: float(v) for k, v in cost.items() if isinstance(v, (int, float))}
        reformats = self.axial.shape[geometry.world_axes(self.axial.affine).index(1)]
        each = {k: spent.get(k, np.nan) / reformats for k in ("seconds", "cpu_seconds")}
        return read_volume(path), each, {"made_elsewhere": spent} if spent else {}

    def _joined(
        self, method: Method, scale: Scale
    ) -> tuple[Volume, dict[str, float], dict[str, Any]]:
        """The isotropic volume of the axial stack and further ones, as :meth:`_upsampled`."""
        spacing = float(self.axial.spacing[self.axial.slice_axis]) / scale.factor
        measurement = self.measurement(scale)
        made, wall, processor = degraded.clocked(
            lambda: method.join(measurement, self.further, self.settings.kind, spacing)
        )
        images = sum(m.y.shape[3 - view] for m in made.measurements for view in m.views)
        cost = {"seconds": wall / images, "cpu_seconds": processor / images}
        slices = torch.from_numpy(made.volume.array.transpose(made.grid.order).astype(np.float32))
        scan = grain(measurement.y) * made.grid.scale / 2
        figures = {
            "noise": grain(slices) / max(scan, 1e-9),
            "residual": made.residual(made.volume)["rms_of_range"],
            "evaluations": made.lead.evaluations,
            **cost,
        }
        return made.volume, figures, degraded.planes_of(made) | degraded.notes_of(made.notes)

    def measurement(self, scale: Scale) -> Measurement:
        """The part of the axial stack that is needed, with the intensity scale of the whole; in-plane the
        stack degraded, whose noise is estimated as that of a scan."""
        if self.settings.job == "inplane":
            shape = degraded.degraded_shape(self.axial, self.settings, scale.factor)
            truth, scale = degraded.central(self.axial, shape), Scale("degraded", scale.factor)
            return degraded.measurement_of(truth, self.settings, scale).with_estimated_noise()
        low, high = self.overlap.extent(self.axial)
        world = geometry.world_axes(self.axial.affine)
        axis = world.index(1)
        margin = MARGIN[self.settings.views]
        first = max(int(np.floor(low[axis])) - margin, 0)
        last = min(int(np.ceil(high[axis])) + margin + 1, self.axial.shape[axis])
        part = degraded.measurement_of(
            degraded.cut(self.axial, axis, first, last), self.settings, scale
        )
        views = part.views
        if self.settings.views == "coronal":  # whose columns run along L-R
            views = tuple(view for view in (1, 2) if world[part.placed.order[view]] == 0)
        return replace(_rescaled(part, self.axial), views=views)


def _rescaled(part: Measurement, whole: Volume) -> Measurement:
    """The measurement of a part of a volume, with the scale and the noise of the whole."""
    old = part.placed
    offset, scale = scaling(whole.array)
    low, high = ((b + 1) * old.scale / 2 + old.offset for b in part.bounds)
    grid = replace(old, offset=offset, scale=scale)
    bounds = (2 * (low - offset) / scale - 1, 2 * (high - offset) / scale - 1)
    part = replace(part, y=grid.stack(whole), bounds=bounds, grid=grid).with_estimated_noise()
    return replace(part, y=grid.stack(old.measured))


def reference_cases(
    data: Path, settings: EvaluationSettings, names: Sequence[str]
) -> list[ReferenceCase]:
    """The patients with an axial and a coronal scan, in-plane with two axial ones; the first by name.

    Args:
        data: a folder of patients or a manifest, as for ``mrisr prepare``.
        names: the patients to score. One that lacks a scan is left out, unless ``settings.cases`` names it.

    Raises:
        InputError: a patient that was named or its scan is missing, no patient has both scans, or a file
            cannot be read.
    """
    entries = [entry for entry in find_sources(data) if entry.case in names]
    missing = sorted(set(names) - {entry.case for entry in entries})
    if missing:
        raise InputError(data, expected=f"the patients {', '.join(missing)}", found="none of them")
    cases = []
    other, article = ("axial", "another") if settings.job == "inplane" else ("coronal", "a")
    for name in names:
        scans: dict[str, list[tuple[str, Volume]]] = {}
        for entry in sorted((e for e in entries if e.case == name), key=lambda e: e.series):
            volume = read_volume(entry.path, series=entry.uid)
            scans.setdefault(volume.plane, []).append((entry.series, volume))
        others = scans.get(other, [])[other == "axial" :]
        if "axial" in scans and others:
            further = {p: found[0][1] for p, found in scans.items() if p not in ("axial", other)}
            series, axial = scans["axial"][0]
            cases.append(ReferenceCase(name, series, axial, others[0][1], settings, further))
        elif name in settings.cases:
            lacking = other if "axial" in scans else "axial"
            found = f"{', '.join(sorted(scans))} only"
            raise InputError(data / name, expected=f"a scan that is {lacking}", found=found)
    if not cases:
        wanted = f"an axial and {article} {other} scan of one of {', '.join(names)}"
        raise InputError(data, expected=wanted, found="none")
    return cases


def compare(overlap: Overlap, volume: Volume, factor: float, job: Job = "throughplane") -> Scored:
    """Scores of a volume against the reference, slice by slice of the overlap; and one slice of both.

    One gain and one offset for the whole volume bring its intensities to the reference's: the least squares
    of the two, for PSNR and SSIM; and equal mean and standard deviation, for the spectrum and
    the texture, because least squares lowers the contrast by whatever the two scans do not share and would
    book that as blur. Both are then scaled to the reference volume's 0..99.5 percentile and clipped.

    ``blurred`` among the facts is a control: PSNR and NCC after a Gaussian blur along the rows' axis. Where
    they rise by it they reward blur, and a sharper result cannot win by them.

    Args:
        factor: how much coarser than the reference's rows the measured slices are, for ``texture``.
        job: whether along the rows alone (``throughplane``), or along rows and columns.
    """
    from scipy.ndimage import gaussian_filter1d

    low, span = scaling(overlap.reference.array)

    def unit(images: Images, gain: float = 1.0, offset: float = 0.0) -> list[Tensor]:
        scaled = [(gain * image + offset - low) / span for image in images]
        return [torch.from_numpy(image).float().clamp(0, 1)[None, None] for image in scaled]

    found, wanted = overlap.sample(volume), overlap.images()
    fits = {"least_squares": _fit(found, wanted), "equal_spread": _fit(found, wanted, spread=True)}
    fitted, spread = (unit(found, *fit) for fit in fits.values())
    true = unit(wanted)
    slices = {}
    for name, measure in degraded.image_metrics(job, factor).items():
        images = fitted if name in ("psnr", "ssim") else spread
        slices[name] = [float(measure(a, b)) for a, b in zip(images, true, strict=True)]
    rows_mm, columns_mm = (float(s) for s in overlap.reference.spacing[1:])
    dims = (-2, -1) if job == "inplane" else (-2,)
    for i, band in enumerate(BANDS, 1):
        slices[f"band{i}"] = [
            float(metrics.band_correlation(a, b, band, (rows_mm, columns_mm), dims))
            for a, b in zip(fitted, true, strict=True)
        ]
    slices["ncc"] = [correlation(a, b) for a, b in zip(found, wanted, strict=True)]
    sigma = BLUR / float(overlap.reference.spacing[1])
    soft = [gaussian_filter1d(image, sigma, axis=0, mode="nearest") for image in found]
    blurred = unit(soft, *_fit(soft, wanted))
    psnr = np.mean([float(metrics.psnr(a, b)) for a, b in zip(blurred, true, strict=True)])
    ncc = np.mean([correlation(a, b) for a, b in zip(soft, wanted, strict=True)])
    facts: dict[str, Any] = {name: np.round(fit, 5).tolist() for name, fit in fits.items()}
    facts["blurred"] = {
        "sigma_mm": BLUR,
        "psnr": round(float(psnr), 4),
        "ncc": round(float(ncc), 4),
    }
    shown = {"result": fitted, "reference": true}
    pictures = {k: degraded.centre(v[len(v) // 2][0, 0].numpy()) for k, v in shown.items()}
    return Scored({}, slices, pictures, facts)


def correlation(result: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Normalised cross-correlation of two images, -1 to 1; 0 where one of them is flat."""
    a, b = result - result.mean(), reference - reference.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / norm) if norm > 0 else 0.0


def _fit(found: Images, wanted: Images, spread: bool = False) -> tuple[float, float]:
    """Gain and offset that bring ``found`` nearest to ``wanted``, or to its mean and standard deviation."""
    x, y = (np.concatenate([image.ravel() for image in images]) for images in (found, wanted))
    covariance = x.std() * y.std() if spread else ((x - x.mean()) * (y - y.mean())).mean()
    gain = float(covariance / x.var()) if x.var() > 0 else 0.0
    return gain, float(y.mean() - gain * x.mean())
