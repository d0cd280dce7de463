"""An evaluation as files: CSV and JSON for programs, Markdown and a page for reading, a model's card."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from mrisr.core.errors import UsageError
from mrisr.evaluation.case import METRICS, finite
from mrisr.evaluation.experiment import Evaluation
from mrisr.evaluation.methods import Method
from mrisr.evaluation.statistics import WILCOXON_FROM, Column, Table, patient_means, table_of
from mrisr.io.atomic import json_bytes, make_folder, write_together
from mrisr.models.store import write_card
from mrisr.view.pages import embedded, render

#: Where a card's figures have those of images with noise.
WITH_NOISE = "with_noise"
#: Keys of a card's figures for what is measured otherwise than without noise against the truth.
FURTHER = (WITH_NOISE, "measured", "reference", "lesions")
#: Figures of a card, for each patient and as means.
FIGURES = (
    *("psnr", "ssim", "spectrum", "texture", "lpips", "residual", "cpu_seconds", "evaluations"),
    *("noise", "band1", "band2", "band3"),
)


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
        "rows": [
            {"method": row.pop("method"), **row.pop("scale")._asdict(), **row}
            for row in map(asdict, done.rows)
        ],
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


# --- cards ----------------------------------------------------------------------------------------


def write_figures(evaluation: Evaluation, model: str | None) -> None:
    """Put the figures of the file's model into its card, those with noise and of real scans beside those
    without; of a file without a model, those of every model that it samples by its defaults, unless that
    card's figures of this kind were made by another command.

    Raises:
        UsageError: there is no such model, or no method samples it by default.
        OutputError: a card cannot be written.
    """
    methods = [m for m in evaluation.methods if not m.is_interpolation]
    key, cards = _key(evaluation), {}
    for name, found in {m.entry.model: m.model for m in methods if m.model}.items():
        own = [m for m in methods if m.model is found]
        old = found.card.figures
        made_by = (old.get(key, {}) if key else old).get("command", evaluation.command)
        may_replace = made_by == evaluation.command and any(m.is_default for m in own)
        if name == model or (model is None and may_replace):
            figures = card_figures(evaluation, own)
            kept = {k: v for k, v in old.items() if k in FURTHER}
            figures = {**old, key: figures} if key else figures | kept
            cards[found.path] = found.card.model_copy(update={"figures": figures})
    if not cards:
        raise UsageError("--card: name the model in the file (model), or give --model")
    for path, card in cards.items():
        write_card(card, path)


def _key(evaluation: Evaluation) -> str | None:
    """Key of the card's figures where those of an evaluation stand; None for those without noise."""
    settings = evaluation.experiment.settings
    (scoring,) = {scale.scoring for scale in settings.scales}
    if scoring == "degraded":
        return WITH_NOISE if settings.noise > 0 else None
    return scoring


def card_figures(evaluation: Evaluation, own: Sequence[Method]) -> dict[str, Any]:
    """Figures of a model's methods, and of the interpolations beside them, as means over patients and,
    where the truth is known, patient by patient; ``default`` names the method that is the model's own.

    Raises:
        UsageError: no method is the model's default, or the truth is known and the baseline was not scored on
            every stack.
    """
    default = next((m.name for m in own if m.is_default), None)
    if default is None:
        raise UsageError("--card: no method of the file samples the model by its defaults")
    shown = {m.name for m in evaluation.methods if m.is_interpolation} | {m.name for m in own}
    baseline = evaluation.experiment.baseline
    patients = []
    known = _key(evaluation) in (None, WITH_NOISE)
    for r in (r for r in evaluation.results if known and r.method in shown):
        gain = evaluation.gain(r)
        if gain is None:
            where = f"{r.case} {r.series} {r.scale}, so that {r.method} has no gain there"
            raise UsageError(f"--card: {baseline} has no PSNR of {where}")
        head = {"method": r.method, "case": r.case, "series": r.series, "factor": r.scale.factor}
        patients.append(head | _shown(r.scored.means(), gain))
    means = []
    for row in evaluation.rows:
        if row.method in shown and (row.gain is not None or not known):
            figures = {name: mean.value for name, mean in row.means.items()}
            head = {"method": row.method, "factor": row.scale.factor}
            means.append(head | _shown(figures, row.gain.value if known and row.gain else None))
    return {
        "command": evaluation.command,
        "protocol": evaluation.experiment.protocol,
        "machine": evaluation.machine,
        "baseline": baseline,
        "default": default,
        "cases": sorted({r.case for r in evaluation.results}),
        "patients": patients,
        "means": means,
    }


def _shown(figures: Mapping[str, float], gain: float | None) -> dict[str, float]:
    """The figures of a card with six digits, and a gain with four decimals."""
    kept = {name: float(f"{v:.6g}") for name, v in figures.items() if name in FIGURES}
    return kept | ({} if gain is None else {"gain": round(gain, 4)})


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
        if "gain" in rows[0]:
            columns.append(Column("gain dB", [f"{r['gain']:+.2f}" for r in rows]))
        found.append(table_of(f"x{factor:g}, mean over patients", columns))
    return found
