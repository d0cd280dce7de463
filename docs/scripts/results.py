"""Make the comparison of docs/results.md: score every method, and put plots and short tables into the page.

    python docs/scripts/results.py --data studies/ --output runs/results

Every table whole, patients included, becomes a CSV file in docs/results/. What an earlier run has scored is
kept. With ``--train`` the models of configs/comparison are trained first, into ``OUTPUT/models``, instead of
taking the bundled ones: minutes of one core for each.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
FOLDER = ROOT / "docs" / "results"
#: Section of the page -> evaluation file.
SECTIONS = {
    "inplane": "evaluate_inplane.yaml",
    "inplane-noisy": "evaluate_noisy_inplane.yaml",
    "inplane-measured": "evaluate_measured_inplane.yaml",
    "rescan": "evaluate_rescan.yaml",
    "throughplane": "evaluate_throughplane.yaml",
    "throughplane-noisy": "evaluate_noisy_throughplane.yaml",
    "throughplane-measured": "evaluate_measured_throughplane.yaml",
    "reference": "evaluate_throughplane_reference.yaml",
    "planes": "evaluate_planes.yaml",
}
#: Of these the patients' own files are read, not the cache.
OF_PATIENTS = {"rescan", "reference", "planes"}
#: The same of `mrisr evaluate zones`, which reads the patients' own files.
ZONES = {
    "zones": "evaluate_zones.yaml",
    "zones-throughplane": "evaluate_zones_throughplane.yaml",
    "zones-measured": "evaluate_zones_measured.yaml",
}
#: Trained last: what freezes another model's denoiser.
LAST = "invsr"


def mrisr(*arguments: str | Path, models: Path | None = None) -> int:
    """Run a command of mrisr; its exit code."""
    environment = os.environ | ({"MRISR_MODELS": str(models)} if models else {})
    command = [sys.executable, "-m", "mrisr", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False).returncode


def train_all(cache: Path, output: Path) -> Path:
    """Train every model of the comparison; the folder that then holds them, as a folder of models."""
    runs, models = output / "training", output / "models"
    models.mkdir(parents=True, exist_ok=True)
    files = (ROOT / "configs" / "comparison").glob("*-*plane.yaml")
    for file in sorted(files, key=lambda p: (p.stem.startswith(LAST), p.stem)):
        run = runs / file.stem
        arguments = ("train", "--config", file, "--data", cache, "--output", run, "--resume")
        if mrisr(*arguments, models=models):
            raise SystemExit(f"{file.name}: training failed")
        for suffix in (".json", ".safetensors"):
            data = (run / f"model{suffix}").read_bytes()
            (models / f"{file.stem}{suffix}").write_bytes(data)
    return models


def score_all(
    data: Path, cache: Path, output: Path, models: Path | None, only: list[str]
) -> Iterator[tuple[str, str]]:
    """Run every evaluation, or those named; the name of a section and its text."""
    for name, file in (SECTIONS | ZONES).items():
        if only and name not in only:
            continue
        folder = output / name
        given = cache if name in SECTIONS.keys() - OF_PATIENTS else data
        arguments = ["--config", ROOT / "configs" / file, "--data", given, "--output", folder]
        if name in ZONES:
            arguments.insert(0, "zones")
        elif models is not None and name in ("inplane", "throughplane"):
            arguments.append("--card")
        if mrisr("evaluate", *arguments, models=models) not in (0, 8):
            raise SystemExit(f"{file}: evaluation failed")
        yield name, (folder / "results.md").read_text(encoding="utf-8")


def with_section(page: str, name: str, text: str) -> str:
    """The page with other text between the marks of a section."""
    marks = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: no section {name}")
    return pattern.sub(lambda _: f"{marks[0]}\n\n{text.strip()}\n\n{marks[1]}", page)


# --- the page -------------------------------------------------------------------------------------

#: Columns that stand in the CSV files alone, by how they begin; and tables, by what their titles hold.
LONG = ("texture", "residual", "MSE", "s / slice", "gain", "NCC", "PZ ASD", "TZ ASD", "empty")
WHOLE = {
    "differences": "difference from",
    "against-segmentation": "against the segmentation",
    "patients": "Patient by patient",
}
#: Rows from which a table on the page is cut down to the main methods.
LONGEST = 16
#: Remarks that stand in the reports alone.
SAID_ONCE = (
    "Protocol:",
    "Spectrum error",
    "Differences are",
    "LPIPS was",
    "Seconds were",
    "left out:",
)
#: A method's family -> how its name begins.
FAMILIES = {
    "not restored": ("original", "measured"),
    "interpolation": ("bspline", "bicubic", "lanczos"),
    "regression": ("regression",),
    "SRGAN": ("SRGAN",),
    "LIIF": ("LIIF",),
    "SR3": ("SR3",),
    "PartDiff": ("PartDiff",),
    "InvSR": ("InvSR",),
    "ECLARE": ("ECLARE",),
    "released model": ("released", "default", "as without"),
}


class Shown(NamedTuple):
    """A table of a report: its title, its columns and its rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(text: str) -> list[Shown]:
    """The tables of a report."""
    found = []
    for title, body in re.findall(r"^### (.+)\n\n((?:\|.*\n?)+)", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()
        ]
        found.append(Shown(title, lines[0], lines[2:]))
    return found


