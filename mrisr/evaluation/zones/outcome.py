"""All that the experiment found, and what a reader of it must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mrisr.evaluation.methods import Method
from mrisr.evaluation.outcome import Failure
from mrisr.evaluation.zones.frozen import Frozen
from mrisr.evaluation.zones.rows import ZonesRow
from mrisr.evaluation.zones.scored import ZonesResult
from mrisr.evaluation.zones.settings import Scale, ZonesSettings

PROTOCOL = {
    "degraded": "labelled axial stacks, degraded, restored by the product's own engine and projection, "
    "segmented by one frozen model, scored against the labels on the stack's own grid",
    "measured": "where a factor is marked 'as measured', the stack itself is taken as coarse by it: restored "
    "to a finer grid, segmented there, the zones brought back to the measured voxels by majority",
}
FIGURES = (
    "Dice, 95th percentile of the symmetric Hausdorff distance, symmetric average surface distance, volume "
    "less the labels' volume; means over patients with the 95% interval of Student's t; PSNR within the box "
    "that holds the gland, on intensities scaled to the stack's 0..99.5 percentile"
)
THROUGH_PLANE = {
    "degraded": "Slices of these stacks are 3 to 4 mm thick. Degraded along them by x2 and x6 they are 6 to "
    "24 mm apart, which nobody measures: that shows what is lost, not what is gained.",
    "measured": "The labels of the measured stack are on thick slices too, so this can only show that "
    "restoration does no harm to a segmentation, not that it outlines finer.",
}


@dataclass(frozen=True)
class ZonesEvaluation:
    """All that the experiment found.

    Attributes:
        seen: patient -> the models that were trained on it.
        notes: what else a reader must know.
        command: that makes the figures.
        machine: hardware and software, for the seconds.
    """

    settings: ZonesSettings
    methods: Sequence[Method]
    frozen: Frozen
    seen: Mapping[str, Sequence[str]]
    results: Sequence[ZonesResult]
    rows: Sequence[ZonesRow]
    failures: Sequence[Failure]
    notes: Sequence[str]
    command: str
    machine: dict[str, str]

    @property
    def protocol(self) -> str:
        """How the figures came about, in words."""
        used = dict.fromkeys(s.scoring for s in self.settings.scales)
        return "; ".join([*(PROTOCOL[s] for s in used), FIGURES])

    @property
    def scales(self) -> list[Scale]:
        """The scales that have results."""
        return [s for s in self.settings.scales if any(r.scale == s for r in self.results)]

    def at(self, scale: Scale, seen: bool) -> list[ZonesRow]:
        """The rows of one scale and one group of patients, the original image first."""
        return [row for row in self.rows if (row.scale, row.seen) == (scale, seen)]


def remarks(evaluation: ZonesEvaluation) -> list[str]:
    """What a reader of the tables must know, in sentences."""
    machine = ", ".join(f"{k} {v}" for k, v in evaluation.machine.items())
    lines = [f"Protocol: {evaluation.protocol}.", *_about_segmenter(evaluation)]
    patients = {r.case for r in evaluation.results if not r.seen}
    if len(patients) == 1:
        lines.append(
            f"One patient ({', '.join(patients)}), n = 1: no interval can be given, and differences between "
            "methods say nothing about others."
        )
    elif 1 < len(patients) < 6:
        lines.append(f"{len(patients)} patients: the interval of Student's t is wide.")
    if evaluation.settings.job == "throughplane":
        lines += [THROUGH_PLANE[s] for s in dict.fromkeys(x.scoring for x in evaluation.scales)]
    lines += [*_seen(evaluation), *_outside(evaluation)]
    lines.append(f"Seconds were measured on: {machine}.")
    said = (
        f"{r.method}: {n}." for r in evaluation.results for n in r.scored.facts.get("notes", ())
    )
    return [*lines, *evaluation.notes, *dict.fromkeys(said)]


def _about_segmenter(evaluation: ZonesEvaluation) -> list[str]:
    frozen = evaluation.frozen
    cases = {r.case for r in evaluation.results if not r.seen}
    text = f"Segmenter: {frozen.name}"
    text += f" (SHA-256 {frozen.segmenter.sha256[:12]})" if frozen.segmenter.sha256 else ""
    if frozen.trained is None:
        return [f"{text}; on which patients it was trained is not known."]
    n = len(frozen.trained)
    text += f", trained on {n} patient{'s' * (n != 1)}"
    judged = sorted(cases & set(frozen.validated))
    if judged:
        text += f"; {', '.join(judged)} told how well its training went"
    return [f"{text}."]


def _seen(evaluation: ZonesEvaluation) -> list[str]:
    """Who was trained on which of the patients in the tables that are set apart."""
    patients: dict[str, list[str]] = {}
    for case in dict.fromkeys(r.case for r in evaluation.results if r.seen):
        patients.setdefault(", ".join(evaluation.seen[case]), []).append(case)
    return [f"Trained on {', '.join(names)}: {who}." for who, names in patients.items()]


def _outside(evaluation: ZonesEvaluation) -> list[str]:
    """Which models were asked for factors that they were not trained for."""
    found: dict[str, list[str]] = {}
    for scale in evaluation.scales:
        for method in evaluation.methods:
            if method.model is None or method.evaluations == 0:
                continue
            low, high = method.model.card.factors
            if not low <= scale.factor <= high:
                found.setdefault(f"x{scale.factor:g}", []).append(method.name)
    return [
        f"Not trained for {factor}: {', '.join(dict.fromkeys(names))}."
        for factor, names in found.items()
    ]
