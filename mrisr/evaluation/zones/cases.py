"""Labelled stacks, and the patients that may be scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data.sources import Entry, find_sources
from mrisr.evaluation.methods import Method, Seen, trained_models, training_of
from mrisr.evaluation.volumes import middle
from mrisr.evaluation.zones.frozen import Frozen
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from mrisr.io import read_volume
from mrisr.physics.measurement import stack_order
from mrisr.zones.score import check_labels, check_same_grid


@dataclass(frozen=True)
class ZonesCase:
    """A patient's axial stack and the labels of its zones, on one grid.

    Attributes:
        seen: the models that were trained on the patient, the segmenter among them.
    """

    name: str
    series: str
    image: Volume
    labels: Volume
    seen: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of voxels and grids."""
        content = hashlib.sha256()
        for volume in (self.image, self.labels):
            facts = (volume.shape, volume.array.dtype, volume.slice_thickness, volume.slice_axis)
            content.update(str(facts).encode())
            content.update(np.round(volume.affine, 6).tobytes())
            content.update(np.ascontiguousarray(volume.array).tobytes())
        return content.hexdigest()

    def central(self, shape: Sequence[int]) -> ZonesCase:
        """The central voxels of a smaller shape; the same case where nothing is cut off."""
        if tuple(shape) == self.image.shape:
            return self
        image, labels = (middle(v, shape) for v in (self.image, self.labels))
        return replace(self, image=image, labels=labels)


def part_for(case: ZonesCase, scale: Scale, settings: ZonesSettings) -> ZonesCase:
    """What of a case one scale uses: a degraded grid must end where the stack does, so that both have one
    field of view. Voxels are cut off evenly from both ends."""
    shape = list(case.image.shape)
    order = stack_order(case.image)
    if scale.scoring == "degraded":
        for axis in order[1:] if settings.job == "inplane" else order[:1]:
            coarse = int(shape[axis] / scale.factor + 1e-6)
            shape[axis] = geometry.resampled_size(coarse, scale.factor) if coarse else 0
    if min(shape) < 1:
        raise UsageError(f"{scale}: {case.name} {case.series} has too few voxels for it")
    return case.central(shape)


def find_cases(
    data: Path,
    settings: ZonesSettings,
    methods: Iterable[Method],
    frozen: Frozen,
    report: Callable[[str], None] = lambda line: None,
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
        case = _labelled(name, entries[name], seen[name])
        if case is not None:
            cases.append(case)
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
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, tuple[str, ...]]:
    """Patient -> the models that were trained on it, the segmenter first."""
    every = [Seen(f"segmenter {frozen.name}", frozen.trained or ())]
    every += training_of(trained_models(methods), report)
    return {n: tuple(dict.fromkeys(s.who for s in every if n in s.cases)) for n in names}


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


def _labelled(name: str, entries: Iterable[Entry], seen: tuple[str, ...]) -> ZonesCase | None:
    """The first axial stack, by name, that the labels belong to; none where no stack is axial."""
    others: tuple[Volume, Volume] | None = None
    for entry in sorted(entries, key=lambda e: e.series):
        image = read_volume(entry.path)
        if image.plane != "axial":
            continue
        labels = read_volume(entry.labels[0], allow_constant=True)
        if geometry.same_grid(image.shape, image.affine, labels.shape, labels.affine):
            check_labels(labels)
            return ZonesCase(name, entry.series, image, labels, seen)
        others = others or (labels, image)
    if others is not None:
        check_same_grid(*others)
    return None
