"""The figures of a model's card: what an evaluation found of it, and the tables that are made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrisr.core.errors import UsageError
from mrisr.evaluation.case import METRICS
from mrisr.evaluation.experiment import Evaluation
from mrisr.evaluation.methods import Method
from mrisr.evaluation.tables import Column, Table, table_of
from mrisr.models.store import write_card

#: Figures of a card, for each patient and as means.
FIGURES = ("psnr", "ssim", "spectrum", "texture", "lpips", "residual", "cpu_seconds", "evaluations")


def write_figures(evaluation: Evaluation, model: str | None) -> None:
    """Put the figures of the file's model into its card; of a file without one, those of every model that
    it samples by its defaults, unless that card's figures were made by another command.

    Raises:
        UsageError: there is no such model, or no method samples it by default.
        OutputError: a card cannot be written.
    """
    methods = [m for m in evaluation.methods if not m.is_interpolation]
    cards = {}
    for name, found in {m.entry.model: m.model for m in methods if m.model}.items():
        own = [m for m in methods if m.model is found]
        made_by = found.card.figures.get("command", evaluation.command)
        may_replace = made_by == evaluation.command and any(m.is_default for m in own)
        if name == model or (model is None and may_replace):
            figures = {"figures": card_figures(evaluation, own)}
            cards[found.path] = found.card.model_copy(update=figures)
    if not cards:
        raise UsageError("--card: name the model in the file (model), or give --model")
    for path, card in cards.items():
        write_card(card, path)


def card_figures(evaluation: Evaluation, own: Sequence[Method]) -> dict[str, Any]:
    """Figures of a model's methods, and of the interpolations beside them, patient by patient and as
    means over patients; ``default`` names the method that is the model's own default."""
    default = next((m.name for m in own if m.is_default), None)
    if default is None:
        raise UsageError("--card: no method of the file samples the model by its defaults")
    shown = {m.name for m in evaluation.methods if m.is_interpolation} | {m.name for m in own}
    baseline = evaluation.experiment.baseline
    based = [r for r in evaluation.results if r.method == baseline]
    base = {(r.case, r.series, r.scale): r.scored.means()["psnr"] for r in based}
    patients = []
    for r in (r for r in evaluation.results if r.method in shown):
        head = {"method": r.method, "case": r.case, "series": r.series, "factor": r.scale.factor}
        figures = r.scored.means()
        patients.append(head | _shown(figures, figures["psnr"] - base[r.case, r.series, r.scale]))
    means = []
    for row in evaluation.rows:
        if row.method in shown and row.gain is not None:
            figures = {name: mean.value for name, mean in row.means.items()}
            head = {"method": row.method, "factor": row.scale.factor}
            means.append(head | _shown(figures, row.gain.value))
    return {
        "command": evaluation.command,
        "protocol": evaluation.experiment.protocol,
        "machine": evaluation.machine,
        "baseline": baseline,
        "default": default,
        "patients": patients,
        "means": means,
    }


def _shown(figures: Mapping[str, float], gain: float) -> dict[str, float]:
    """The figures of a card with six digits, and the gain with four decimals."""
    kept = {name: float(f"{v:.6g}") for name, v in figures.items() if name in FIGURES}
    return kept | {"gain": round(gain, 4)}


def gains(figures: Mapping[str, Any]) -> dict[float, float]:
    """Factor -> mean gain over the baseline of the model's default, dB."""
    rows = figures.get("means", [])
    return {r["factor"]: r["gain"] for r in rows if r["method"] == figures["default"]}


def patients_table(figures: Mapping[str, Any]) -> Table:
    """The model's default against the interpolation, patient by patient."""
    by_place: dict[tuple[str, str, float], dict[str, Any]] = {}
    for r in figures["patients"]:
        by_place.setdefault((r["case"], r["series"], r["factor"]), {})[r["method"]] = r
    cells = []
    for (case, series, factor), found in by_place.items():
        base, own = found.get(figures["baseline"]), found.get(figures["default"])
        if base is not None and own is not None:
            line = [f"{r['psnr']:.2f} / {r['ssim']:.4f}" for r in (base, own)]
            tail = [f"{own['gain']:+.2f}", f"{own['residual']:.1e}"]
            cells.append([case, series, f"x{factor:g}", *line, *tail])
    columns = ["patient", "series", "factor", f"{figures['baseline']} dB / SSIM", "model dB / SSIM"]
    title = "patient by patient"
    return Table(title, [*columns, "gain dB", "residual"], cells)


def means_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Every way to sample the model beside the interpolations, mean over patients; one table per factor."""
    found = []
    for factor in sorted({r["factor"] for r in figures["means"]}):
        rows = [r for r in figures["means"] if r["factor"] == factor]
        names = [n for n in FIGURES if n != "residual" and any(n in r for r in rows)]
        columns = [Column("method", [r["method"] for r in rows])]
        for n in names:
            cells = [f"{r[n]:{METRICS[n].format}}" if n in r else "" for r in rows]
            columns.append(Column(METRICS[n].title, cells))
        columns.append(Column("gain dB", [f"{r['gain']:+.2f}" for r in rows]))
        found.append(table_of(f"x{factor:g}, mean over patients", columns))
    return found
