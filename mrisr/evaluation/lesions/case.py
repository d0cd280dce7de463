"""Stacks whose zones are known: lesions put in, degraded, restored, looked for; and which patients may be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import affine_transform

from mrisr.config import Plane
from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.labels import ZONES
from mrisr.core.options import STRONGEST
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume
from mrisr.data.sources import Entry, find_sources
from mrisr.evaluation import degraded
from mrisr.evaluation.case import Case, Scale, Scored
from mrisr.evaluation.degraded import measurement_of
from mrisr.evaluation.lesions.observer import area_under_curve, false_and_lost, reach_of_correlation
from mrisr.evaluation.lesions.places import (
    Floats,
    Lesion,
    Pixel,
    contrast_at,
    draw_lesions,
    measured_spots,
    template,
    with_lesions,
)
from mrisr.evaluation.methods import Method, Report, held_out_cases
from mrisr.evaluation.settings import LesionsSettings
from mrisr.evaluation.zones.case import labelled_stack
from mrisr.io import read_volume
from mrisr.physics.measurement import noise_level
from mrisr.zones.segmenter import load_segmenter

#: Of the slices beside the gland so much is restored too, mm, which holds the largest surround.
MARGIN_MM = 12.0
#: Edge of the windows that the pictures show, mm.
SHOWN_MM = 24.0


@dataclass(frozen=True, eq=False)
class LesionsCase(Case):
    """A patient's stack, slices first and rows down, and the zones on its grid; ``drawn`` keeps the lesions
    of a factor."""

    image: Volume
    zones: Volume
    settings: LesionsSettings
    drawn: dict[float, list[list[Lesion]]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        return degraded.digest_of(self.image, self.zones)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the scan's noise, in its units."""
        return noise_level(self.image) * scaling(self.image.array)[1]

    def part(self, scale: Scale) -> tuple[Volume, Volume]:
        """Image and zones of the slices in the middle of the gland with a margin, as far as a factor can
        degrade them."""
        held = np.argwhere(np.greater(self.zones.array, 0))
        first, last = held.min(0), held.max(0) + 1
        spare = max(int(last[0] - first[0]) - self.settings.slices, 0)
        margin = np.rint(MARGIN_MM / self.image.spacing).astype(int)
        margin[0] = -(spare // 2)
        first, last = np.maximum(first - margin, 0), np.minimum(last + margin, self.image.shape)
        last[0] = min(last[0], first[0] + self.settings.slices)
        image, zones = self.image, self.zones
        for axis in range(3):
            ends = int(first[axis]), int(last[axis])
            image, zones = (degraded.cut(v, axis, *ends) for v in (image, zones))
        along = 0 if self.settings.job == "inplane" else 1
        image, zones = (replace(v, stacked_along=along) for v in (image, zones))
        shape = degraded.degraded_shape(image, self.settings, scale.factor)
        return degraded.central(image, shape), degraded.central(zones, shape)

    def lesions(self, scale: Scale) -> list[list[Lesion]]:
        """Lesions of every pass, and of one more that erases measured dark spots."""
        if scale.factor not in self.drawn:
            image, zones = self.part(scale)
            s, labels = self.settings, np.asarray(zones.array, dtype=np.uint8)
            drawn = draw_lesions(
                labels, pixel_of(image), s.diameters, s.contrasts, s.passes, s.seed
            )
            spots = measured_spots(
                images_of(image), labels, pixel_of(image), s.diameters, s.threshold
            )
            self.drawn[scale.factor] = [*drawn, spots]
        return self.drawn[scale.factor]

    def score(self, method: Method, scale: Scale) -> Scored:
        """Restore the slices as they are and with the lesions of every pass, with the same noise; a method
        without a model leaves them as they are."""
        image, zones = self.part(scale)
        pixel, truth, settings = pixel_of(image), images_of(image), self.settings
        if settings.scan_noise:
            level = min(self.noise / scaling(image.array)[1], STRONGEST)
            settings = settings.model_copy(update={"noise": level})

        def restored(images: Floats) -> Floats:
            if method.model is None:
                return images
            measured = measurement_of(image.with_array(images), settings, scale, settings.seed)
            return images_of(method.restore(measured).volume)

        absent, wall, processor = degraded.clocked(lambda: restored(truth))
        found: list[dict[str, Any]] = []
        shown: dict[str, Floats] = {}
        for lesions in self.lesions(scale):
            wanted = with_lesions(truth, lesions, pixel)
            present = restored(wanted)
            for lesion in lesions:
                seen = _looked_at(lesion, (truth, wanted, absent, present), pixel)
                found.append(lesion._asdict() | seen)
                if lesion.diameter == settings.shown and lesion.contrast > 0:
                    pair = np.stack([around(x, lesion, pixel) for x in (absent, present)])
                    pair = (pair - truth.min()) / scaling(truth)[1]
                    shown.setdefault(f"{lesion.contrast:.0%}", pair)
        costs = {
            "seconds": wall / len(truth),
            "cpu_seconds": processor / len(truth),
            "evaluations": method.evaluations,
        }
        return Scored(
            figures=summary(found)
            | self._without_lesions(absent, image, zones, scale.factor)
            | (costs if method.model else {}),
            pictures=shown,
            facts={"noise_level": settings.noise, "kinds": kinds(found)},
        )

    def _without_lesions(
        self, result: Floats, image: Volume, zones: Volume, factor: float
    ) -> dict[str, float]:
        """False and lost spots per cm3 of gland, and how far windows correlate with the truth: the mean
        frequency, and the share of windows in percent where it is less than the coarse grid's Nyquist
        frequency."""
        settings, pixel, truth = self.settings, pixel_of(image), images_of(image)
        gland = np.greater(zones.array, 0)
        volume = np.count_nonzero(gland) * float(np.prod(image.spacing)) / 1000
        counts = false_and_lost(result, truth, gland, settings.diameters, settings.threshold, pixel)
        reach = reach_of_correlation(result, truth, gland, settings.job, pixel)
        below = np.mean(reach < 0.5 / (factor * pixel[0]) - 1e-6)
        found = {"false": counts[0] / volume, "lost": counts[1] / volume, "frc": reach.mean()}
        return {name: float(v) for name, v in (found | {"uncorrelated": 100 * below}).items()}


def _looked_at(lesion: Lesion, images: Sequence[Floats], pixel: Pixel) -> dict[str, float]:
    """What of a lesion's contrast is left, and the observer's answer with and without it.

    Args:
        images: the truth, the same with lesions, and what was restored of the two.
    """
    core, window = template(lesion.diameter, pixel).disc >= 0.5, lesion.window(pixel)
    truth, wanted, absent, present = (float(x[window][core].sum()) for x in images)
    return {
        "recovery": (absent - present) / (truth - wanted),
        "present": contrast_at(images[3], lesion, pixel),
        "absent": contrast_at(images[2], lesion, pixel),
    }


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over lesions of the share of contrast that is left (``recovery``), over their kinds of the area
    under the ROC curve (``auc``), by names such as ``recovery.3 mm``, ``auc.10%`` and ``auc.PZ``;
    ``recovery.erased`` is that of spots that were erased."""
    kept: dict[str, list[float]] = {}
    for lesion in found:
        for name in _groups(lesion):
            kept.setdefault(f"recovery.{name}", []).append(lesion["recovery"])
    areas: dict[str, list[float]] = {}
    for kind in kinds(found):
        for name in _groups(kind):
            areas.setdefault(f"auc.{name}", []).append(kind["auc"])
    return {name: float(np.mean(values)) for name, values in (kept | areas).items()}


def _groups(lesion: Mapping[str, Any]) -> list[str]:
    if lesion["contrast"] < 0:
        return ["erased"]
    return [f"{lesion['diameter']:g} mm", f"{lesion['contrast']:.0%}", lesion["zone"], "all"]


def kinds(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every kind of inserted lesion (zone, diameter, contrast): number, mean recovery, area under the ROC
    curve against the places of all lesions of that zone and diameter without them."""
    inserted = [x for x in found if x["contrast"] > 0]
    rows = []
    for zone, d, c in sorted({(x["zone"], x["diameter"], x["contrast"]) for x in inserted}):
        alike = [x for x in inserted if (x["zone"], x["diameter"]) == (zone, d)]
        own = [x for x in alike if x["contrast"] == c]
        area = area_under_curve([x["present"] for x in own], [x["absent"] for x in alike])
        kept = float(np.mean([x["recovery"] for x in own]))
        head = {"zone": zone, "diameter": d, "contrast": c, "lesions": len(own)}
        rows.append(head | {"recovery": kept, "auc": area})
    return rows


def around(images: Floats, lesion: Lesion, pixel: Pixel) -> Floats:
    """The square around a lesion that the pictures show, as far as its image reaches."""
    image, *centre = lesion.centre
    halves = [round(SHOWN_MM / 2 / p) for p in pixel]
    starts = [
        min(max(c - h, 0), max(n - 2 * h, 0))
        for c, h, n in zip(centre, halves, images.shape[1:], strict=True)
    ]
    rows, columns = (slice(a, a + 2 * h) for a, h in zip(starts, halves, strict=True))
    return images[image, rows, columns]


def pixel_of(image: Volume) -> Pixel:
    """Rows and columns of a pixel, mm, of slices along the first axis."""
    _, rows, columns = image.spacing
    return float(rows), float(columns)


def images_of(volume: Volume) -> Floats:
    """A volume's slices ``(n, rows, columns)``, float32."""
    return np.ascontiguousarray(volume.array, dtype=np.float32)


# --- patients -------------------------------------------------------------------------------------


def find_cases(
    data: Path,
    settings: LesionsSettings,
    methods: Iterable[Method],
    report: Report = lambda line: None,
) -> list[LesionsCase]:
    """The stacks of the patients to score: axial ones in-plane, coronal ones through the plane, with the
    zones of the axial stack; a segmenter finds these where there are no labels, and a note says so.

    Args:
        data: a folder of patients or a manifest, as for ``mrisr prepare``.

    Raises:
        InputError: a patient or a gland is missing; labels are none of the image's.
        UsageError: a model was trained on a patient to score, and that was not allowed.
    """
    names = held_out_cases(settings, methods, report)
    entries: dict[str, list[Entry]] = {name: [] for name in names}
    for entry in find_sources(data, report):
        entries.get(entry.case, []).append(entry)
    missing = [name for name in names if not entries[name]]
    if missing:
        raise InputError(data, expected=f"patients {', '.join(missing)}", found="none of them")
    segmenter = cache(lambda: load_segmenter(settings.segmenter))
    plane: Plane = "axial" if settings.job == "inplane" else "coronal"
    cases = []
    for name in names:
        stacks = [(e, read_volume(e.path, series=e.uid)) for e in entries[name]]
        own = [(e.series, v) for e, v in stacks if v.plane == plane]
        axial = labelled_stack(e for e in entries[name] if e.labels)
        if not own or not (axial or any(v.plane == "axial" for _, v in stacks)):
            report(
                f"left out: {name}, which has no {plane} stack or no axial one to find its zones"
            )
            continue
        if axial is not None:
            zones = axial[2]
        else:
            zones = segmenter()(next(v for _, v in stacks if v.plane == "axial")).labels
            report(f"note: zones of {name} were found by the segmenter {segmenter().name}")
        image = own[0][1].reoriented(geometry.DISPLAYED[plane])
        zones = zones_on(zones, image)
        if not all((zones.array == label).any() for label in ZONES.values()):
            raise InputError(
                entries[name][0].path.parent, expected="PZ and TZ", found="no such zones"
            )
        cases.append(LesionsCase(name, own[0][0], image, zones, settings))
    if not cases:
        raise InputError(data, expected=f"{plane} stacks of {', '.join(names)}", found="none")
    return cases


def zones_on(labels: Volume, image: Volume) -> Volume:
    """Labels at the voxels of another image of the patient: those of the nearest voxels, 0 outside."""
    across = np.linalg.inv(labels.affine) @ image.affine
    array = affine_transform(
        labels.array, across[:3, :3], across[:3, 3], output_shape=image.shape, order=0
    )
    return replace(image, array=array, storage=labels.storage, name=labels.name)
