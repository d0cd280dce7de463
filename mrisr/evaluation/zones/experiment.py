"""``mrisr evaluate zones``: what restoration is worth to a segmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrisr.config import load_settings
from mrisr.core.errors import UsageError
from mrisr.evaluation.case import METRICS, ORIGINAL, Metric, Scale, Scored, finite
from mrisr.evaluation.experiment import Evaluation, Experiment, Section, Switches, conduct
from mrisr.evaluation.figures import pictures_of
from mrisr.evaluation.methods import Method, Report
from mrisr.evaluation.settings import MethodEntry, ZonesSettings
from mrisr.evaluation.statistics import Column, Row, Table, metric_column, patients_in, table_of
from mrisr.evaluation.zones.case import Frozen, ZonesCase, crops, find_cases, load_frozen
from mrisr.models.card import card_path, read_zones_card
from mrisr.models.store import write_card
from mrisr.zones.labels import ZONES
from mrisr.zones.network import DEFAULT

#: Figures of a zone; for Hausdorff's and the surface distance see :mod:`mrisr.zones.score`.
ZONE_METRICS = {
    "dice": Metric("Dice", ".3f", 1, True),
    "hd95_mm": Metric("HD95 mm", ".1f", -1, True),
    "asd_mm": Metric("ASD mm", ".2f", -1, True),
    "volume_bias_ml": Metric("bias ml", "+.1f", 0, True),
}
#: Further figures of a zone in the files.
VOLUMES = ("volume_ml", "reference_ml")
#: Figures of the stack.
STACK_METRICS = {
    "psnr": Metric("PSNR dB", ".2f", 1, True),
    "cpu_seconds": METRICS["cpu_seconds"],
}
CARD_TITLES = {
    "held_out": "Held-out patients",
    "trained_on": "Patients it was trained on: not what it reaches on others",
}
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
    config: Path, data: Path, output: Path, asked: Switches, report: Report = lambda line: None
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
        found: dict[str, Any] = {"labels": {}, "agreement": {}}
        for group, kind in (("labels", ""), ("agreement", "agreement.")):
            for zone in ZONES:
                names = {n: f"{zone}.{kind}{n}" for n in (*ZONE_METRICS, *VOLUMES)}
                known = {n: scored.figures[k] for n, k in names.items() if k in scored.figures}
                found[group][zone] = known or None
        return found | {name: v for name, v in scored.figures.items() if "." not in name}

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
        for factor in sorted({scale.factor for scale in done.scales}):
            names = []
            for method in done.methods:
                low, high = method.model.card.factors if method.model else (0.0, factor)
                if method.evaluations and not low <= factor <= high:
                    names.append(method.name)
            lines += [f"Not trained for x{factor:g}: {', '.join(names)}."] if names else []
        return lines

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
                rows, original = done.at(scale, seen), ORIGINAL[scale.scoring]
                restored = [r for r in rows if r.method != original]
                found += [_scores_table(rows, scale)] if rows else []
                if restored:
                    title = f"{scale}: against the segmentation of the {original}, {patients_in(restored)}"
                    found.append(table_of(title, _columns(restored, "agreement.")))
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


def _scores_table(rows: Sequence[Row], scale: Scale) -> Table:
    """Every method against the labels, and the image that was not restored."""
    columns = _columns(rows)
    empty = []
    for row in rows:
        found = [row.means.get(f"{zone}.hd95_mm") for zone in ZONES]
        missing = (str(row.patients - (mean.n if mean else 0)) for mean in found)
        empty.append(f"{', '.join(missing)} of {row.patients}")
    columns.append(Column(f"empty {', '.join(ZONES)}", empty))
    for name, metric in STACK_METRICS.items():
        if any(name in r.means for r in rows):
            columns.append(metric_column(rows, name, metric, [ORIGINAL[scale.scoring]]))
    return table_of(f"{scale}: against the labels, {patients_in(rows)}", columns)


def _columns(rows: Sequence[Row], kind: str = "") -> list[Column]:
    """The method, and the figures of every zone."""
    columns = [Column("method", [row.method for row in rows])]
    for zone in ZONES:
        for name, m in ZONE_METRICS.items():
            titled = m._replace(title=f"{zone} {m.title}")
            columns.append(
                metric_column(rows, f"{zone}.{kind}{name}", titled, [*ORIGINAL.values()])
            )
    return columns


def zones_tables(figures: Mapping[str, Any]) -> list[Table]:
    """The figures of a card: a table of the held-out patients, one of those that were trained on."""
    metrics = [(z, n, m) for z in ZONES for n, m in ZONE_METRICS.items()]
    columns = ["patient", *(f"{zone} {m.title}" for zone, _, m in metrics)]
    tables = []
    for group, title in CARD_TITLES.items():
        cells = []
        for case, scores in figures.get(group, {}).items():
            values = ((scores[zone][name], m.format) for zone, name, m in metrics)
            cells.append([case, *("-" if v is None else f"{v:{form}}" for v, form in values)])
        tables += [Table(title, columns, cells)] if cells else []
    return tables
