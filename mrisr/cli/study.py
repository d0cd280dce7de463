"""The commands that look at a study, or make one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Json, Quiet, option

STUDY = "A volume, a DICOM folder with one or many series, or a folder of volumes."
OUTPUT = "Folder for the study, the results and the picture."


def info(
    study: Annotated[Path, typer.Argument(help=STUDY, readable=False)], as_json: Json = False
) -> None:
    """Say what a study holds, its planes and geometry, and what is wrong with it."""
    from dataclasses import asdict

    from mrisr.cli.tables import survey_text
    from mrisr.io.survey import survey

    found = survey(study)
    if as_json:
        typer.echo(json.dumps([asdict(s) for s in found], indent=2))
    else:
        typer.echo(survey_text(found))
    if found and all(s.problems for s in found):
        raise typer.Exit(2)


def demo(
    output: Annotated[Path, option(OUTPUT, "--output", "-o")] = Path("demo"),
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Make a digital phantom study, upsample it both ways and draw before and after."""
    from mrisr.demo import run_demo

    typer.echo(run_demo(output, device=device, report=say(quiet)))
