"""``mrisr evaluate``: tables of a model on held-out patients, and the figures of its card."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mrisr import cache
from mrisr.errors import InputError, UsageError
from mrisr.evaluation.score import Case, Score, held_out, score_case, with_sampler
from mrisr.evaluation.settings import EvaluationSettings, Sampler, load_evaluation
from mrisr.inference.engine import Engine
from mrisr.inference.options import Options
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.models.card import ModelCard
from mrisr.models.store import load_model, write_card


def evaluate(
    config: Path,
    data: Path,
    output: Path,
    *,
    model: str | None = None,
    device: str = "auto",
    into_card: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> str:
    """Score a model and write ``scores.csv``, ``scores.json`` and ``scores.md`` into ``output``.

    Args:
        config: an evaluation file.
        data: a cache made by ``mrisr prepare``.
        model: another model than the file's.
        into_card: also put the figures into the model's card.

    Returns:
        The Markdown text.

    Raises:
        InputError: the cache holds none of the patients.
        UsageError: the model is for another job.
    """
    settings = load_evaluation(config)
    loaded = load_model(model or settings.model)
    cases = _cases(loaded.card, settings, data)
    make_folder(output)
    engine = Engine(loaded, Options(device=device))
    scores = score_default(engine, cases, settings, report)
    curve = score_curve(engine, cases, settings, report)
    figures = as_figures(scores, curve, _command(config, loaded.card.name))
    text = as_markdown(scores, curve)
    write_tables(output, figures, scores, text)
    if into_card:
        write_card(loaded.card.model_copy(update={"figures": figures}), loaded.path)
    return text


def write_tables(output: Path, figures: dict[str, Any], scores: Sequence[Score], text: str) -> None:
    """Write ``scores.json``, ``scores.csv`` and ``scores.md``. Raises OutputError."""
    write_together(
        {
            output / "scores.json": json_bytes(figures),
            output / "scores.csv": as_csv(scores).encode(),
            output / "scores.md": text.encode(),
        }
    )


def _cases(card: ModelCard, settings: EvaluationSettings, data: Path) -> list[Case]:
    """The stacks to score, none of a patient that the model was trained on."""
    if card.job != settings.job:
        raise UsageError(f"{card.name}: expected a model for {settings.job}, found {card.job}")
    names = settings.cases or card.training.validation_cases
    seen = sorted(set(names) & set(card.training.cases))
    if seen:
        raise UsageError(f"{card.name} was trained on {', '.join(seen)}; score other patients")
    cases = held_out(cache.read_stacks(data, settings.planes), settings, names)
    if not cases:
        wanted = f"stacks of {', '.join(names)} ({', '.join(settings.planes)})"
        raise InputError(data, expected=wanted, found="none")
    return cases


def _command(config: Path, model: str) -> str:
    """What reproduces the figures; CACHE and OUT stand for the reader's folders."""
    return (
        f"mrisr evaluate --config configs/{config.name} --model {model} --data CACHE --output OUT"
    )


def score_default(
    engine: Engine,
    cases: Iterable[Case],
    settings: EvaluationSettings,
    report: Callable[[str], None],
) -> list[Score]:
    """The model's default sampler, patient by patient and factor by factor."""
    scores = []
    for case in cases:
        for factor in settings.factors:
            s = score_case(engine, case, settings, factor)
            report(
                f"{s.case} {s.series} x{factor:g}: {s.psnr:.2f} dB ({s.gain:+.2f}), SSIM {s.ssim:.4f}"
            )
            scores.append(s)
    return scores


def score_curve(
    engine: Engine,
    cases: Sequence[Case],
    settings: EvaluationSettings,
    report: Callable[[str], None],
) -> list[tuple[Sampler, Score]]:
    """Fidelity and texture of each sampler at one factor, averaged over patients."""
    factor = settings.curve_factor or max(settings.factors)
    rows = []
    for sampler in settings.samplers:
        sampled = with_sampler(engine, sampler)
        scores = [score_case(sampled, case, settings, factor) for case in cases]
        row = mean_score(scores)
        report(
            f"{sampler.steps} steps, churn {sampler.churn:g}, {sampler.update}: {row.psnr:.2f} dB"
        )
        rows.append((sampler, row))
    return rows


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean over patients (each patient's stacks first), not over slices."""
    patients = sorted({s.case for s in scores})
    rows = {p: [s._asdict() for s in scores if s.case == p] for p in patients}
    names = [name for name in Score._fields if name not in ("case", "series")]
    means: dict[str, Any] = {
        name: _mean([_mean([row[name] for row in rows[p]]) for p in patients]) for name in names
    }
    return Score("mean", f"{len(patients)} patients", **means)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def as_figures(
    scores: Sequence[Score], curve: Sequence[tuple[Sampler, Score]], command: str
) -> dict[str, Any]:
    """JSON-ready figures with the command that makes them."""

    def row(s: Score) -> dict[str, Any]:
        values = {
            k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in s._asdict().items()
        }
        return {**values, "gain": round(s.gain, 4)}

    return {
        "command": command,
        "protocol": "centre crop; volume scaled to its 0..99.5 percentile, clipped to 0..1; PSNR and SSIM "
        "per slice, then the mean over slices; residual is the RMS of A x - y over the intensity range",
        "patients": [row(s) for s in scores],
        "curve": [{**sampler.model_dump(), **row(s)} for sampler, s in curve],
    }


def as_csv(scores: Sequence[Score]) -> str:
    """One row per stack and factor."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Score._fields, "gain"])
    writer.writerows([*s, s.gain] for s in scores)
    return text.getvalue()


def as_markdown(scores: Sequence[Score], curve: Sequence[tuple[Sampler, Score]]) -> str:
    """The tables as Markdown."""
    lines = [
        "| patient | series | factor | interpolation | interpolation, projected | model | gain dB "
        "| residual | s / slice |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in scores:
        lines.append(
            f"| {s.case} | {s.series} | x{s.factor:g} "
            f"| {s.psnr_interpolated:.2f} / {s.ssim_interpolated:.4f} "
            f"| {s.psnr_projected:.2f} / {s.ssim_projected:.4f} "
            f"| {s.psnr:.2f} / {s.ssim:.4f} | {s.gain:+.2f} | {s.residual:.1e} | {s.seconds:.2f} |"
        )
    if curve:
        first = curve[0][1]
        lines += [
            "",
            f"| sampler (x{first.factor:g}, mean over patients) | PSNR | SSIM | gain dB | texture dB "
            "| s / slice |",
            "|---|---|---|---|---|---|",
            f"| interpolation | {first.psnr_interpolated:.2f} | {first.ssim_interpolated:.4f} | 0 "
            f"| {first.texture_interpolated:+.1f} | |",
            f"| interpolation, projected | {first.psnr_projected:.2f} | {first.ssim_projected:.4f} "
            f"| {first.psnr_projected - first.psnr_interpolated:+.2f} "
            f"| {first.texture_projected:+.1f} | |",
        ]
        for sampler, s in curve:
            kind = "deterministic" if sampler.churn == 0 else f"ancestral (churn {sampler.churn:g})"
            lines.append(
                f"| {sampler.steps} step{'s' * (sampler.steps > 1)}, {kind}, {sampler.update} | {s.psnr:.2f} "
                f"| {s.ssim:.4f} | {s.gain:+.2f} | {s.texture:+.1f} | {s.seconds:.2f} |"
            )
    return "\n".join(lines) + "\n"
