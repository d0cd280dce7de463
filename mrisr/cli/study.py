"""The commands that restore, segment or look at a study, or make one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import progress_bar, say, say_result
from mrisr.cli.options import Device, Json, Quiet, option, study_option, takes
from mrisr.core.options import Files, InPlane, Segmenting, ThroughPlane

_FORMATS = "NIfTI, MHA/MHD, NRRD or a DICOM series folder"
_STACK = f"Stack: {_FORMATS}. Coronal and sagittal stacks do as well."
_IMAGE = f"T2-weighted study of axial slices, or of voxels of one size: {_FORMATS}."
STUDY = "A volume, a DICOM folder with one or many series, or a folder of volumes."
OUTPUT = "Folder for the study, the results and the picture."


@takes(settings=InPlane, files=Files)
def inplane(
    settings: InPlane,
    files: Files,
    input: Annotated[Path, study_option(f"Study: {_FORMATS}.", "--input", "-i")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the pixels of every slice smaller."""
    _run(input, settings, files, quiet, as_json)


@takes(settings=ThroughPlane, files=Files)
def throughplane(
    settings: ThroughPlane,
    files: Files,
    axial: Annotated[Path, study_option(_STACK, "--axial", "-a")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the slices thinner."""
    _run(axial, settings, files, quiet, as_json)


@takes(settings=Segmenting, files=Files)
def segment(
    settings: Segmenting,
    files: Files,
    input: Annotated[Path, study_option(_IMAGE, "--input", "-i")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Label the zones of the prostate: 1 peripheral, 2 transition zone."""
    _run(input, settings, files, quiet, as_json)


def _run(
    source: Path,
    settings: InPlane | ThroughPlane | Segmenting,
    files: Files,
    quiet: bool,
    as_json: bool,
) -> None:
    """Do the run, then say what was made."""
    from mrisr.runs.outputs import FileRun
    from mrisr.runs.run import run_files

    labels = isinstance(settings, Segmenting)
    images = "slices" if isinstance(settings, InPlane) else "images"
    with progress_bar(images, quiet or labels) as progress:
        made = run_files(FileRun(source, files, labels), settings, progress)
    say_result(made, quiet, as_json)


def info(
    study: Annotated[Path, typer.Argument(help=STUDY, readable=False)], as_json: Json = False
) -> None:
    """Say what a study holds, its planes and geometry, and what is wrong with it."""
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
