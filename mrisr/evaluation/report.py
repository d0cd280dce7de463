"""An evaluation as files: CSV and JSON for programs, Markdown for reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from mrisr.evaluation.case import METRICS
from mrisr.evaluation.kept import finite
from mrisr.evaluation.methods import Method
from mrisr.evaluation.outcome import Evaluation, Failure
from mrisr.evaluation.results import as_json
from mrisr.evaluation.tabulate import Table, patients_table, tables


def as_dictionary(evaluation: Evaluation) -> dict[str, Any]:
    """Everything, ready for JSON; numbers with six digits."""
    content = {
        "format": 1,
        "command": evaluation.command,
        "protocol": evaluation.protocol,
        "machine": evaluation.machine,
        "settings": evaluation.settings.model_dump(mode="json"),
        "methods": [described(m) for m in evaluation.methods],
        "rows": [row.as_json() for row in evaluation.rows],
        "cases": [
            {"case": r.case, "series": r.series, "factor": r.factor, "method": r.method}
            | {"means": r.scored.means()}
            | as_json(r.scored)
            for r in evaluation.results
        ],
        "failures": [f._asdict() for f in evaluation.failures],
        "notes": list(evaluation.notes),
    }
    return dict(finite(shortened(content)))


def described(method: Method) -> dict[str, Any]:
    """What a method is: its model, how it is sampled, its size and cost."""
    content: dict[str, Any] = method.entry.model_dump(mode="json", exclude_none=True)
    if method.model is None or method.engine is None:
        return content
    card = method.model.card
    return content | {
        "model": card.name,
        "kind": card.method,
        "sha256": card.sha256,
        "parameters": sum(p.numel() for p in method.model.restorer.network.parameters()),
        "steps": method.engine.steps,
        "churn": method.engine.churn,
        "consistency": method.consistency,
        "evaluations": method.evaluations,
        "training_minutes": card.training.minutes or round(card.training.seconds / 60, 1),
        "precision": str(method.engine.precision).removeprefix("torch."),
    }


def shortened(value: Any) -> Any:
    """The same with numbers of six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: shortened(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [shortened(v) for v in value]
    return value


def as_csv(evaluation: Evaluation) -> str:
    """One row per stack, factor and method; a figure that was not measured is left empty."""
    gains = {
        (r.factor, r.case, r.series): r.scored.means().get("psnr")
        for r in evaluation.results
        if r.method == evaluation.settings.baseline_name
    }
    models = {m.name: "" if m.model is None else m.model.card.name for m in evaluation.methods}
    names = [n for n in METRICS if any(n in r.scored.means() for r in evaluation.results)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "series", "factor", "method", "model", "slices", *names, "gain"])
    for r in evaluation.results:
        means = r.scored.means()
        base = gains.get((r.factor, r.case, r.series))
        gain = "" if base is None else f"{means['psnr'] - base:.6g}"
        slices = max((len(v) for v in r.scored.slices.values()), default=0)
        figures = [f"{means[n]:.6g}" if n in means else "" for n in names]
        head = [r.case, r.series, f"{r.factor:g}", r.method, models.get(r.method, ""), slices]
        writer.writerow([*head, *figures, gain])
    return text.getvalue()


def remarks(evaluation: Evaluation) -> list[str]:
    """What a reader of the tables must know, in sentences."""
    patients = sorted({r.case for r in evaluation.results})
    lines = [f"Protocol: {evaluation.protocol}."]
    machine = ", ".join(f"{k} {v}" for k, v in evaluation.machine.items())
    lines.append(f"Seconds were measured on: {machine}.")
    n = len(patients)
    if n == 1:
        lines.append("One patient: no interval and no test can be given; slices are no substitute.")
    elif 1 < n < 6:
        lines.append(
            f"{n} patients: the interval of Student's t has {n - 1} degree{'s' * (n > 2)} of freedom and is "
            "wide; a paired t test can hardly be significant."
        )
    if any("spectrum" in r.means for r in evaluation.rows):
        lines.append(
            "Spectrum error counts missing and invented texture alike (0 is best); texture is power "
            "above the low-resolution band against the reference's (0 dB is as much, blur is negative)."
        )
    if evaluation.settings.reference is not None:
        lines.append(
            "Differences are tested over patients (paired t; W: Wilcoxon's signed ranks, from 6 patients "
            "on). Slices of one patient are not independent: their spread is described, not tested."
        )
    degraded = evaluation.settings.scoring == "degraded"
    if degraded and not any("lpips" in r.means for r in evaluation.rows):
        lines.append("LPIPS was not measured: MRISR_LPIPS names no folder with its weights.")
    said = [
        f"{r.method}: {note}."
        for r in evaluation.results
        for note in r.scored.facts.get("notes", ())
    ]
    return [*lines, *evaluation.notes, *dict.fromkeys(said)]


def as_markdown(evaluation: Evaluation) -> str:
    """The report as Markdown."""
    text = markdown(
        evaluation.command, remarks(evaluation), tables(evaluation), evaluation.failures
    )
    return "\n".join([text, patients_table(evaluation).as_markdown()])


def markdown(
    command: str, said: Sequence[str], shown: Sequence[Table], failures: Sequence[Failure]
) -> str:
    """What reports of all kinds have in Markdown: the command, remarks, tables, and what was not scored."""
    parts = [f"```console\n$ {command}\n```\n", *(f"{line}\n" for line in said)]
    parts += [table.as_markdown() for table in shown]
    if failures:
        parts.append("### Not scored\n")
        parts += [f"- {f.method}, {f.case} {f.series} x{f.factor:g}: {f.reason}" for f in failures]
        parts.append("")
    return "\n".join(parts)
