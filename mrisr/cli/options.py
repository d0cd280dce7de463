"""The command line's options: those of :mod:`mrisr.core.options` from their declarations, and its own few."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from mrisr.core.options import Declared, Options, current_names, declared

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing outputs. The input is never overwritten.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def study_option(*flags: str, help: str) -> Any:
    """The option that names a study; whether it can be read is for the reader to say, with its exit code."""
    return typer.Option(*flags, help=help, readable=False)


def takes(**kinds: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every field of options dataclasses as an option.

    ``takes(settings=InPlane, files=Files)`` calls the command with ``settings`` and ``files``, made of what
    was given. Former names of an option are accepted and not shown.
    """
    added: dict[str, inspect.Parameter] = {}
    for kind in kinds.values():
        for d in declared(kind):
            added.setdefault(d.name, _parameter(d.name, d, d.default))
            for old in d.option.formerly:
                added[old] = _parameter(old, d, None, hidden=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def with_options(**given: Any) -> None:
            made = {name: _made(kind, given) for name, kind in kinds.items()}
            command(**{k: v for k, v in given.items() if k not in added}, **made)

        parameters = [*(p for p in own if p.name not in kinds), *added.values()]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        with_options.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        with_options.__annotations__ = {p.name: p.annotation for p in keyword}
        return with_options

    return decorate


def _made(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The options of a kind from the values of a command line. Raises UsageError."""
    former = {old for d in declared(kind) for old in d.option.formerly}
    names = {d.name: d.default for d in declared(kind)}
    chosen = {k: v for k, v in given.items() if k in names and v != names[k]}
    chosen |= {k: v for k, v in given.items() if k in former and v is not None}
    return kind(**current_names(kind, chosen))


def _parameter(name: str, d: Declared, default: Any, *, hidden: bool = False) -> inspect.Parameter:
    """A field of options as a parameter that Typer reads."""
    simple = Mapping not in [getattr(t, "__origin__", None) for t in get_args(d.type)]
    kind = d.type if simple else str | None
    readable = Path not in (kind, *get_args(kind))
    flags = () if hidden else d.option.flags
    option = typer.Option(*flags, help=d.option.help, hidden=hidden, readable=readable)
    if hidden and type(None) not in get_args(kind):
        kind = kind | None
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )
