"""Labelled stacks: what restoration makes of them, segmented and scored; and the patients that may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.data.prepare import Entry, find_sources
from mrisr.evaluation.case import Scale, Scored
from mrisr.evaluation.methods import Method, Report, trained_models, training_cases
from mrisr.evaluation.restoring import (
    central,
    clocked,
    degraded_shape,
    digest_of,
    measurement_of,
    notes_of,
    restored_by,
)
from mrisr.evaluation.zones.score import figures_of, picture_of, psnr_of_gland
from mrisr.evaluation.zones.settings import ZonesSettings
from mrisr.io import read_volume
from mrisr.models.find import card_path, read_zones_card
from mrisr.zones.model import DEFAULT
from mrisr.zones.score import check_labels, check_same_grid, score_zones, to_grid
from mrisr.zones.segmenter import Segmentation, Segmenter, load_segmenter


@dataclass(frozen=True, eq=False)
class Frozen:
    """Segmenter that every method is scored by, and the patients it knows.

    Attributes:
        trained: patients that it was trained on; None where nobody can tell.
        validated: patients by which its training was judged.
    """

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
class ZonesCase:
    """A patient's axial stack and the labels of its zones, on one grid.

    Attributes:
        seen: the models that were trained on the patient, the segmenter among them.
        segmented: shape of a part -> the zones that the segmenter finds in its image.
    """

    name: str
    series: str
    image: Volume
    labels: Volume
    settings: ZonesSettings
    frozen: Frozen
    seen: tuple[str, ...] = ()
    segmented: dict[tuple[int, ...], Segmentation] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of voxels and grids, and of the segmenter."""
        segmenter = self.frozen.segmenter
        return digest_of(self.image, self.labels, more=segmenter.sha256 or segmenter.name)

    def part(self, scale: Scale) -> tuple[Volume, Volume]:
        """Image and labels as far as a scale uses them: a degraded grid must end where the stack does. Raises
        UsageError where the stack is too small."""
        if scale.scoring == "measured":
            return self.image, self.labels
        shape = degraded_shape(self.image, self.settings, scale.factor)
        return central(self.image, shape), central(self.labels, shape)

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
                figures=figures_of(score_zones(found, labels)),
                pictures=picture_of(image, found, labels, job, image),
                facts=notes_of(unrestored.notes),
            )
        measurement = measurement_of(image, self.settings, scale)
        restored, seconds = clocked(lambda: restored_by(method, measurement))
        volume, slices, axis = restored.volume, len(restored.stack), image.slice_axis
        if job == "throughplane":
            thickness = float(volume.spacing[axis])
            volume = replace(volume, slice_thickness=thickness, stacked_along=axis)
        fine = self.frozen.segmenter(volume)
        degraded = scale.scoring == "degraded"
        found = fine.labels if degraded else to_grid(fine.labels, labels)
        return Scored(
            figures={
                **figures_of(score_zones(found, labels)),
                **figures_of(score_zones(found, unrestored.labels), "agreement."),
                "psnr": psnr_of_gland(volume, image, labels) if degraded else math.nan,
                "seconds": seconds.wall / slices,
                "cpu_seconds": seconds.processor / slices,
                "evaluations": restored.evaluations,
            },
            pictures=picture_of(volume, fine.labels, labels, job, image),
            facts=notes_of(fine.notes, restored.notes),
        )


def find_cases(
    data: Path,
    settings: ZonesSettings,
    methods: Iterable[Method],
    frozen: Frozen,
    report: Report = lambda line: None,
) -> list[ZonesCase]:
    """The labelled axial stacks of the patients to score, one for each.

    Args:
        data: a folder of patients or a manifest, as for ``mrisr prepare``.

    Raises:
        InputError: a patient is missing or not labelled; labels lie on another grid than the image, or
            are no zones' labels.
        UsageError: a model was trained on a patient to score, and that was not allowed.
    """
    entries: dict[str, list[Entry]] = {}
    for entry in find_sources(data):
        if entry.labels:
            entries.setdefault(entry.case, []).append(entry)
    if not entries:
        raise InputError(data, expected="patients with labelled zones", found="none")
    seen = seen_by(entries, methods, frozen, report)
    cases = []
    for name in chosen(data, settings, seen):
        stack = _labelled(entries[name])
        if stack is not None:
            cases.append(ZonesCase(name, *stack, settings, frozen, seen[name]))
        elif name in settings.cases:
            raise InputError(data / name, expected="an axial stack with labels", found="none")
        else:
            report(f"left out: {name}, which has no axial stack")
    if not cases:
        raise InputError(data, expected="an axial stack with labels", found="none")
    return cases


def seen_by(
    names: Iterable[str],
    methods: Iterable[Method],
    frozen: Frozen,
    report: Report = lambda line: None,
) -> dict[str, tuple[str, ...]]:
    """Patient -> the models that were trained on it, the segmenter first."""
    every = {f"segmenter {frozen.segmenter.name}": frozen.trained or ()}
    every |= training_cases(trained_models(methods), report)
    return {n: tuple(model for model, cases in every.items() if n in cases) for n in names}


def chosen(data: Path, settings: ZonesSettings, seen: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The patients to score, those that no model has seen first."""
    missing = [name for name in settings.cases if name not in seen]
    if missing:
        expected = f"labelled zones of {', '.join(missing)}"
        raise InputError(data, expected=expected, found=f"those of {', '.join(seen)}")
    names = list(settings.cases or seen)
    new = [name for name in names if not seen[name]]
    known = [name for name in names if seen[name]]
    if settings.include_trained:
        return new + known
    allowed = "--allow-trained scores such patients in a table of their own"
    if settings.cases and known:
        who = seen[known[0]][0]
        raise UsageError(f"{who} was trained on {known[0]}; score other patients ({allowed})")
    if not new:
        raise UsageError(f"some model was trained on every labelled patient ({allowed})")
    return new


def _labelled(entries: Iterable[Entry]) -> tuple[str, Volume, Volume] | None:
    """Series, image and labels of the first axial stack, by name, that labels belong to; None where no stack
    is axial."""
    others: tuple[Volume, Volume] | None = None
    for entry in sorted(entries, key=lambda e: e.series):
        image = read_volume(entry.path)
        if image.plane != "axial":
            continue
        labels = read_volume(entry.labels[0], allow_constant=True)
        if geometry.same_grid(image.shape, image.affine, labels.shape, labels.affine):
            check_labels(labels)
            return entry.series, image, labels
        others = others or (labels, image)
    if others is not None:
        check_same_grid(*others)
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