def _is_main(method: str, table: Shown) -> bool:
    """Whether a row stands on the page; of long tables only methods without variants, or in one step."""
    return (
        len(table.rows) <= LONGEST or "," not in method or method.endswith(("1 step", "projected"))
    )


def _value(cell: str) -> str:
    """A cell without the interval, which two patients make wider than every difference."""
    value = cell.split(" ±")[0]
    return f"{value}**" if value.startswith("**") and not value.endswith("**") else value


def _kind(table: Shown) -> str:
    """What a table holds: one of ``WHOLE``, or the means that the page shows."""
    return next((kind for kind, word in WHOLE.items() if word in table.title), "means")


def section(name: str, text: str) -> str:
    """A section of the page: command, remarks, plot, short tables; every table whole goes into a CSV file."""
    FOLDER.mkdir(exist_ok=True)
    command = text.split("```")[1].removeprefix("console\n$ ").strip()
    head = text.split("### ")[0].split("```")[2]
    remarks = [line for line in head.splitlines() if line and not line.startswith(SAID_ONCE)]
    parts = [f"```console\n$ {command}\n```", *remarks]
    found, links = tables(text), []
    kinds = {_kind(table): [t for t in found if _kind(t) == _kind(table)] for table in found}
    for kind, alike in kinds.items():
        with (FOLDER / f"{name}-{kind}.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(["table", *alike[0].columns])
            writer.writerows([t.title, *(c.strip("*") for c in r)] for t in alike for r in t.rows)
        links.append(f"{{download}}`{kind} <results/{name}-{kind}.csv>`")
    shown = kinds.get("means", [])
    if picture := plot(name, shown):
        parts.append(f"![Figures of the methods: {name}]({picture})")
    for table in shown:
        kept = [i for i, c in enumerate(table.columns) if not c.startswith(LONG)]
        rows = [[_value(row[i]) for i in kept] for row in table.rows if _is_main(row[0], table)]
        lines = [[table.columns[i] for i in kept], ["---"] * len(kept), *rows]
        parts.append(
            "\n".join([f"**{table.title}**", "", *(f"| {' | '.join(r)} |" for r in lines)])
        )
    return "\n\n".join([*parts, f"All figures: {', '.join(links)} (CSV)."])


def plot(name: str, shown: list[Shown]) -> str | None:
    """Draw PSNR against spectrum error, correlation by band, or Dice; the picture's path from the page."""
    drawn = [
        (t, x, y)
        for t in shown
        for x, y in (("spectrum error dB", "PSNR dB"), ("PZ Dice", "TZ Dice"))
        if {x, y} <= set(t.columns)
    ]
    if not drawn:
        return None
    from mrisr.view.pages import new_figure, png

    figure = new_figure(4.2 * len(drawn) + 1.6, 3.6)
    same = drawn[0][2] == "TZ Dice"
    axes = figure.subplots(1, len(drawn), squeeze=False, sharex=same, sharey=same)[0]
    for axis, (table, x, y) in zip(axes, drawn, strict=True):
        for colour, (family, starts) in enumerate(FAMILIES.items()):
            rows = [r for r in table.rows if r[0].startswith(starts)]
            places = [[_number(r[table.columns.index(c)]) for r in rows] for c in (x, y)]
            at = table.columns.index("evaluations") if "evaluations" in table.columns else 0
            sizes = [30 + 1.2 * _number(r[at], 0) for r in rows]
            label = family if rows else None
            axis.scatter(*places, s=sizes, color=f"C{colour}", alpha=0.75, label=label)
        axis.set(xlabel=x, ylabel=y)
        axis.set_title(table.title.split(":")[0], fontsize=10)
        axis.grid(alpha=0.3, linewidth=0.5)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    (FOLDER / f"{name}.png").write_bytes(png(figure))
    return f"results/{name}.png"


def _number(cell: str, otherwise: float = float("nan")) -> float:
    """The number that a cell begins with."""
    found = re.match(r"[+-]?\d+(\.\d+)?(e-?\d+)?", cell.strip("*"))
    return float(found[0]) if found else otherwise


def main() -> None:
    """Score what is missing and write the page anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per patient")
    parser.add_argument("--output", type=Path, required=True, help="folder for cache and scores")
    parser.add_argument("--cache", type=Path, help="a cache of the same data, if there is one")
    parser.add_argument("--train", action="store_true", help="train the models anew first")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*SECTIONS, *ZONES], help="sections to make anew"
    )
    asked = parser.parse_args()
    cache = asked.cache or asked.output / "cache"
    needed = not asked.only or not set(asked.only) <= {*ZONES, *OF_PATIENTS}
    if (
        needed
        and not (cache / "index.json").exists()
        and mrisr("prepare", "--data", asked.data, "--output", cache)
    ):
        raise SystemExit("prepare: some volumes could not be read")
    models = train_all(cache, asked.output) if asked.train else None
    page = PAGE.read_text(encoding="utf-8")
    for name, text in score_all(asked.data, cache, asked.output, models, asked.only):
        page = with_section(page, name, section(name, text))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
