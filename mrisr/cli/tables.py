"""Tables and surveys as plain text."""

import io
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mrisr.io.survey import SeriesInfo


def rendered(*parts: object, width: int = 110) -> str:
    """Rich renderables as text without colour; brackets in a text are text, not markup."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, markup=False, emoji=False)
    console.print(*parts, sep="\n", highlight=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without lines, whose cells wrap."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def table_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without lines, as text."""
    return rendered(plain_table(columns, rows))


def survey_text(found: Sequence[SeriesInfo], study: Path | None = None) -> str:
    """One row per series, localizers and what is refused among them; below it what is wrong with each or
    worth knowing and, for the study at a path, the commands that fit."""
    if not found:
        return "no volumes found"
    rows, remarks = [], []
    for s in found:
        shape = "x".join(map(str, s.shape or ()))
        spacing = " x ".join(f"{v:.4g}" for v in s.spacing or ())
        thickness = f"{s.slice_thickness:g}" if s.slice_thickness else ""
        noise = "" if s.noise is None else f"{100 * s.noise:.1f}"
        slices = s.files if s.shape is None else s.shape[_across(s)]
        known = (s.plane, str(slices), shape, spacing, thickness, s.orientation, s.dtype, noise)
        rows.append((s.name, s.kind, *(value or "-" for value in known), s.description))
        remarks += [f"note: {s.name}: {note}" for note in s.notes]
        remarks += [f"problem: {s.name}: {problem}" for problem in s.problems]
    named = ("plane", "slices", "shape", "spacing mm", "thickness mm", "axes", "type", "noise %")
    columns = ("series", "kind", *named, "description")
    hints = [] if study is None else next_commands(found, study)
    return "\n".join([table_text(columns, rows), *remarks, *hints])


def next_commands(found: Sequence[SeriesInfo], study: Path) -> list[str]:
    """Command lines that fit a study: for its first axial series that can be read, else its first at all."""
    usable = [s for s in found if not s.problems and s.spacing]
    series = next((s for s in usable if s.plane == "axial"), usable[0] if usable else None)
    if series is None or series.spacing is None:
        return []

    def place(s: SeriesInfo) -> str:
        inside = study.is_dir() and s.kind != "dicom"
        return shlex.quote(str(study / f"{s.name}{s.ending}" if inside else study))

    told = place(series)
    if series.kind == "dicom" and len(found) > 1:
        told += f" --series {shlex.quote(series.name)}"
    commands = [f"mrisr inplane --input {told}"]
    if series.spacing[_across(series)] > 1.5 * min(series.spacing):
        commands.append(f"mrisr throughplane --axial {told}")
        planes = {s.plane: s for s in reversed(usable) if s.plane in ("coronal", "sagittal")}
        if planes and series.plane == "axial" and series.kind != "dicom":
            further = (f"--{plane} {place(s)}" for plane, s in sorted(planes.items()))
            commands.append(f"{commands[-1]} {' '.join(further)}")
    return [f"next: {command}" for command in commands]


def _across(series: SeriesInfo) -> int:
    """The array axis of the slices, that of the coarsest spacing."""
    spacing = series.spacing or (0.0, 0.0, 1.0)
    return spacing.index(max(spacing))
