"""Labelled stacks: what restoration makes of them, segmented and scored; and the patients that may be."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr import metrics
from mrisr.config import Job
from mrisr.core.errors import InputError, UsageError
from mrisr.core.labels import Misplaced
from mrisr.core.options import Segmenting
from mrisr.core.statistics import scaling
from mrisr.core.volume import Volume
from mrisr.data.labels import read_labels
from mrisr.data.sources import Entry, find_sources
from mrisr.evaluation import degraded
from mrisr.evaluation.case import Case, Scale, Scored
from mrisr.evaluation.methods import Method, Report, cards_of, trained_models
from mrisr.evaluation.settings import ZonesSettings
from mrisr.io import read_volume
from mrisr.models.ancestry import training_cases
from mrisr.models.card import card_path, read_zones_card
from mrisr.view import cuts
from mrisr.zones.network import DEFAULT
from mrisr.zones.picture import gland_centre
from mrisr.zones.score import ZoneScore, score_zones, to_grid
from mrisr.zones.segmenter import Segmentation, Segmenter, load_segmenter

#: Side of the square that the pictures show and of its pixels, mm.
EXTENT_MM, PIXEL_MM = 80.0, 0.4


@dataclass(frozen=True, eq=False)
class Frozen:
    """Segmenter that every method is scored by, the patients that it was trained on (None where nobody can
    tell), and those by which its training was judged."""

    segmenter: Segmenter
    trained: tuple[str, ...] | None = None
    validated: tuple[str, ...] = ()


def load_frozen(asked: Segmenting) -> Frozen:
    """Load the segmenter. Raises UsageError, InputError."""
    segmenter = load_segmenter(asked)
    if asked.bundle is not None or asked.nnunet is not None:
        return Frozen(segmenter)
    training = read_zones_card(card_path(asked.model or DEFAULT)).training
    return Frozen(segmenter, training.cases, training.validation_cases)


@dataclass(frozen=True, eq=False)
class ZonesCase(Case):
    """A patient's axial stack and the labels of its zones, on one grid; his ``further`` stacks by plane;
    ``segmented`` keeps what the segmenter finds in a part of the image, by its shape."""

    image: Volume
    labels: Volume
    settings: ZonesSettings
    frozen: Frozen
    further: Mapping[str, Volume] = field(default_factory=dict)
    segmented: dict[tuple[int, ...], Segmentation] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        segmenter = self.frozen.segmenter
        volumes = (self.image, self.labels, *self.further.values())
        return degraded.digest_of(*volumes, more=segmenter.sha256 or segmenter.name)

    def part(self, scale: Scale) -> tuple[Volume, Volume]:
        """Image and labels as far as a scale uses them: a degraded grid must end where the stack does. Raises
        UsageError where the stack is too small."""
        if scale.scoring == "measured":
            return self.image, self.labels
        shape = degraded.degraded_shape(self.image, self.settings, scale.factor)
        return degraded.central(self.image, shape), degraded.central(self.labels, shape)

    def score(self, method: Method, scale: Scale) -> Scored:
        """Restore, segment, bring the zones to the grid of the labels where they are on a finer one, and
        score; a method without a model leaves the image as it is."""
        image, labels = self.part(scale)
        if image.shape not in self.segmented:
            self.segmented[image.shape] = self.frozen.segmenter(image)
        unrestored, job = self.segmented[image.shape], self.settings.job
        if method.model is None:
            found = unrestored.labels
            return Scored(
                figures=_figures(score_zones(found, labels)),
                pictures=picture_of(image, found, labels, job, image),
                facts=degraded.notes_of(unrestored.notes),
            )
        measurement = degraded.measurement_of(image, self.settings, scale)
        axis, facts = image.slice_axis, {}
        if method.entry.planes:
            spacing = float(image.spacing[axis]) / scale.factor
            joint, wall, processor = degraded.clocked(
                lambda: method.join(measurement, self.further, self.settings.kind, spacing)
            )
            restored, volume, notes = joint.lead, joint.volume, joint.notes
            facts = degraded.planes_of(joint)
        else:
            restored, wall, processor = degraded.clocked(lambda: method.restore(measurement))
            volume, notes = restored.volume, restored.notes
        slices = len(restored.stack)
        if job == "throughplane":
            thickness = float(volume.spacing[axis])
            volume = replace(volume, slice_thickness=thickness, stacked_along=axis)
        fine = self.frozen.segmenter(volume)
        own_grid = scale.scoring == "degraded"
        found = fine.labels if own_grid else to_grid(fine.labels, labels)
        return Scored(
            figures={
                **_figures(score_zones(found, labels)),
                **_figures(score_zones(found, unrestored.labels), "agreement."),
                "psnr": psnr_of_gland(volume, image, labels) if own_grid else math.nan,
                "seconds": wall / slices,
                "cpu_seconds": processor / slices,
                "evaluations": restored.evaluations,
            },
            pictures=picture_of(volume, fine.labels, labels, job, image),
            facts=facts | degraded.notes_of(fine.notes, notes),
        )


def _figures(scores: Mapping[str, ZoneScore], kind: str = "") -> dict[str, float]:
    """Scores by names such as ``PZ.dice``, or ``PZ.agreement.dice`` for the kind ``agreement.``"""
    return {f"{z}.{kind}{name}": v for z, s in scores.items() for name, v in asdict(s).items()}


def psnr_of_gland(result: Volume, reference: Volume, labels: Volume) -> float:
    """PSNR in dB within the box that holds the labels, mean over its slices, intensities scaled to the
    reference's 0..99.5 percentile range; NaN where nothing is labelled."""
    held = np.nonzero(labels.array)
    if not len(held[0]):
        return math.nan
    box = tuple(slice(a.min(), a.max() + 1) for a in held)
    low, span = scaling(reference.array)
    images = []
    for volume in (result, reference):
        slices = np.moveaxis(volume.array[box], reference.slice_axis, 0).astype(np.float32)
        images.append(torch.from_numpy((slices - low) / span).clamp(0, 1)[:, None])
    return float(metrics.psnr(*images).mean())


