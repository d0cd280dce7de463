"""The figures of a model's card: what an evaluation found of it, and the tables that are made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrisr.core.errors import UsageError
from mrisr.evaluation.case import METRICS
from mrisr.evaluation.methods import Method
from mrisr.evaluation.outcome import Evaluation
from mrisr.evaluation.report import as_dictionary
from mrisr.evaluation.tabulate import Table
from mrisr.models.card import ModelCard
from mrisr.models.store import write_card

#: Figures that a card keeps for each patient and as means.
KEPT = ("psnr", "ssim", "spectrum", "texture", "lpips", "residual", "cpu_seconds", "evaluations")


def write_figures(evaluation: Evaluation, model: str | None) -> list[ModelCard]:
    """Put the figures of the file's model into its card; of a file without one, those of every model that
    it samples by its defaults, unless that card's figures were made by another command.

    Raises:
        UsageError: there is no such model, or no method samples it by default.
        OutputError: a card cannot be written.
    """
    learned = [m for m in evaluation.methods if m.model is not None and not _is_interpolation(m)]
    names = [model] if model is not None else list(dict.fromkeys(m.entry.model for m in learned))
    written = []
    for name in names:
        own = [m for m in learned if m.entry.model == name]
        found = own[0].model if own else None
        if found is None:
            continue
        if model is None and not _may_replace(found.card, own, evaluation.command):
            continue
        card = found.card.model_copy(update={"figures": card_figures(evaluation, own)})
        write_card(card, found.path)
        written.append(card)
    if not written:
        raise UsageError("--card: name the model in the file (model), or give --model")
    return written


def _may_replace(card: ModelCard, own: Sequence[Method], command: str) -> bool:
    """Whether a comparison may write a card's figures: it samples the model by default, and made the old."""
    return any(map(_is_default, own)) and card.figures.get("command", command) == command


def card_figures(evaluation: Evaluation, own: Sequence[Method]) -> dict[str, Any]:
    """Figures of a model's methods, and of the interpolations beside them, patient by patient and as
    means over patients; ``default`` names the method that is the model's own default."""
    default = next((m.name for m in own if _is_default(m)), None)
    if default is None:
        raise UsageError("--card: no method of the file samples the model by its defaults")
    shown = {m.name for m in evaluation.methods if _is_interpolation(m)} | {m.name for m in own}
    content = as_dictionary(evaluation)
    baseline = evaluation.settings.baseline_name
    base = {
        (r["case"], r["series"], r["factor"]): r["means"]["psnr"]
        for r in content["cases"]
        if r["method"] == baseline
    }
    patients = []
    for r in content["cases"]:
        if r["method"] in shown:
            head = {k: r[k] for k in ("method", "case", "series", "factor")}
            gain = r["means"]["psnr"] - base[r["case"], r["series"], r["factor"]]
            figures = {k: v for k, v in r["means"].items() if k in KEPT}
            patients.append({**head, **figures, "gain": round(gain, 4)})
    means = []
    for row in content["rows"]:
        if row["method"] in shown:
            figures = {k: v["value"] for k, v in row["means"].items() if k in KEPT}
            head = {"method": row["method"], "factor": row["factor"]}
            means.append({**head, **figures, "gain": round(row["gain"]["value"], 4)})
    return {
        "command": evaluation.command,
        "protocol": evaluation.protocol,
        "machine": evaluation.machine,
        "baseline": baseline,
        "default": default,
        "patients": patients,
        "means": means,
    }


def _is_interpolation(method: Method) -> bool:
    return method.model is not None and method.model.card.method == "interpolation"


def _is_default(method: Method) -> bool:
    """Whether the method is the model as it restores when nothing else is asked."""
    if (
        method.engine is None
        or method.entry.start is not None
        or method.entry.update != "corrected"
    ):
        return False
    card, engine = method.engine.card, method.engine
    found = (engine.steps, engine.churn, engine.consistency)
    return found == (card.default_steps, card.default_churn, card.default_consistency)


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
    return Table(title, [*columns, "gain dB", "residual"], cells, [set() for _ in cells])


def means_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Every way to sample the model beside the interpolations, mean over patients; one table per factor."""
    found = []
    for factor in sorted({r["factor"] for r in figures["means"]}):
        rows = [r for r in figures["means"] if r["factor"] == factor]
        names = [n for n in KEPT if n != "residual" and any(n in r for r in rows)]
        cells = [
            [
                r["method"],
                *(f"{r[n]:{METRICS[n].format}}" if n in r else "" for n in names),
                f"{r['gain']:+.2f}",
            ]
            for r in rows
        ]
        columns = ["method", *(METRICS[n].title for n in names), "gain dB"]
        title = f"x{factor:g}, mean over patients"
        found.append(Table(title, columns, cells, [set() for _ in cells]))
    return found
