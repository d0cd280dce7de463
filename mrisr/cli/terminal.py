"""Options that the commands share, and progress on the terminal.

Options of options dataclasses are made from their declarations.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import MISSING
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from mrisr.core.options import Declared, Files, Options, current_names, declared

#: Boxes of the help of the three jobs, and the options in each; others stand among the first.
PANELS: Mapping[str, str] = {
    name: panel
    for panel, names in {
        "Input": "input axial coronal sagittal series frame affine slice_thickness noise degradation "
        "register",
        "Output": "scale factor spacing output uncertainty qc force quiet as_json",
        "Model": "model method adapt adapt_steps save_adapted bundle nnunet table margin",
        "Sampling": "steps sampler eta start seed samples consistency",
        "Hardware": "device precision tile max_voxels",
        "DICOM": "format template deidentify",
    }.items()
    for name in names.split()
}


def option(help: str, *flags: str, **limits: Any) -> Any:
    """An option of a command, called as its parameter is unless ``flags`` say otherwise."""
    return typer.Option(*flags, help=help, **limits)


def study_option(help: str, *flags: str) -> Any:
    """The option that names a study; whether it can be read is for the reader to say, with its exit code."""
    return typer.Option(*flags, help=help, readable=False)


def study_argument(help: str) -> Any:
    """A study named without an option."""
    return typer.Argument(help=help, readable=False, metavar="STUDY")


Cache = Annotated[Path, option("Cache made by `mrisr prepare`.")]
Device = Annotated[str, option("auto, cpu, cuda or cuda:N.")]
Force = Annotated[
    bool, option("Replace existing outputs. The input is never overwritten.", "--force")
]
Quiet = Annotated[bool, option("No progress.", "--quiet", "-q")]
Json = Annotated[bool, option("Print the result as JSON on standard output.", "--json")]


def takes(**kinds: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every field of options dataclasses as an option.

    ``takes(settings=InPlane, files=Files)`` calls the command with ``settings`` and ``files``, made of what
    was given. Former names of an option are accepted and not shown.
    """
    added: dict[str, inspect.Parameter] = {}
    for kind in kinds.values():
        for d in declared(kind):
            added.setdefault(d.name, _parameter(d.name, d))
            for old in d.option.formerly:
                added[old] = _parameter(old, d, hidden=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def with_options(**given: Any) -> None:
            made = {name: _made(kind, given) for name, kind in kinds.items()}
            command(**{k: v for k, v in given.items() if k not in added}, **made)

        parameters = [*(p for p in own if p.name not in kinds), *added.values()]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        if Files in kinds.values():
            order = dict(zip(PANELS, range(len(PANELS)), strict=True))
            keyword = sorted(map(_in_panel, keyword), key=lambda p: order.get(p.name, -1))
        with_options.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        with_options.__annotations__ = {p.name: p.annotation for p in keyword}
        return with_options

    return decorate


def _in_panel(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter that the help shows in its box."""
    kind, *told = get_args(parameter.annotation)
    shown = []
    for info in told:
        info = copy(info)  # an option such as Quiet is another command's too
        info.rich_help_panel = PANELS.get(parameter.name)
        shown.append(info)
    return parameter.replace(annotation=Annotated[(kind, *shown)])


def _made(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The options of a kind from the values of a command line. Raises UsageError."""
    chosen = {}
    for d in declared(kind):
        for name, default in (d.name, d.default), *((old, None) for old in d.option.formerly):
            value = given[name]
            value = tuple(value) if isinstance(value, list) else value
            if value is not None and value != default:
                chosen[name] = value
    return kind(**current_names(kind, chosen))


def _parameter(name: str, d: Declared, *, hidden: bool = False) -> inspect.Parameter:
    """A field of options as a parameter that Typer reads; one that may be repeated is a tuple."""
    kind = d.type
    if str in get_args(kind):  # a text, of which the options make what else it may be
        kind = str | None if type(None) in get_args(kind) else str
    default = None if hidden else d.default
    if get_origin(kind) is tuple:
        kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
    readable = Path not in (kind, *get_args(kind))
    flags = () if hidden else d.option.flags
    if hidden and type(None) not in get_args(kind):
        kind = kind | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[
            kind, typer.Option(*flags, help=d.option.help, hidden=hidden, readable=readable)
        ],
    )


def say(quiet: bool) -> Callable[[str], None]:
    """Receiver of progress lines: standard error, or nothing if quiet."""
    return (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))


#: Told how much is done, and of how much.
Told = Callable[[int, int], None]


@contextmanager
def progress_bar(what: str, quiet: bool) -> Iterator[Told | None]:
    """A bar with the time left on a terminal, a line every tenth in a log, nothing if quiet."""
    with progress_bars(quiet, what) as (told,):
        yield told


@contextmanager
def progress_bars(quiet: bool, *whats: str) -> Iterator[tuple[Told | None, ...]]:
    """A :func:`progress_bar` for each of several things, which appears when it begins."""
    if quiet:
        yield (None,) * len(whats)
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            yield tuple(_shown(bar, what) for what in whats)
    else:
        yield tuple(map(_lines, whats))


def _shown(bar: Any, what: str) -> Told:
    """A bar of a display."""
    tasks: list[Any] = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(bar.add_task(what, total=total))
        bar.update(tasks[0], completed=done, total=total)

    return show


def _lines(what: str) -> Told:
    """A line every tenth."""
    tenth = -1

    def line(done: int, total: int) -> None:
        nonlocal tenth
        if done * 10 // total > tenth:
            tenth = done * 10 // total
            typer.echo(f"{done} of {total} {what}", err=True)

    return line


@contextmanager
def stage_bars(quiet: bool) -> Iterator[Callable[[Mapping[Any, Any]], None]]:
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

            def show(counts: Mapping[Any, Any]) -> None:
                for stage, count in counts.items():
                    if count.total and stage not in tasks:
                        tasks[stage] = bars.add_task(stage, total=count.total, failed="")
                    if stage in tasks:
                        told = f"{count.failed} failed" if count.failed else ""
                        bars.update(tasks[stage], completed=count.done, failed=told)

            yield show
    else:
        tenths: dict[str, int] = {}

        def line(counts: Mapping[Any, Any]) -> None:
            for stage, count in counts.items():
                tenth = count.done * 10 // count.total if count.total else 0
                if tenth > tenths.setdefault(stage, tenth):
                    tenths[stage] = tenth
                    told = f", {count.failed} failed" if count.failed else ""
                    typer.echo(f"{stage}: {count.done} of {count.total} studies{told}", err=True)

        yield line
