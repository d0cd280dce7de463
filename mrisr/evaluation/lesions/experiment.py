"""``mrisr evaluate lesions``: whether restoration keeps small lesions, and invents none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrisr.config import load_settings
from mrisr.core.errors import UsageError
from mrisr.core.labels import ZONES
from mrisr.evaluation.case import METRICS, ORIGINAL, Metric, Scale, Scored, finite
from mrisr.evaluation.experiment import Evaluation, Experiment, Section, Switches, conduct
from mrisr.evaluation.lesions.case import LesionsCase, find_cases
from mrisr.evaluation.lesions.figures import pictures_of
from mrisr.evaluation.lesions.observer import CORRELATED, WINDOW_MM
from mrisr.evaluation.lesions.places import SURROUND_MM
from mrisr.evaluation.methods import Method, Report
from mrisr.evaluation.settings import LesionsSettings, MethodEntry
from mrisr.evaluation.statistics import Column, Row, Table, metric_column, patients_in, table_of
from mrisr.models.store import write_card

PROTOCOL = (
    "dark discs, blurred as a pixel blurs, are put into slices of patients that no model was trained on, at "
    "random places of both zones, and the darkest measured spot of every slice is filled up; the slices with "
    "and without them are degraded, with {noise}, and restored as the product does; mean over patients with "
    "the 95% interval of Student's t"
)
TABLES = {
    "recovery": (
        "contrast kept",
        "Contrast kept: restored darkening of the disc's core, against the slices without it, over the true "
        "one; 1 is all. 'erased': the same of a dark spot that was filled; below 1 a part of it comes back.",
    ),
    "auc": (
        "lesions seen, area under the ROC curve",
        "Lesions seen: the observer is a template that knows size and place (disc less a surround of "
        f"{SURROUND_MM:g} mm), with a lesion against such places without; 0.5 is chance. Mean over kinds.",
    ),
}
STACK = {
    "false": Metric("false / cm3", ".2f", -1, True),
    "lost": Metric("lost / cm3", ".2f", -1, True),
    "frc": Metric("FRC reaches /mm", ".3f", 1, True),
    "uncorrelated": Metric("windows below, %", ".0f", -1, True),
    "cpu_seconds": METRICS["cpu_seconds"],
}
SPOTS = (
    "Without lesions: a false spot is dark in the result and darker by {threshold:.0%} of the signal than in "
    "the truth, a lost one the other way round, by the same template at every diameter (Lindeberg 1998); per "
    f"cm3 of gland. FRC in windows of {WINDOW_MM:g} mm (sFRC, Kc et al. 2026): frequency at which it first "
    f"falls below {CORRELATED:g}, and the share of windows where that is less than the coarse "
    "grid's Nyquist frequency."
)


def evaluate_lesions(
    config: Path, data: Path, output: Path, asked: Switches, report: Report = lambda line: None
) -> Evaluation:
    """Put lesions into slices, degrade, restore and look for them; see
    :func:`mrisr.evaluation.experiment.conduct`.

    Args:
        config: a file of the experiment.
        data: a folder of patients or a manifest, as for ``mrisr prepare``.
    """
    experiment = Lesions(load_settings(config, LesionsSettings))
    return conduct(experiment, config, data, output, asked, report)


class Lesions(Experiment):
    """Methods compared by what is left of small lesions, and by what they add."""

    title = "mrisr evaluate lesions"
    heading = "Lesions after restoration"

    def __init__(self, settings: LesionsSettings) -> None:
        self.settings: LesionsSettings = settings
        noise = f"Rician noise of {100 * settings.noise:g}% of the range"
        self.protocol = PROTOCOL.format(
            noise="noise of the scan's own level" if settings.scan_noise else noise
        )
        names = [f"{d:g} mm" for d in settings.diameters]
        self.groups = [*names, *(f"{c:.0%}" for c in settings.contrasts), *ZONES, "all"]

    def find_cases(self, data: Path, methods: Sequence[Method], note: Report) -> list[LesionsCase]:
        return find_cases(data, self.settings, methods, note)

    def controls(self, scale: Scale) -> list[Method]:
        return [Method(MethodEntry(name=ORIGINAL[scale.scoring]))]

    def command(self, config: Path, asked: Switches) -> str:
        named = f" --model {Path(asked.model).name}" if asked.model else ""
        return (
            f"mrisr evaluate lesions --config configs/{config.name}{named} --data DATA --output OUT"
        )

    def line(self, scored: Scored) -> str:
        kept, area, false = (scored.figures[n] for n in ("recovery.all", "auc.all", "false"))
        return f"contrast kept {kept:.2f}, AUC {area:.2f}, false {false:.2f} / cm3"

    def remarks(self, done: Evaluation) -> list[str]:
        levels = {r.case: r.scored.facts["noise_level"] for r in done.results}
        told = ", ".join(f"{case} {100 * level:.1f}%" for case, level in levels.items())
        spots = SPOTS.format(threshold=self.settings.threshold)
        return [*(text for _, text in TABLES.values()), spots, f"Noise, % of the range: {told}."]

    def tables(self, done: Evaluation) -> list[Table]:
        return [
            self._table(done.at(scale), scale, kind)
            for scale in done.scales
            for kind in (*TABLES, "")
        ]

    def _table(self, rows: Sequence[Row], scale: Scale, kind: str) -> Table:
        """A table of contrast kept, of lesions seen, or of the stack."""
        columns, beside = [Column("method", [row.method for row in rows])], [*ORIGINAL.values()]
        shown = {n: m for n, m in STACK.items() if not kind}
        names = [*self.groups, *["erased"] * (kind == "recovery")] if kind else []
        shown |= {
            f"{kind}.{n}": Metric(n, ".2f", 1 if kind == "auc" else None, True) for n in names
        }
        columns += [metric_column(rows, name, metric, beside) for name, metric in shown.items()]
        title = TABLES[kind][0] if kind else "without lesions"
        return table_of(f"{scale}: {title}, {patients_in(rows)}", columns)

    def patient(self, means: Mapping[str, float]) -> dict[str, str]:
        names = {"recovery.all": "contrast kept", "auc.all": "AUC"}
        cells = {title: f"{means[n]:.2f}" for n, title in names.items() if n in means}
        return cells | {m.title: f"{means[n]:{m.format}}" for n, m in STACK.items() if n in means}

    def csv(self, done: Evaluation) -> Table:
        """One row for each stack, factor, method and kind of lesion; what is of the stack stands in each."""
        kind = ("zone", "diameter", "contrast", "lesions", "recovery", "auc")
        cells = []
        for r in done.results:
            head = [r.case, r.series, f"{r.scale.factor:g}", r.method]
            tail = [f"{v:.6g}" if (v := r.scored.means().get(n)) is not None else "" for n in STACK]
            for row in r.scored.facts["kinds"]:
                values = (row[n] for n in kind)
                cells.append(
                    [*head, *(v if isinstance(v, str) else f"{v:.6g}" for v in values), *tail]
                )
        return Table("", ["case", "series", "factor", "method", *kind, *STACK], cells)

    def sections(self, done: Evaluation) -> list[Section]:
        return [Section("Pictures", pictures_of(done, self.settings))]

    def figures(self, scored: Scored) -> dict[str, Any]:
        found: dict[str, Any] = {name: {} for name in TABLES}
        for name, value in scored.figures.items():
            kind, _, group = name.partition(".")
            (found[kind] if group else found)[group or name] = value
        return found

    def write_card(self, done: Evaluation, asked: Switches) -> None:
        """Write the figures of the file's model, as it restores by default, and of the interpolations beside
        it into its card."""
        name = asked.model or self.settings.model
        own = next((m for m in done.methods if m.is_default and m.entry.model == name), None)
        if own is None or own.model is None:
            raise UsageError(
                "--card: expected a method that samples the file's model by its defaults"
            )
        card = own.model.card
        if "means" not in card.figures:
            raise UsageError(
                f"--card: {card.name} has no figures yet; `mrisr evaluate --card` comes first"
            )
        shown = {own.name, *(m.name for m in done.methods if m.is_interpolation)}
        rows = [
            {"method": r.method, "factor": r.scale.factor, "patients": r.patients}
            | {n: m.value for n, m in r.means.items() if n in CARD}
            for r in done.rows
            if r.method in shown
        ]
        found = {"command": f"{done.command} --card", "protocol": self.protocol, "means": rows}
        figures = card.figures | {"lesions": finite(found, digits=4)}
        write_card(card.model_copy(update={"figures": figures}), own.model.path)


#: Figures of a card.
CARD = {
    "recovery.all": Metric("contrast kept", ".2f", None),
    "auc.all": Metric("AUC", ".2f", None),
    "recovery.erased": Metric("erased stays", ".2f", None),
    **{name: STACK[name] for name in ("false", "lost", "uncorrelated")},
}


def lesions_tables(figures: Mapping[str, Any]) -> list[Table]:
    """The table of lesions of a card's figures; none where they were not scored."""
    rows = figures.get("lesions", {}).get("means", [])
    columns = [
        Column("method", [r["method"] for r in rows]),
        Column("factor", [f"x{r['factor']:g}" for r in rows]),
        *(
            Column(m.title, [f"{r[n]:{m.format}}" if n in r else "" for r in rows])
            for n, m in CARD.items()
        ),
    ]
    return [table_of("Lesions, mean over patients", columns)] if rows else []
