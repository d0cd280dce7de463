"""Progress and results on the terminal: lines, or a bar with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from mrisr.runs.results import Result


def say(quiet: bool) -> Callable[[str], None]:
    """Receiver of progress lines: standard error, or nothing if quiet."""
    return (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left on a terminal, a line every tenth in a log, nothing if quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        tenth = -1

        def line(done: int, total: int) -> None:
            nonlocal tenth
            if done * 10 // total > tenth:
                tenth = done * 10 // total
                typer.echo(f"{done} of {total} {what}", err=True)

        yield line


class StageCount(Protocol):
    """Progress of a stage of a batch, in studies."""

    total: int
    done: int
    failed: int


@contextmanager
def stage_bars(quiet: bool) -> Iterator[Callable[[Mapping[Any, StageCount]], None]]:
    """A bar with the time left for each stage on a terminal, a line every tenth in a log."""
    if quiet:
        yield lambda counts: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        failed = TextColumn("{task.fields[failed]}", style="red")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), failed)
        with Progress(*columns, TimeLeft(), console=Console(stderr=True)) as bars:
            tasks: dict[str, Any] = {}

            def show(counts: Mapping[Any, StageCount]) -> None:
                for stage, count in counts.items():
                    if count.total and stage not in tasks:
                        tasks[stage] = bars.add_task(stage, total=count.total, failed="")
                    if stage in tasks:
                        told = f"{count.failed} failed" if count.failed else ""
                        bars.update(tasks[stage], completed=count.done, failed=told)

            yield show
    else:
        tenths: dict[str, int] = {}

        def line(counts: Mapping[Any, StageCount]) -> None:
            for stage, count in counts.items():
                tenth = count.done * 10 // count.total if count.total else 0
                if tenth > tenths.setdefault(stage, tenth):
                    tenths[stage] = tenth
                    told = f", {count.failed} failed" if count.failed else ""
                    typer.echo(f"{stage}: {count.done} of {count.total} studies{told}", err=True)

        yield line


def say_result(made: Result, quiet: bool, as_json: bool) -> None:
    """Print the notes on standard error, then the record as JSON, or one line: grid and residual or the
    volumes of the zones, seconds, memory."""
    record = made.record
    for note in () if quiet else record.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps({"path": str(made.path), **record.as_dict()}, indent=2))
    elif not quiet:
        parts = [f"{zone} {ml:.1f} ml" for zone, ml in (record.volumes_ml or {}).items()]
        if record.residual is not None:
            shape = "x".join(map(str, record.output.shape))
            spacing = " x ".join(f"{s:.4g}" for s in record.output.spacing_mm)
            agreement = f"residual {record.residual.rms_of_range:.1e} of the range"
            parts = [f"{shape}, {spacing} mm; {agreement}"]
        cost = f"{record.seconds:.0f} s, {record.peak_memory_gib['process']:.1f} GiB"
        typer.echo(f"{made.path}: {', '.join(parts)}; {cost}")
