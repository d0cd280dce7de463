"""One patient at one scale: the image as it is, and what every method makes of it, segmented and scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mrisr.core.volume import Volume
from mrisr.evaluation.kept import UNREADABLE, Item, KeptFolder, finite, key_from
from mrisr.evaluation.methods import Method
from mrisr.evaluation.zones.cases import ZonesCase, part_for
from mrisr.evaluation.zones.frozen import Frozen
from mrisr.evaluation.zones.restore import measurement_of, restore
from mrisr.evaluation.zones.scored import ZonesScored, picture_of, psnr_of_gland
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from mrisr.physics.measurement import Measurement
from mrisr.zones.score import score_zones, to_grid

#: Raised whenever the same data, models and settings would get other figures.
FORMAT = 1


@dataclass(frozen=True)
class Asked:
    """What the segmenter says of a volume: asked once, and only if somebody wants to know."""

    volume: Volume
    frozen: Frozen

    @cached_property
    def found(self) -> tuple[Volume, tuple[str, ...]]:
        """The zones, on the volume's grid, and the segmenter's remarks."""
        return segmented(self.volume, self.frozen)

    @property
    def labels(self) -> Volume:
        """The zones, on the volume's grid."""
        return self.found[0]


def segmented(volume: Volume, frozen: Frozen) -> tuple[Volume, tuple[str, ...]]:
    """The zones of a volume, with the segmenter's remarks."""
    found = frozen.segmenter(volume)
    return found.labels, found.notes


@dataclass(frozen=True)
class Bench:
    """What a patient's stack is scored with at one scale.

    Attributes:
        part: the patient's stack, as far as the scale uses it.
        unrestored: the zones of its image.
    """

    part: ZonesCase
    scale: Scale
    settings: ZonesSettings
    frozen: Frozen
    unrestored: Asked

    @cached_property
    def measurement(self) -> Measurement:
        """What the methods restore."""
        return measurement_of(self.part.image, self.scale, self.settings)

    def original(self) -> ZonesScored:
        """The score of the image that was not restored."""
        (found, notes), part = self.unrestored.found, self.part
        return ZonesScored(
            labels=score_zones(found, part.labels),
            agreement=None,
            psnr=math.nan,
            seconds=math.nan,
            cpu_seconds=math.nan,
            evaluations=0,
            picture=picture_of(part.image, found, part.labels, self.settings.job, part.image),
            facts=_facts(notes),
        )

    def restored(self, method: Method) -> ZonesScored:
        """Restore, segment, bring the zones to the grid of the labels where they are on a finer one,
        and score."""
        part, restored = self.part, restore(self.measurement, method)
        volume = restored.volume
        fine, notes = segmented(volume, self.frozen)
        degraded = self.scale.scoring == "degraded"
        found = fine if degraded else to_grid(fine, part.labels)
        return ZonesScored(
            labels=score_zones(found, part.labels),
            agreement=score_zones(found, self.unrestored.labels),
            psnr=psnr_of_gland(volume, part.image, part.labels) if degraded else math.nan,
            seconds=restored.seconds,
            cpu_seconds=restored.cpu_seconds,
            evaluations=method.evaluations,
            picture=picture_of(volume, fine, part.labels, self.settings.job, part.image),
            facts=_facts(notes, method.engine.notes if method.engine else ()),
        )


def _facts(*notes: Iterable[str]) -> dict[str, Any]:
    every = list(dict.fromkeys(note for some in notes for note in some))
    return {"notes": every} if every else {}


class ZonesStore:
    """The results, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.kept = KeptFolder(folder)

    def score(self, bench: Bench, method: Method | None) -> tuple[ZonesScored, bool]:
        """A result, made or found, and whether it was found.

        Args:
            method: none for the image that was not restored.
        """
        item = item_of(bench, method)
        found = self.kept.load(item)
        try:
            if found is not None:
                return ZonesScored.from_kept(found[0]["scored"], found[1]), True
        except UNREADABLE:
            pass
        scored = bench.original() if method is None else bench.restored(method)
        part, scale = bench.part, bench.scale
        content = {
            "case": part.name,
            "series": part.series,
            "scoring": scale.scoring,
            "factor": scale.factor,
            "method": scale.original if method is None else method.name,
            "scored": finite(scored.figures()),
        }
        self.kept.save(item, content, scored.arrays())
        return ZonesScored.from_kept(content["scored"], scored.arrays()), False


def item_of(bench: Bench, method: Method | None) -> Item:
    """Where a result is kept, by all that decides it: voxels and labels, the segmenter and, of what was
    restored, the method and the degradation."""
    part, scale = bench.part, bench.scale
    deciding: dict[str, Any] = {
        "format": FORMAT,
        "case": [part.name, part.series, part.digest],
        "segmenter": bench.frozen.digest,
        "job": bench.settings.job,
    }
    if method is None:
        return Item(f"{part.name}-{part.series}-{scale.original}", key_from(deciding))
    deciding |= {
        "scale": list(scale),
        "method": method.deciding(part.name),
        "settings": bench.settings.deciding(),
    }
    return Item(f"{part.name}-{part.series}-{scale}-{method.name}", key_from(deciding))


def benches(case: ZonesCase, settings: ZonesSettings, frozen: Frozen) -> Iterator[Bench]:
    """Every scale of a patient in turn. Raises UsageError where a stack is too small for a scale."""
    asked: dict[str, Asked] = {}
    for scale in settings.scales:
        part = part_for(case, scale, settings)
        unrestored = asked.setdefault(part.digest, Asked(part.image, frozen))
        yield Bench(part, scale, settings, frozen, unrestored)
