"""What the command line says while it works: lines, or a bar with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def say(quiet: bool) -> Callable[[str], None]:
    """What receives progress lines: standard error, or nothing if quiet."""
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


def say_result(path: Path, record: dict[str, Any], quiet: bool, as_json: bool) -> None:
    """The notes on standard error, then the record as JSON, or one line: grid, residual, seconds,
    memory."""
    for note in [] if quiet else record["notes"]:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps({"path": str(path), **record}, indent=2))
    elif not quiet:
        shape = "x".join(map(str, record["output"]["shape"]))
        spacing = " x ".join(f"{s:.4g}" for s in record["output"]["spacing_mm"])
        typer.echo(
            f"{path}: {shape}, {spacing} mm; residual {record['residual']['rms_of_range']:.1e} of the range; "
            f"{record['seconds']:.0f} s, {record['peak_memory_gib']['process']:.1f} GiB"
        )
