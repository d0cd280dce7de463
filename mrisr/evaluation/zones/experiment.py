"""``mrisr evaluate zones``: what restoration is worth to a segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrisr.config import load_settings
from mrisr.core.errors import UsageError
from mrisr.evaluation.case import Scale, Scored, finite
from mrisr.evaluation.experiment import (
    DEFAULTS,
    Evaluation,
    Experiment,
    Section,
    Switches,
    conduct,
)
from mrisr.evaluation.methods import Method, Report
from mrisr.evaluation.settings import MethodEntry, ZonesSettings
from mrisr.evaluation.tables import Table
from mrisr.evaluation.zones.case import Frozen, ZonesCase, crops, find_cases, load_frozen
from mrisr.evaluation.zones.figures import pictures_of
from mrisr.evaluation.zones.tables import (
    ORIGINAL,
    VOLUMES,
    ZONE_METRICS,
    agreement_table,
    figures_table,
    scores_table,
)
from mrisr.models.card import card_path, read_zones_card
from mrisr.models.store import write_card
from mrisr.zones.labels import ZONES
from mrisr.zones.network import DEFAULT

PROTOCOL = {
    "degraded": "labelled axial stacks, degraded to what a scanner would write, restored as the product "
    "does, segmented by one frozen model, scored against the labels on the stack's own grid",
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


def evaluate_zones(
    config: Path,
    data: Path,
    output: Path,
    asked: Switches = DEFAULTS,
    report: Report = lambda line: None,
) -> Evaluation:
    """Degrade, restore, segment and score the labelled patients; see
    :func:`mrisr.evaluation.experiment.conduct`.

    Args:
        config: a file of the experiment.
        data: a folder of patients or a manifest, as for ``mrisr prepare``.
    """
    settings = load_settings(config, ZonesSettings)
    chosen, own = asked.segmenting, settings.segmenter
    if (chosen.model, chosen.bundle, chosen.nnunet) == (None, None, None):  # the file's segmenter
        chosen = replace(own, margin=chosen.margin or own.margin)
    chosen = replace(chosen, device=asked.device)
    trained = settings.include_trained or asked.allow_trained
    settings = settings.model_copy(update={"segmenter": chosen, "include_trained": trained})
    return conduct(Zones(settings, load_frozen(chosen)), config, data, output, asked, report)


class Zones(Experiment):
    """Methods compared by what one segmenter makes of the images that they restore."""

    title = "mrisr evaluate zones"
    heading = "Zones after restoration"

    def __init__(self, settings: ZonesSettings, frozen: Frozen) -> None:
        self.settings: ZonesSettings = settings
        self.frozen = frozen
        scorings = dict.fromkeys(s.scoring for s in settings.scales)
        self.protocol = "; ".join([*(PROTOCOL[s] for s in scorings), FIGURES])

    def find_cases(self, data: Path, methods: Sequence[Method], note: Report) -> list[ZonesCase]:
        cases = find_cases(data, self.settings, methods, self.frozen, note)
        for line in crops(cases):
            note(line)
        return cases

    def controls(self, scale: Scale) -> list[Method]:
        return [Method(MethodEntry(name=ORIGINAL[scale.scoring]))]

    def command(self, config: Path, asked: Switches) -> str:
        words = ["mrisr evaluate zones --config", f"configs/{config.name}"]
        chosen = asked.segmenting
        if chosen.model is not None:
            words.append(f"--model {Path(chosen.model).name}")
        foreign = [n for n in ("bundle", "nnunet") if getattr(chosen, n) is not None]
        words += [f"--{n} {n.upper()}" for n in foreign]
        words += [f"--margin {chosen.margin:g}"] if chosen.margin else []
        words += ["--allow-trained"] if asked.allow_trained else []
        return " ".join([*words, "--data DATA --output OUT"])

    def line(self, scored: Scored) -> str:
        return "Dice " + ", ".join(f"{z} {scored.figures[f'{z}.dice']:.3f}" for z in ZONES)

    def figures(self, scored: Scored) -> dict[str, Any]:
        labels = {zone: _scores(scored.figures, f"{zone}.") for zone in ZONES}
        agreement = {zone: _scores(scored.figures, f"{zone}.agreement.") for zone in ZONES}
        rest = {name: v for name, v in scored.figures.items() if "." not in name}
        return {"labels": labels, "agreement": agreement, **rest}

    def details(self) -> dict[str, Any]:
        segmenter, trained = self.frozen.segmenter, self.frozen.trained
        facts = {"name": segmenter.name, "sha256": segmenter.sha256, "trained_on": trained}
        return {"segmenter": facts}

    def write_card(self, done: Evaluation, asked: Switches) -> None:
        """Write what was reached on images that were not restored into the segmenter's card."""
        if self.frozen.trained is None:
            raise UsageError("--card: a bundle or an nnU-Net has no card to write into")
        groups: dict[str, dict[str, Any]] = {"held_out": {}, "trained_on": {}}
        for result in done.results:
            if result.method == ORIGINAL[result.scale.scoring]:
                group = "trained_on" if result.case in self.frozen.trained else "held_out"
                scores = self.figures(result.scored)["labels"]
                groups[group].setdefault(result.case, finite(scores))
        figures = {"command": f"{done.command} --card", "reference": "labels", **groups}
        path = card_path(self.settings.segmenter.model or DEFAULT)
        write_card(read_zones_card(path).model_copy(update={"figures": figures}), path)

    def sections(self, done: Evaluation) -> list[Section]:
        return [Section("Pictures", pictures_of(done))]

    def remarks(self, done: Evaluation) -> list[str]:
        lines = [self._about_segmenter(done)]
        if self.settings.job == "throughplane":
            lines += [THROUGH_PLANE[s] for s in dict.fromkeys(x.scoring for x in done.scales)]
        patients: dict[str, list[str]] = {}
        for case, seen in {r.case: r.seen for r in done.results if r.seen}.items():
            patients.setdefault(", ".join(seen), []).append(case)
        lines += [f"Trained on {', '.join(cases)}: {who}." for who, cases in patients.items()]
        return lines + _outside(done)

    def _about_segmenter(self, done: Evaluation) -> str:
        frozen = self.frozen
        text = f"Segmenter: {frozen.segmenter.name}"
        text += f" (SHA-256 {frozen.segmenter.sha256[:12]})" if frozen.segmenter.sha256 else ""
        if frozen.trained is None:
            return f"{text}; on which patients it was trained is not known."
        n = len(frozen.trained)
        text += f", trained on {n} patient{'s' * (n != 1)}"
        judged = sorted({r.case for r in done.results if not r.seen} & set(frozen.validated))
        if judged:
            text += f"; {', '.join(judged)} told how well its training went"
        return f"{text}."

    def tables(self, done: Evaluation) -> list[Table]:
        found = []
        for seen in (False, True):
            for scale in done.scales:
                rows = done.at(scale, seen)
                restored = [r for r in rows if r.method != ORIGINAL[scale.scoring]]
                found += [scores_table(rows, scale)] if rows else []
                found += [agreement_table(restored, scale)] if restored else []
        return found

    def patient(self, means: Mapping[str, float]) -> dict[str, str]:
        cells = {}
        for zone in ZONES:
            dice = means.get(f"{zone}.dice")
            bias, volume = (means[f"{zone}.{name}"] for name in ("volume_bias_ml", "reference_ml"))
            cells[f"{zone} Dice"] = "empty" if dice is None else f"{dice:.3f}"
            cells[f"{zone} bias, labels ml"] = f"{bias:+.1f} of {volume:.1f}"
        return cells

    def csv(self, done: Evaluation) -> Table:
        return figures_table(done.results)


def _scores(figures: Mapping[str, float], start: str) -> dict[str, float] | None:
    """Figures of one zone by their own names; None where there are none."""
    names = (*ZONE_METRICS, *VOLUMES)
    return {n: figures[start + n] for n in names if start + n in figures} or None


def _outside(done: Evaluation) -> list[str]:
    """Models that were asked for factors that they were not trained for."""
    lines = []
    for factor in sorted({scale.factor for scale in done.scales}):
        names = []
        for method in done.methods:
            low, high = method.model.card.factors if method.model else (0.0, factor)
            if method.evaluations and not low <= factor <= high:
                names.append(method.name)
        lines += [f"Not trained for x{factor:g}: {', '.join(names)}."] if names else []
    return lines
