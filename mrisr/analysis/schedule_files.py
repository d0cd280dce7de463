"""What ``mrisr analyze schedule`` writes: its tables, its figure, and the schedule into a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mrisr.analysis.figures import BLUE, GREEN, GREY, ORANGE, new_figure, png
from mrisr.analysis.output import number
from mrisr.analysis.schedule import Criterion, Figures, Tried, even, mean_over
from mrisr.analysis.scoring import Means
from mrisr.core.errors import OutputError
from mrisr.io.atomic import make_folder, write_bytes
from mrisr.models.store import Model, read_card, write_card

#: What the criterion's value is called on an axis.
CRITERIA: dict[Criterion, str] = {
    "nearest": "- distance from the reference",
    "psnr": "PSNR (dB)",
    "spectrum": "- spectrum error (dB)",
}


def as_rows(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """One row per candidate: figures on the training patients."""
    return [
        {
            "family": t.candidate.family,
            "parameter": t.candidate.parameter,
            "churn": t.candidate.churn,
            **_numbers(mean_over(t.figures)),
            "value": number(t.value),
            "levels": " ".join(f"{g:.8g}" for g in t.candidate.levels),
        }
        for t in tried
    ]


def _numbers(means: Means) -> dict[str, float | None]:
    return {name: number(value) for name, value in means._asdict().items()}


def comparison(chosen: Figures, evenly: Figures, one_step: Figures) -> dict[str, Any]:
    """The chosen schedule, the evenly spaced one and a single step: means over patients, and what the first
    gains over the second for each patient."""
    named = {"one step": one_step, "evenly spaced": evenly, "chosen": chosen}
    gains = {
        case: _numbers(Means(*np.subtract(chosen[case], evenly[case]).tolist())) for case in chosen
    }
    return {
        "means": {name: _numbers(mean_over(figures)) for name, figures in named.items()},
        "gain_by_patient": gains,
    }


def as_markdown(title: str, found: dict[str, Any]) -> str:
    """One comparison as a table, and the range of the gains."""
    gains = found["gain_by_patient"].values()
    lines = [
        f"{title} ({len(gains)}):",
        "",
        "| levels | PSNR dB | SSIM | spectrum error dB | distance |",
        "|---|---|---|---|---|",
    ]
    for name, s in found["means"].items():
        lines.append(
            f"| {name} | {s['psnr']:.3f} | {s['ssim']:.4f} | {s['spectrum']:.3f} | {s['distance']:.4f} |"
        )
    ranges = [
        f"{title} {min(g[name] for g in gains):+.3f} to {max(g[name] for g in gains):+.3f}"
        for name, title in (
            ("psnr", "PSNR dB"),
            ("spectrum", "spectrum error dB"),
            ("distance", "distance"),
        )
    ]
    lines += ["", f"Chosen less evenly spaced, single patients: {'; '.join(ranges)}."]
    return "\n".join([*lines, ""])


def schedule_figure(tried: Sequence[Tried], chosen: Tried, criterion: Criterion) -> bytes:
    """The criterion on the training patients along both families, and where the chosen levels lie."""
    figure = new_figure(11, 3.8)
    time, snr, levels = figure.subplots(1, 3)
    for churn in sorted({t.candidate.churn for t in tried}):
        mine = [t for t in tried if t.candidate.churn == churn]
        style = "-" if churn == 0 else "--"
        for axes, families, colour in ((time, ("time", "even"), BLUE), (snr, ("snr",), GREEN)):
            points = sorted(
                (t.candidate.parameter, t.value) for t in mine if t.candidate.family in families
            )
            x, y = zip(*points, strict=True)
            axes.plot(x, y, style, marker="o", ms=3, color=colour, label=f"churn {churn:g}")
            axes.axhline(even(tried, churn).value, ls=":", color=GREY, lw=0.8)
            axes.legend(frameon=False)
    time.set(xlabel="power of the spacing in time (1: even)", xscale="log")
    time.set_xticks([0.5, 1, 2, 3], ["0.5", "1", "2", "3"])
    time.minorticks_off()
    time.set_ylabel(CRITERIA[criterion])
    snr.set(xlabel="last noise scale before 1 (dotted: even in time)")
    base = even(tried, chosen.candidate.churn)
    for t, colour, name in ((base, GREY, "even"), (chosen, ORANGE, "chosen")):
        levels.plot(t.candidate.levels, "o-", color=colour, label=name)
    levels.set(xlabel="level", ylabel="noise scale g", ylim=(0, 1.02))
    levels.legend(frameon=False)
    return png(figure)


def write_schedule(model: Model, path: Path) -> Path:
    """Put a model's schedules into the model at ``path``, beside those that it has.

    ``path`` is a folder, which becomes a copy of the model if there is none in it yet, or the card of a copy.

    Returns:
        The card that was written.

    Raises:
        OutputError: another model lies there, or it cannot be written.
    """
    card_file = path if path.suffix == ".json" else path / "model.json"
    card = model.card
    if card_file.exists():
        there = read_card(card_file)
        if there.sha256 != card.sha256:
            raise OutputError(
                f"{card_file}: expected the weights of {card.name}, found {there.name}"
            )
        schedules = {**there.diffusion.schedules, **card.diffusion.schedules}
        card = there.model_copy(
            update={"diffusion": there.diffusion.model_copy(update={"schedules": schedules})}
        )
    else:
        make_folder(card_file.parent)
        weights = model.path.with_suffix(".safetensors").read_bytes()
        write_bytes(card_file.with_suffix(".safetensors"), weights)
    write_card(card, card_file)
    return card_file
