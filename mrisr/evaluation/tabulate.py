"""The tables of an evaluation, ready to print in any form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mrisr.evaluation.case import METRICS, SLICE_METRICS
from mrisr.evaluation.outcome import Evaluation
from mrisr.evaluation.statistics import Mean, Paired, patient_means


class Table(NamedTuple):
    """A table ready to print: its title, its columns, its rows of cells, and which cells are the best."""

    title: str
    columns: list[str]
    cells: list[list[str]]
    best: list[set[int]]

    def as_markdown(self) -> str:
        """The table in Markdown, the best in bold."""
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        for row, best in zip(self.cells, self.best, strict=True):
            marked = [f"**{c}**" if i in best else c for i, c in enumerate(row)]
            lines.append(f"| {' | '.join(c.replace('|', '/') for c in marked)} |")
        return "\n".join([f"### {self.title}", "", *lines, ""])


def quality_table(evaluation: Evaluation, factor: float) -> Table:
    """Every method's figures at one factor, means over patients."""
    rows = evaluation.at(factor)
    names = [n for n in METRICS if any(n in r.means for r in rows)]
    cells, best = [], [set[int]() for _ in rows]
    for row in rows:
        figures = [cell(row.means.get(n), METRICS[n].format, n in ("psnr", "ssim")) for n in names]
        cells.append([row.method, *figures, cell(row.gain, "+.2f", True)])
    for column, name in enumerate(names, start=1):
        for index in best_of([r.means.get(name) for r in rows], METRICS[name].better):
            best[index].add(column)
    patients = max((m.n for r in rows for m in r.means.values()), default=0)
    title = f"x{factor:g}: mean over {patients} patient{'s' * (patients != 1)}"
    titles = [METRICS[n].title for n in names]
    gain = f"gain over {evaluation.settings.baseline_name} dB"
    return Table(title, ["method", *titles, gain], cells, best)


def paired_table(evaluation: Evaluation, factor: float) -> Table | None:
    """Every method against the reference method at one factor; none where there is no reference."""
    rows = [row for row in evaluation.at(factor) if row.paired]
    if not rows:
        return None
    names = [n for n in SLICE_METRICS if n != "texture" and any(n in r.paired for r in rows)]
    columns = ["method"]
    for name in names:
        title = SLICE_METRICS[name].title
        columns += [f"{title}: patients", "p", "slices: mean ± SD (share above 0)"]
    cells = []
    for row in rows:
        line = [row.method]
        for name in names:
            line += _paired_cells(row.paired.get(name), SLICE_METRICS[name].format)
        cells.append(line)
    title = f"x{factor:g}: difference from {evaluation.settings.reference}"
    return Table(title, columns, cells, [set() for _ in cells])


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


def cell(mean: Mean | None, form: str, interval: bool = False) -> str:
    """A mean, with half its interval where that is asked for and there is one."""
    if mean is None:
        return ""
    text = f"{mean.value:{form}}"
    return (
        f"{text} ± {mean.half:{form.lstrip('+')}}" if interval and mean.half is not None else text
    )


def best_of(means: Sequence[Mean | None], better: int | None) -> list[int]:
    """Indices of the best values of a column; none where nothing is better or all are alike."""
    if better is None:
        return []
    key: Callable[[float], float] = abs if better == 0 else lambda v: -better * v
    values = {i: key(m.value) for i, m in enumerate(means) if m is not None}
    if len(set(values.values())) < 2:
        return []
    return [i for i, v in values.items() if v == min(values.values())]


def patients_table(evaluation: Evaluation) -> Table:
    """PSNR and SSIM of every patient, factor by factor."""
    cells = []
    for factor in evaluation.factors:
        for name in dict.fromkeys(r.method for r in evaluation.results):
            mine = [r for r in evaluation.results if (r.factor, r.method) == (factor, name)]
            for case, means in patient_means(mine).items():
                figures = [
                    f"{means[k]:{METRICS[k].format}}" if k in means else ""
                    for k in ("psnr", "ssim", "spectrum")
                ]
                cells.append([f"x{factor:g}", case, name, *figures])
    columns = [
        "factor",
        "patient",
        "method",
        *(METRICS[k].title for k in ("psnr", "ssim", "spectrum")),
    ]
    return Table("Patient by patient", columns, cells, [set() for _ in cells])


def tables(evaluation: Evaluation) -> list[Table]:
    """All tables, factor by factor."""
    found = []
    for factor in evaluation.factors:
        found.append(quality_table(evaluation, factor))
        found += [t for t in [paired_table(evaluation, factor)] if t is not None]
    return found