def picture_of(
    image: Volume, found: Volume, wanted: Volume, job: Job, measured: Volume
) -> dict[str, NDArray[Any]]:
    """A square cut through the middle of the gland: axial, or coronal for through-plane restoration.

    Args:
        image: a result; ``found`` are its labels, on its grid or on that of the reference.
        wanted: the reference's labels, over the same field of view.
        measured: gives the intensities their scale.

    Returns:
        ``image`` on 0..1, and the labels ``found`` and ``wanted``, each ``(n, n)`` of the nearest voxels.
    """
    plane = "axial" if job == "inplane" else "coronal"
    centre, directions = gland_centre(wanted), cuts.anatomical_directions(wanted.affine)
    grey, *labels = (
        np.nan_to_num(cuts.panel(v, plane, centre, EXTENT_MM, PIXEL_MM, directions))
        for v in (image, found, wanted)
    )
    low, span = scaling(measured.array)
    shown = np.clip((grey - low) / span, 0, 1).astype(np.float32)
    return {"image": shown, "found": labels[0].astype("u1"), "wanted": labels[1].astype("u1")}


def find_cases(
    data: Path,
    settings: ZonesSettings,
    methods: Sequence[Method],
    frozen: Frozen,
    report: Report = lambda line: None,
) -> list[ZonesCase]:
    """The labelled axial stacks of the patients to score, one for each; those that no model has seen first.

    Args:
        data: a folder of patients or a manifest, as for ``mrisr prepare``.

    Raises:
        InputError: a patient is missing or not labelled; labels lie on another grid than the image, or
            are no zones' labels.
        UsageError: a model was trained on a patient to score, and that was not allowed.
    """
    entries: dict[str, list[Entry]] = {}
    sources = find_sources(data, report)
    for entry in (e for e in sources if e.labels):
        entries.setdefault(entry.case, []).append(entry)
    if not entries:
        raise InputError(data, expected="patients with labelled zones", found="none")
    missing = [name for name in settings.cases if name not in entries]
    if missing:
        expected = f"labelled zones of {', '.join(missing)}"
        raise InputError(data, expected=expected, found=f"those of {', '.join(entries)}")
    known = {f"segmenter {frozen.segmenter.name}": frozen.trained or ()}
    known |= training_cases(cards_of(trained_models(methods)), report)
    seen = {n: tuple(m for m, cases in known.items() if n in cases) for n in entries}
    planes = {plane for method in methods for plane in method.entry.planes}
    cases = []
    for name in _allowed(settings, seen):
        stack = labelled_stack(entries[name])
        if stack is not None:
            further = _further(planes, (e for e in sources if e.case == name))
            cases.append(ZonesCase(name, *stack, settings, frozen, further, seen=seen[name]))
        elif name in settings.cases:
            raise InputError(data / name, expected="an axial stack with labels", found="none")
        else:
            report(f"left out: {name}, which has no axial stack")
    if not cases:
        raise InputError(data, expected="an axial stack with labels", found="none")
    return cases


def _allowed(settings: ZonesSettings, seen: Mapping[str, Sequence[str]]) -> list[str]:
    """The patients to score. Raises UsageError where a model was trained on them."""
    names = sorted(settings.cases or seen, key=lambda name: bool(seen[name]))
    new = [name for name in names if not seen[name]]
    if settings.include_trained:
        return names
    allowed = "--allow-trained scores such patients in a table of their own"
    if settings.cases and new != names:
        name = names[len(new)]
        raise UsageError(f"{seen[name][0]} was trained on {name}; score other patients ({allowed})")
    if not new:
        raise UsageError(f"some model was trained on every labelled patient ({allowed})")
    return new


def _further(planes: Collection[str], entries: Iterable[Entry]) -> dict[str, Volume]:
    """The first stack of each of these planes."""
    if not planes:
        return {}
    ordered = sorted(entries, key=lambda e: e.series)
    volumes = [read_volume(e.path, series=e.uid) for e in ordered]
    return {v.plane: v for v in reversed(volumes) if v.plane in planes}


def labelled_stack(entries: Iterable[Entry]) -> tuple[str, Volume, Volume] | None:
    """Series, image and labels of the first axial stack that labels belong to; None where none is axial."""
    other: Misplaced | None = None
    for entry in sorted(entries, key=lambda e: e.series):
        image = read_volume(entry.path, series=entry.uid)
        if image.plane != "axial":
            continue
        try:
            return entry.series, image, read_labels(entry.labels[0], image).volume
        except Misplaced as error:
            other = other or error
    if other is not None:
        raise other
    return None


def crops(cases: Iterable[ZonesCase]) -> list[str]:
    """Cuts of the stacks, in words. Raises UsageError where a stack is too small for a scale."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for scale in case.settings.scales:
            image, labels = case.part(scale)
            lost = np.count_nonzero(case.labels.array) - np.count_nonzero(labels.array)
            if image.shape != case.image.shape:
                voxels = ["x".join(map(str, v.shape)) for v in (case.image, image)]
                text = f"{case.name}: the central {voxels[1]} of {voxels[0]} voxels"
                text += f", without {lost} labelled ones" if lost else ""
                found.setdefault(text, []).append(str(scale))
    return [f"{text} ({', '.join(scales)})" for text, scales in found.items()]
