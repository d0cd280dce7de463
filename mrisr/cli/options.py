"""The command line's options: those of options dataclasses from their declarations, and its own few."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from mrisr.core.options import Declared, Options, current_names, declared


def option(help: str, *flags: str, **limits: Any) -> Any:
    """An option of a command, called as its parameter is unless ``flags`` say otherwise."""
    return typer.Option(*flags, help=help, **limits)


def study_option(help: str, *flags: str) -> Any:
    """The option that names a study; whether it can be read is for the reader to say, with its exit code."""
    return typer.Option(*flags, help=help, readable=False)


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
        with_options.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        with_options.__annotations__ = {p.name: p.annotation for p in keyword}
        return with_options

    return decorate


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
    if any(get_origin(t) is Mapping for t in get_args(kind)):
        kind = str | None
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
