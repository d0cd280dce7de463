"""What the command line prints: models, cards and surveys as plain text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mrisr.io.survey import SeriesInfo
from mrisr.models.card import ModelCard


def rendered(*parts: object, width: int = 110) -> str:
    """Rich renderables as text without colour; brackets in a text are text, not markup."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, markup=False, emoji=False)
    console.print(*parts, sep="\n", highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def plain_table(*columns: str) -> Table:
    """A table without lines, whose cells wrap."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def listing(cards: Sequence[ModelCard]) -> str:
    """One line per model."""
    table = plain_table("model", "job", "factors", "steps", "gain over interpolation", "sha256")
    for card in cards:
        low, high = card.factors
        table.add_row(
            card.name,
            card.job,
            f"x{low:g} to x{high:g}",
            str(card.default_steps),
            _gains(card),
            card.sha256[:12],
        )
    return rendered(table) if cards else "no models"


def _gains(card: ModelCard) -> str:
    """Mean gain per factor over the scored patients, as the card states it."""
    gains: dict[float, list[float]] = {}
    for row in card.figures.get("patients", []):
        gains.setdefault(row["factor"], []).append(row["gain"])
    return ", ".join(f"x{f:g} {sum(g) / len(g):+.2f} dB" for f, g in gains.items()) or "not scored"


def card_text(card: ModelCard) -> str:
    """A model card for reading."""
    t, d = card.training, card.diffusion
    facts = plain_table("", "")
    rows = {
        "model": card.name,
        "job": card.job,
        "description": card.description,
        "factors": f"x{card.factors[0]:g} to x{card.factors[1]:g}",
        "default": f"{card.default_steps} step(s), churn {card.default_churn:g}",
        "network": ", ".join(f"{k} {v}" for k, v in card.network.model_dump().items()),
        "diffusion": f"{d.path} path from g = {d.start:g}, predicts {d.prediction}",
        "trained on": ", ".join(t.cases),
        "held out": ", ".join(t.validation_cases),
        "training": f"{t.iterations} steps of {t.batch} crops of {t.crop}, "
        f"{t.seconds / 60:.0f} min on {t.hardware}, {t.precision}",
        "started from": t.initialized_from or "random weights",
        "software": t.software,
        "weights": f"{card.sha256} ({card.weights_licence})",
        "data licences": "; ".join(card.data_licences) or "not stated",
        "intended use": card.intended_use,
        "limitations": "; ".join(card.limitations) or "not stated",
    }
    for key, value in rows.items():
        facts.add_row(key, value)
    parts: list[object] = [facts]
    if card.figures:
        parts += ["", f"held-out figures, by: {card.figures['command']}", _figures(card)]
    if card.figures.get("curve"):
        parts += ["", "fidelity and texture against steps, mean over patients", _curve(card)]
    return rendered(*parts)


def _figures(card: ModelCard) -> Table:
    table = plain_table(
        "patient",
        "series",
        "factor",
        "interpolation dB / SSIM",
        "the same, projected",
        "model dB / SSIM",
        "gain dB",
        "residual",
    )
    for r in card.figures["patients"]:
        table.add_row(
            r["case"],
            r["series"],
            f"x{r['factor']:g}",
            f"{r['psnr_interpolated']:.2f} / {r['ssim_interpolated']:.4f}",
            f"{r['psnr_projected']:.2f} / {r['ssim_projected']:.4f}",
            f"{r['psnr']:.2f} / {r['ssim']:.4f}",
            f"{r['gain']:+.2f}",
            f"{r['residual']:.1e}",
        )
    return table


def _curve(card: ModelCard) -> Table:
    table = plain_table("steps", "churn", "update", "PSNR", "SSIM", "gain dB", "texture dB")
    for r in card.figures["curve"]:
        table.add_row(
            str(r["steps"]),
            f"{r['churn']:g}",
            r["update"],
            f"{r['psnr']:.2f}",
            f"{r['ssim']:.4f}",
            f"{r['gain']:+.2f}",
            f"{r['texture']:+.1f}",
        )
    return table


def survey_text(found: Sequence[SeriesInfo]) -> str:
    """One row per series, and below each what is wrong with it or worth knowing."""
    if not found:
        return "no volumes found"
    table = plain_table(
        "series",
        "kind",
        "plane",
        "shape",
        "spacing mm",
        "thickness mm",
        "axes",
        "type",
        "description",
    )
    remarks = []
    for s in found:
        spacing = " x ".join(f"{v:.4g}" for v in s.spacing) if s.spacing else "-"
        table.add_row(
            s.name,
            s.kind,
            s.plane or "-",
            "x".join(map(str, s.shape)) if s.shape else "-",
            spacing,
            f"{s.slice_thickness:g}" if s.slice_thickness else "-",
            s.orientation or "-",
            s.dtype or "-",
            s.description,
        )
        remarks += [f"note: {s.name}: {note}" for note in s.notes]
        remarks += [f"problem: {problem}" for problem in s.problems]
    return "\n".join([rendered(table), *remarks])
