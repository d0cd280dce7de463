"""Restored images compared with what they were, or with another scan: tables, remarks and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrisr.config import load_settings
from mrisr.core.errors import InputError
from mrisr.data import cache
from mrisr.evaluation import figures
from mrisr.evaluation.case import METRICS, SLICE_METRICS, Case, Scale, Scored
from mrisr.evaluation.degraded import DegradedCase, MeasuredCase, stack_volume
from mrisr.evaluation.experiment import Evaluation, Experiment, Picture, Section, Switches, conduct
from mrisr.evaluation.methods import Method, Report, held_out_cases
from mrisr.evaluation.reference import reference_cases
from mrisr.evaluation.report import write_figures
from mrisr.evaluation.settings import EvaluationSettings
from mrisr.evaluation.statistics import (
    Column,
    Paired,
    Row,
    Table,
    cell,
    metric_column,
    patients_in,
    table_of,
)
from mrisr.metrics import load_lpips
from mrisr.view.pages import png

PROTOCOL = {
    "degraded": "slices of patients that no model was trained on: centre crop, volume scaled to its 0..99.5 "
    "percentile and clipped to 0..1, degraded to the coarse volume that a scanner would write, restored as "
    "the product does, compared with what they were",
    "measured": "real stacks of patients that no model was trained on, restored as the product does, with no "
    "truth: noise / scan is the grain of the result on the scan's pixels over the scan's (Immerkaer, median)",
    "reference": "a real stack, restored, compared with another scan of the same patient after registration: "
    "a reference, not the truth",
}
FIGURES = (
    "PSNR, SSIM and spectrum error per slice, then the mean over slices, then over patients with the 95% "
    "interval of Student's t; residual is the RMS of A x - y over the intensity range, its mean square is "
    "given in 1e-5; seconds are those of one slice alone, on the clock and summed over the processor's "
    "threads, which other load lengthens less"
)
SPECTRUM = (
    "Spectrum error counts missing and invented texture alike (0 is best); texture is power above the "
    "low-resolution band against the reference's (0 dB is as much, blur is negative)."
)
TESTED = (
    "Differences are tested over patients (paired t; W: Wilcoxon's signed ranks, from 6 patients on). "
    "Slices of one patient are not independent: their spread is described, not tested."
)
SHOWN = (
    "The centre of one slice, where the prostate lies. Below each result its difference from the reference, "
    f"on a scale of plus and minus {figures.DIFFERENCE} of the intensity range. Figures are means of the "
    "stack."
)
LEVELS = "Level lines are interpolations, which evaluate no network."
#: Stacks of each scale that are shown as pictures.
STACKS = 2


def evaluate(
    config: Path, data: Path, output: Path, asked: Switches, report: Report = lambda line: None
) -> Evaluation:
    """Compare the methods of a file on restored images; see :func:`conduct`.

    Args:
        config: an evaluation file.
        data: a cache made by ``mrisr prepare``; with ``scoring: reference`` a folder of patients.
    """
    experiment = Images(load_settings(config, EvaluationSettings))
    return conduct(experiment, config, data, output, asked, report)


class Images(Experiment):
    """Methods compared by the images that they restore."""

    title = "mrisr evaluate"
    heading = "Comparison of methods"

    def __init__(self, settings: EvaluationSettings) -> None:
        self.settings: EvaluationSettings = settings
        noise = f"; with Rician noise of {100 * settings.noise:g}% of the range" * bool(
            settings.noise
        )
        self.protocol = f"{PROTOCOL[settings.scoring]}{noise}; {FIGURES}"
        self.baseline, self.reference = settings.baseline_name, settings.reference

    def find_cases(self, data: Path, methods: Sequence[Method], note: Report) -> Sequence[Case]:
        settings = self.settings
        names = held_out_cases(settings, methods, note)
        cases: Sequence[Case]
        if settings.scoring == "reference":
            cases = reference_cases(data, settings, names)
        else:
            stacks = [s for s in cache.read_stacks(data, settings.planes) if s.case in names]
            if settings.scoring == "measured":
                cases = [MeasuredCase(s.case, s.series, stack_volume(s), settings) for s in stacks]
            else:
                lpips = load_lpips()
                cases = [
                    DegradedCase(s.case, s.series, stack_volume(s), settings, lpips) for s in stacks
                ]
        if not cases:
            wanted = f"stacks of {', '.join(names)} ({', '.join(settings.planes)})"
            raise InputError(data, expected=wanted, found="none")
        for name in sorted(set(names) - {case.name for case in cases}):
            note(f"left out: {name}, which has no scan to score")
        return cases

    def command(self, config: Path, asked: Switches) -> str:
        data = "DATA" if self.settings.scoring == "reference" else "CACHE"
        model = asked.model or self.settings.model
        named = f" --model {model}" if model is not None else ""
        return f"mrisr evaluate --config configs/{config.name}{named} --data {data} --output OUT"

    def line(self, scored: Scored) -> str:
        means = scored.means()
        if self.settings.scoring == "measured":
            return f"noise {means['noise']:.2f} of the scan's"
        return f"{means['psnr']:.2f} dB, SSIM {means['ssim']:.4f}"

    def figures(self, scored: Scored) -> dict[str, Any]:
        content = dict(scored.figures)
        volume = {k: content.pop(k) for k in ("residual", "consistency") if k in content}
        return {"slices": dict(scored.slices), "volume": volume, **content}

    def write_card(self, done: Evaluation, asked: Switches) -> None:
        write_figures(done, asked.model or self.settings.model)

    def remarks(self, done: Evaluation) -> list[str]:
        measured = {name for row in done.rows for name in row.means}
        lines = [SPECTRUM] if "spectrum" in measured else []
        lines += [TESTED] if self.reference is not None else []
        if self.settings.scoring == "degraded" and "lpips" not in measured:
            lines.append("LPIPS was not measured: MRISR_LPIPS names no folder with its weights.")
        return lines

    def tables(self, done: Evaluation) -> list[Table]:
        found = []
        for scale in done.scales:
            rows = done.at(scale)
            found.append(self._quality(rows, scale))
            paired = [row for row in rows if row.paired]
            found += [self._differences(paired, scale)] if paired else []
        return found

    def _quality(self, rows: Sequence[Row], scale: Scale) -> Table:
        columns = [Column("method", [row.method for row in rows])]
        columns += [
            metric_column(rows, name, metric)
            for name, metric in METRICS.items()
            if any(name in r.means for r in rows)
        ]
        if self.settings.scoring != "measured":
            gains = [cell(row.gain, "+.2f", interval=True) for row in rows]
            columns.append(Column(f"gain over {self.baseline} dB", gains))
        return table_of(f"{scale}: {patients_in(rows)}", columns)

    def _differences(self, rows: Sequence[Row], scale: Scale) -> Table:
        columns, cells = ["method"], [[row.method] for row in rows]
        for name, metric in SLICE_METRICS.items():
            if name == "texture" or not any(name in r.paired for r in rows):
                continue
            columns += [f"{metric.title}: patients", "p", "slices: mean ± SD (share above 0)"]
            for row, line in zip(rows, cells, strict=True):
                line += _paired_cells(row.paired.get(name), metric.format)
        return Table(f"{scale}: difference from {self.reference}", columns, cells)

    def patient(self, means: Mapping[str, float]) -> dict[str, str]:
        measured = self.settings.scoring == "measured"
        names = ("noise", "residual") if measured else ("psnr", "ssim", "spectrum")
        shown = {k: METRICS[k] for k in names}
        return {m.title: f"{means[k]:{m.format}}" if k in means else "" for k, m in shown.items()}

    def csv(self, done: Evaluation) -> Table:
        """One row per stack, factor and method; a figure that was not measured is left empty."""
        models = {m.name: "" if m.model is None else m.model.card.name for m in done.methods}
        names = [n for n in METRICS if any(n in r.scored.means() for r in done.results)]
        cells = []
        for r in done.results:
            means = r.scored.means()
            gain = done.gain(r)
            slices = max((len(v) for v in r.scored.slices.values()), default=0)
            head = [r.case, r.series, f"{r.scale.factor:g}", r.method, models.get(r.method, "")]
            values = [f"{means[n]:.6g}" if n in means else "" for n in names]
            cells.append([*head, str(slices), *values, "" if gain is None else f"{gain:.6g}"])
        columns = ["case", "series", "factor", "method", "model", "slices", *names, "gain"]
        return Table("", columns, cells)

    def sections(self, done: Evaluation) -> list[Section]:
        steps, pictures = [], []
        for scale in done.scales:
            drawn = png(figures.against_steps(done, scale))
            title = f"PSNR and spectrum error against network evaluations, {scale}"
            steps.append(Picture(title, f"Mean over patients, {scale}. {LEVELS}", drawn))
            for name, results in list(figures.stacks(done, scale).items())[:STACKS]:
                drawn = png(figures.comparison(done, results))
                title = f"Slices and difference maps of {name}, {scale}"
                pictures.append(Picture(title, f"{name}, {scale}", drawn))
        return [Section("Error against steps", steps), Section("Pictures", pictures, SHOWN)]


def _paired_cells(paired: Paired | None, form: str) -> list[str]:
    if paired is None:
        return ["", "", ""]
    signed = form if form.startswith("+") else f"+{form}"
    p = "-" if paired.p is None else f"{paired.p:.2g}"
    if paired.p_wilcoxon is not None:
        p += f" (W {paired.p_wilcoxon:.2g})"
    share = f"{100 * paired.slice_share:.0f}% of {paired.slices}"
    slices = f"{paired.slice_mean:{signed}} ± {paired.slice_sd:{form}} ({share})"
    return [cell(paired.patients, signed, True), p, slices]
