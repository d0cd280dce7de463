"""The command line: each command is a few lines over the functions that do the work.

Nothing heavy is imported before a command runs, so ``mrisr --help`` answers at once.
"""

import errno
import inspect
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
from mrisr.core.process import keep_freed_memory

app = typer.Typer(
    help="Super-resolution of prostate MRI: sharp, isotropic volumes that overlay on the original.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        import mrisr

        typer.echo(mrisr.__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(_FIRST)


_FIRST = """\
Super-resolution of prostate MRI. For research only. Type next

  mrisr info STUDY                         what a study holds, and which command fits
  mrisr inplane STUDY --qc look.png        smaller pixels, and a picture of it
  mrisr throughplane STUDY --qc look.png   thinner slices
  mrisr demo                               no study at hand: a phantom, before and after
  mrisr --help                             all commands"""
#: Commands by the boxes in which the help shows them.
_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "A study": (
        study.inplane,
        study.throughplane,
        study.segment,
        study.info,
        study.view,
        study.demo,
    ),
    "Many studies": (study.manifest, study.batch),
    "An archive": (study.fetch, study.send),
    "Models": (
        models.models,
        models.prepare,
        models.train,
        models.export,
        models.benchmark,
    ),
}
_EXAMPLES = {
    study.inplane: (
        "mrisr inplane study.nii.gz --scale 2 --qc look.png",
        "mrisr inplane exam/ --series t2_tse_tra --output exam_sr/",
    ),
    study.throughplane: (
        "mrisr throughplane ax.nii.gz --qc look.png",
        "mrisr throughplane ax.nii.gz --coronal cor.nii.gz --sagittal sag.nii.gz",
    ),
    study.segment: ("mrisr segment study.nii.gz --output zones.nii.gz --qc zones.png",),
}
for _panel, _group in _COMMANDS.items():
    for _command in _group:
        _told = [inspect.getdoc(_command) or ""]
        if _command in _EXAMPLES:
            _told.append("\b\n" + "\n".join(_EXAMPLES[_command]))
        app.command(help="\n\n".join(_told), rich_help_panel=_panel)(_command)
app.command(hidden=True)(study.chunk)  # which the workflow calls
app.add_typer(models.evaluations, name="evaluate", rich_help_panel="Models")
app.add_typer(models.analyses, name="analyze", rich_help_panel="Models")


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
    keep_freed_memory()
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
