"""An evaluation as files: CSV and JSON for programs, Markdown and a page of its own for reading."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from mrisr.evaluation.case import finite
from mrisr.evaluation.experiment import Evaluation
from mrisr.evaluation.methods import Method
from mrisr.evaluation.statistics import WILCOXON_FROM, patient_means
from mrisr.evaluation.tables import Table
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.view.pages import embedded, render


def write_report(done: Evaluation, output: Path) -> None:
    """Write ``results.csv``, ``.json``, ``.md``, ``.html`` and the pictures as PNG. Raises OutputError."""
    experiment = done.experiment
    sections, job = experiment.sections(done), experiment.settings.job
    text = render(
        "mrisr.evaluation",
        "evaluation.html",
        title=f"{experiment.title}: {job}",
        heading=f"{experiment.heading}, {job}",
        evaluation=done,
        remarks=remarks(done),
        tables=tables(done),
        sections=sections,
        embedded=embedded,
        methods=_methods_table(done),
    )
    files = {
        output / "results.json": json_bytes(_as_dictionary(done)),
        output / "results.csv": experiment.csv(done).as_csv().encode(),
        output / "results.md": as_markdown(done).encode(),
        output / "results.html": text.encode(),
    }
    pictures = [p for section in sections for p in section.pictures if p.file]
    folder = make_folder(output / "pictures") if pictures else output
    write_together(files | {folder / f"{p.file}.png": p.png for p in pictures})


def _as_dictionary(done: Evaluation) -> dict[str, Any]:
    """All findings, ready for JSON; numbers with six digits."""
    content = {
        "format": 1,
        "command": done.command,
        "protocol": done.experiment.protocol,
        "remarks": remarks(done),
        "machine": done.machine,
        "settings": done.experiment.settings.model_dump(mode="json"),
        "methods": [_described(m) for m in done.methods],
        "rows": [_flat(asdict(row)) for row in done.rows],
        "cases": [
            {"case": r.case, "series": r.series, **r.scale._asdict(), "method": r.method}
            | {"seen_by": list(r.seen), "means": r.scored.means()}
            | done.experiment.figures(r.scored)
            | {"facts": dict(r.scored.facts)}
            for r in done.results
        ],
        "failures": [f._asdict() for f in done.failures],
        "notes": list(done.notes),
        **done.experiment.details(),
    }
    return dict(finite(content, digits=6))


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {"method": row.pop("method"), **row.pop("scale")._asdict(), **row}


def _described(method: Method) -> dict[str, Any]:
    """A method as JSON: its model, how it is sampled, its size and cost."""
    content = {k: v for k, v in asdict(method.entry).items() if v is not None}
    if method.model is None:
        return content
    card = method.model.card
    return content | {
        "model": card.name,
        "kind": card.method,
        "sha256": card.sha256,
        "parameters": sum(p.numel() for p in method.model.restorer.network.parameters()),
        "evaluations": method.evaluations,
        "training_minutes": card.training.minutes or round(card.training.seconds / 60, 1),
        "device": str(method.device),
        "precision": method.precision,
    }


def _methods_table(done: Evaluation) -> Table:
    """A row for each method: its model, its cost, and how it is sampled."""
    numbers = ("parameters", "training_minutes", "evaluations", "eta", "consistency")
    columns = ("name", "model", "kind", *numbers, "sha256")
    titles = {
        "name": "method",
        "training_minutes": "training, minutes",
        "sha256": "weights (SHA-256)",
    }
    forms = {"parameters": ",", "eta": "g", "consistency": "g", "sha256": ".12"}
    cells = []
    for content in map(_described, done.methods):
        shown = {"model": content.get("volumes"), "kind": "volumes"} | content
        known = {k: v for k, v in shown.items() if v or k in ("eta", "consistency")}
        cells.append([f"{known[n]:{forms.get(n, '')}}" if n in known else "" for n in columns])
    return Table("Methods", [titles.get(n, n) for n in columns], cells)


def remarks(done: Evaluation) -> list[str]:
    """Sentences that a reader of the tables must know."""
    machine = ", ".join(f"{k} {v}" for k, v in done.machine.items())
    notes = (f"{r.method}: {n}." for r in done.results for n in r.scored.facts.get("notes", ()))
    return [
        f"Protocol: {done.experiment.protocol}.",
        *_on_patients({r.case for r in done.results if not r.seen}),
        *done.experiment.remarks(done),
        f"Seconds were measured on: {machine}.",
        *done.notes,
        *dict.fromkeys(notes),
    ]


def _on_patients(names: set[str]) -> list[str]:
    n = len(names)
    if n == 1:
        return [
            f"One patient ({', '.join(names)}): no interval and no test can be given; slices are no "
            "substitute, and differences between methods say nothing about others."
        ]
    if 1 < n < WILCOXON_FROM:
        return [
            f"{n} patients: the interval of Student's t has {n - 1} degree{'s' * (n > 2)} of freedom and is "
            "wide; a paired t test can hardly be significant."
        ]
    return []


def tables(done: Evaluation) -> list[Table]:
    """All tables of the report, the last one patient by patient."""
    cells, titles = [], dict[str, str]()
    any_seen = any(r.seen for r in done.results)
    names = dict.fromkeys(r.method for r in done.results)
    for scale, method in product(done.scales, names):
        mine = [r for r in done.results if (r.scale, r.method) == (scale, method)]
        seen = {r.case: "yes" if r.seen else "no" for r in mine}
        for case, means in patient_means(mine).items():
            titles = done.experiment.patient(means)
            cells.append([str(scale), case, *[seen[case]] * any_seen, method, *titles.values()])
    columns = ["factor", "patient", *["trained on"] * any_seen, "method", *titles]
    return [*done.experiment.tables(done), Table("Patient by patient", columns, cells)]


def as_markdown(done: Evaluation) -> str:
    """The report as Markdown: the command, remarks, tables, and failures."""
    parts = [f"```console\n$ {done.command}\n```\n", *(f"{line}\n" for line in remarks(done))]
    parts += [table.as_markdown() for table in tables(done)]
    failed = [f"- {f.method}, {f.case} {f.series} x{f.factor:g}: {f.reason}" for f in done.failures]
    parts += ["### Not scored\n", *failed, ""] if failed else []
    return "\n".join(parts)
