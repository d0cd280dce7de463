"""The options that several commands on files take, declared once.

Typer reads options from a function's signature. ``takes`` writes the fields of a dataclass, such as
``RunOptions``, into it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from mrisr.cli.options import (
    Affine,
    Churn,
    Consistency,
    Deidentify,
    Device,
    Force,
    FormatOption,
    Frame,
    Json,
    MaxVoxels,
    Method,
    ModelName,
    Output,
    PrecisionOption,
    Qc,
    Quiet,
    Seed,
    Series,
    Start,
    Steps,
    Template,
    Tile,
    Update,
)

if TYPE_CHECKING:
    from mrisr.restore.sampling import Options
    from mrisr.runs.job import Job


@dataclass(frozen=True)
class FileOptions:
    """What a run reads and writes beside its study, and what it says."""

    output: Output = None
    format: FormatOption = None
    template: Template = None
    deidentify: Deidentify = False
    qc: Qc = None
    series: Series = None
    frame: Frame = None
    affine: Affine = None
    max_voxels: MaxVoxels = 2**31
    device: Device = "auto"
    force: Force = False
    quiet: Quiet = False
    as_json: Json = False


@dataclass(frozen=True)
class RunOptions(FileOptions):
    """What an upsampler takes besides: how the model is used."""

    model: ModelName = None
    method: Method = None
    steps: Steps = None
    churn: Churn = None
    update: Update = "corrected"
    start: Start = None
    seed: Seed = 0
    precision: PrecisionOption = "auto"
    tile: Tile = None
    consistency: Consistency = None

    def job(self, source: Path) -> Job:
        """The run on files."""
        from mrisr.runs.job import Job

        return Job(source, **fields_for(self, Job))

    def options(self, degradation: str | None) -> Options:
        """How to restore. Raises UsageError for a value out of its range."""
        from mrisr.restore.sampling import Options

        return Options(**{**fields_for(self, Options), "degradation": degradation})


def fields_for(options: Any, kind: type) -> dict[str, Any]:
    """The fields of a dataclass that another one has by the same name."""
    names = {f.name for f in fields(kind)} & {f.name for f in fields(options)}
    return {name: getattr(options, name) for name in names}


def takes(kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command every field of a dataclass as an option, and them all as its argument ``run``."""
    hints = get_type_hints(kind, include_extras=True)
    added = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name]
        )
        for f in fields(kind)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def with_run(**given: Any) -> None:
            run = kind(**{p.name: given.pop(p.name) for p in added})
            command(run=run, **given)

        parameters = [*(p for p in own if p.name != "run"), *added]
        with_run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_run.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_run

    return decorate


takes_run_options = takes(RunOptions)
