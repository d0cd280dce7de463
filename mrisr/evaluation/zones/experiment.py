"""``mrisr evaluate zones``: what restoration is worth to a segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrisr.core.options import Segmenting
from mrisr.evaluation.case import Metric, Scale, Scored
from mrisr.evaluation.experiment import Evaluation, Experiment, Section, Switches
from mrisr.evaluation.methods import Method, Report
from mrisr.evaluation.run import DEFAULTS, conduct
from mrisr.evaluation.settings import MethodEntry
from mrisr.evaluation.statistics import Row
from mrisr.evaluation.tables import Column, Table, metric_column, patients_in, table_of
from mrisr.evaluation.zones.card import write_zones_figures
from mrisr.evaluation.zones.case import Frozen, ZonesCase, crops, find_cases, load_frozen
from mrisr.evaluation.zones.figures import pictures_of
from mrisr.evaluation.zones.score import ORIGINAL, STACK_METRICS, ZONE_METRICS
from mrisr.evaluation.zones.settings import ZonesSettings, load_zones_settings
from mrisr.zones.labels import ZONES

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
#: Further figures of a zone in the files.
VOLUMES = ("volume_ml", "reference_ml")


def evaluate_zones(
    config: Path,
    data: Path,
    output: Path,
    asked: Switches = DEFAULTS,
    report: Report = lambda line: None,
) -> Evaluation:
    """Degrade, restore, segment and score the labelled patients; see :func:`mrisr.evaluation.run.conduct`.

    Args:
        config: a file of the experiment.
        data: a folder of patients or a manifest, as for ``mrisr prepare``.
    """
    settings = load_zones_settings(config)
    segmenting = replace(_segmenting(asked.segmenting, settings.segmenter), device=asked.device)
    settings = settings.model_copy(
        update={
            "segmenter": segmenting,
            "include_trained": settings.include_trained or asked.allow_trained,
        }
    )
    experiment = Zones(settings, load_frozen(segmenting))
    return conduct(experiment, config, data, output, asked, report)


def _segmenting(asked: Segmenting, own: Segmenting) -> Segmenting:
    """The options of the command line where they name a segmenter, else the file's."""
    if any(source is not None for source in (asked.model, asked.bundle, asked.nnunet)):
        return asked
    return replace(own, margin=asked.margin or own.margin)


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

    def details(self, done: Evaluation) -> dict[str, Any]:
        frozen = self.frozen
        facts = {"name": frozen.segmenter.name, "sha256": frozen.segmenter.sha256}
        return {"segmenter": facts | {"trained_on": frozen.trained}}

    def write_card(self, done: Evaluation, asked: Switches) -> None:
        write_zones_figures(done, self.frozen, self.settings.segmenter.model)

    def sections(self, done: Evaluation) -> list[Section]:
        return [Section("Pictures", pictures_of(done))]

    def remarks(self, done: Evaluation) -> list[str]:
        lines = [self._about_segmenter(done)]
        if self.settings.job == "throughplane":
            lines += [THROUGH_PLANE[s] for s in dict.fromkeys(x.scoring for x in done.scales)]
        return [*lines, *_trained_on(done), *_outside(done)]

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
                found += [_scores_table(rows, scale)] if rows else []
                found += [_agreement_table(restored, scale)] if restored else []
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
        """One row for each stack, scale, method and zone; figures that are not defined are left empty."""
        cells = []
        for r in done.results:
            means, trained = r.scored.means(), "yes" if r.seen else "no"
            head = [r.case, r.series, r.scale.scoring, f"{r.scale.factor:g}", r.method, trained]
            for zone in ZONES:
                names = [f"{zone}.{name}" for name in (*ZONE_METRICS, *VOLUMES)]
                names += [f"{zone}.agreement.{name}" for name in ZONE_METRICS]
                values = (means.get(name) for name in (*names, *STACK_METRICS))
                cells.append([*head, zone, *("" if v is None else f"{v:.6g}" for v in values)])
        columns = ["case", "series", "scoring", "factor", "method", "trained_on", "zone"]
        columns += [*ZONE_METRICS, *VOLUMES, *(f"agreement_{name}" for name in ZONE_METRICS)]
        return Table("", [*columns, *STACK_METRICS], cells)


def _scores(figures: Mapping[str, float], start: str) -> dict[str, float] | None:
    """Figures of one zone by their own names; None where there are none."""
    names = (*ZONE_METRICS, *VOLUMES)
    return {n: figures[start + n] for n in names if start + n in figures} or None


def _trained_on(done: Evaluation) -> list[str]:
    """Models that were trained on patients of the tables that are set apart."""
    patients: dict[str, list[str]] = {}
    for case, seen in {r.case: r.seen for r in done.results if r.seen}.items():
        patients.setdefault(", ".join(seen), []).append(case)
    return [f"Trained on {', '.join(names)}: {who}." for who, names in patients.items()]


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


def _scores_table(rows: Sequence[Row], scale: Scale) -> Table:
    """Every method against the labels, and the image that was not restored."""
    columns = [Column("method", [row.method for row in rows]), *_zone_columns(rows)]
    empty = []
    for row in rows:
        missing = [
            row.patients - (mean.n if (mean := row.means.get(f"{zone}.hd95_mm")) else 0)
            for zone in ZONES
        ]
        empty.append(f"{', '.join(map(str, missing))} of {row.patients}")
    columns.append(Column(f"empty {', '.join(ZONES)}", empty))
    for name, metric in STACK_METRICS.items():
        if any(name in r.means for r in rows):
            columns.append(metric_column(rows, name, metric, [ORIGINAL[scale.scoring]]))
    return table_of(f"{scale}: against the labels, {_patients(rows)}", columns)


def _agreement_table(rows: Sequence[Row], scale: Scale) -> Table:
    """Every method against what the segmenter says of the image that was not restored."""
    title = f"{scale}: against the segmentation of the {ORIGINAL[scale.scoring]}, {_patients(rows)}"
    columns = [Column("method", [row.method for row in rows]), *_zone_columns(rows, "agreement.")]
    return table_of(title, columns)


def _zone_columns(rows: Sequence[Row], kind: str = "") -> list[Column]:
    """The figures of every zone."""
    return [
        metric_column(
            rows,
            f"{zone}.{kind}{name}",
            Metric(f"{zone} {m.title}", *m[1:]),
            list(ORIGINAL.values()),
        )
        for zone in ZONES
        for name, m in ZONE_METRICS.items()
    ]


def _patients(rows: Sequence[Row]) -> str:
    return patients_in(rows) + (" that models were trained on" if rows[0].seen else "")
