"""The command line: each command is a few lines over the functions that do the work.

Nothing heavy is imported before a command runs, so ``mrisr --help`` answers at once.
"""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Annotated, Any

import typer

from mrisr.cli import models, study
from mrisr.core.errors import MrisrError, out_of_memory

app = typer.Typer(
    help="Super-resolution of prostate MRI: sharp, isotropic volumes that overlay on the original.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        import mrisr

        typer.echo(mrisr.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _command in (
    study.inplane,
    study.throughplane,
    study.segment,
    models.prepare,
    models.train,
    models.models,
    models.export,
    models.benchmark,
    study.info,
    study.demo,
    study.fetch,
    study.send,
    study.manifest,
    study.batch,
):
    app.command()(_command)
app.command(hidden=True)(study.chunk)  # which the workflow calls
app.add_typer(models.evaluations, name="evaluate")
app.add_typer(models.analyses, name="analyze")


@cache
def command() -> Callable[..., Any]:
    """Build the command line, once in a process."""
    return typer.main.get_command(app)


#: Base of the errors by which the parser refuses a command line, wherever Typer keeps its Click.
_PARSER_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
#: What a terminal, a pipe or a redirection answers when it takes no more.
_STREAM = (errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF)


def main() -> None:
    """Run the command line; an error is one line on standard error and its exit code.

    ``MRISR_TRACEBACK=1`` shows where an error arose, for a bug report.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where its cache lies
    try:
        with _terminable():
            code = command()(standalone_mode=False) or 0
        if code == 130:  # newer versions of Typer return it, without a word, on Ctrl-C
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("MRISR_TRACEBACK") and not isinstance(error, _PARSER_ERROR):
            raise
        faults = getattr(error, "faults", ())  # of a manifest
        for fault in faults if len(faults) > 1 else ():
            typer.echo(f"{error.source}: {fault}", err=True)  # type: ignore[union-attr]
        message, code = explain(error)
        typer.echo(f"mrisr: {message}", err=True)
    sys.exit(code)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, which ends a job on a cluster, stop a run as Ctrl-C does: cleanly."""

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one shall not disturb the cleaning up
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: BaseException) -> tuple[str, int]:
    """An error as one printable line and the exit code it stands for."""
    code = error.exit_code if isinstance(error, MrisrError) else 1
    if isinstance(error, MrisrError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename is None and error.errno in _STREAM:
        text, code = f"standard output: cannot be written: {error.strerror}", 3
    elif isinstance(error, (typer.Abort, KeyboardInterrupt)):
        text = "stopped"
    elif isinstance(error, _PARSER_ERROR):
        text = error.format_message()  # type: ignore[attr-defined]
    elif isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("mrisr"):
        text = f"{error.name} is not installed; pip install 'mrisr[all]' brings it"
    elif out_of_memory(error):
        text = "out of memory, nothing was written; a smaller --tile or --scale needs less"
    else:
        where = "MRISR_TRACEBACK=1 shows where, for a bug report"
        text = f"failed: {type(error).__name__}: {error} ({where})"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()), code
