"""The commands that restore, segment or look at a study, make one, or exchange one with an archive."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrisr.cli.terminal import (
    Device,
    Force,
    Json,
    Quiet,
    option,
    progress_bar,
    say,
    say_result,
    study_option,
    takes,
)
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Files, InPlane, Segmenting, ThroughPlane

if TYPE_CHECKING:
    from mrisr.archive.transfer import RemoteSeries

_FORMATS = "NIfTI, MHA/MHD, NRRD or a DICOM series folder"
_STACK = f"Stack: {_FORMATS}. Coronal and sagittal stacks do as well."
_IMAGE = f"T2-weighted study of axial slices, or of voxels of one size: {_FORMATS}."
STUDY = "A volume, a DICOM folder with one or many series, or a folder of volumes."
OUTPUT = "Folder for the study, the results and the picture."
Url = Annotated[
    str,
    option(
        "Root of the DICOMweb service, e.g. https://pacs.example/dicom-web. Credentials: "
        "MRISR_DICOMWEB_USER and MRISR_DICOMWEB_PASSWORD, or MRISR_DICOMWEB_TOKEN.",
    ),
]


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


def fetch(
    url: Url,
    study: Annotated[str, option("StudyInstanceUID.")],
    series: Annotated[str | None, option("Series to take: its UID, number or description.")] = None,
    output: Annotated[
        Path | None, option("Folder to write the series into.", "--output", "-o")
    ] = None,
    only_list: Annotated[bool, option("Only list the series of the study.", "--list")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a DICOM series from an archive (DICOMweb)."""
    from mrisr.archive.transfer import fetch_series, list_series

    if only_list:
        typer.echo(_listed(list_series(url, study)))
        return
    if output is None:
        raise UsageError("--output: the folder to write the series into is missing")
    if series is None:
        found = list_series(url, study)
        if len(found) > 1:
            typer.echo(_listed(found))
            expected, count = "one series (--series picks)", f"{len(found)} series"
            raise InputError(f"study {study}", expected=expected, found=count)
    with progress_bar("instances", quiet) as progress:
        path = fetch_series(url, study, series, output, force=force, progress=progress)
    if not quiet:
        typer.echo(f"{path}: {sum(1 for _ in path.iterdir())} instances")


def send(
    url: Url,
    input: Annotated[Path, study_option("Folder of a DICOM series.", "--input", "-i")],
    quiet: Quiet = False,
) -> None:
    """Send a DICOM series to an archive (DICOMweb) and make sure that it arrived."""
    from mrisr.archive.transfer import send_series

    with progress_bar("instances", quiet) as progress:
        count = send_series(url, input, progress=progress, report=say(quiet))
    if not quiet:
        typer.echo(f"{input}: {count} instances sent, all of them listed by the archive")


def _listed(found: list[RemoteSeries]) -> str:
    """One line per series."""
    from mrisr.cli.tables import table_text

    rows = []
    for s in found:
        count = "?" if s.instances is None else str(s.instances)
        rows.append((s.number, s.modality, count, s.description, s.uid))
    columns = ("number", "modality", "instances", "description", "series")
    return table_text(columns, rows)
