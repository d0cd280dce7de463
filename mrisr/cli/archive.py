"""The commands that fetch a series from an archive and send one back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrisr.cli.console import progress_bar, say
from mrisr.cli.options import Force, Quiet, option, study_option
from mrisr.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from mrisr.archive.transfer import RemoteSeries

Url = Annotated[
    str,
    option(
        "Root of the DICOMweb service, e.g. https://pacs.example/dicom-web. Credentials: "
        "MRISR_DICOMWEB_USER and MRISR_DICOMWEB_PASSWORD, or MRISR_DICOMWEB_TOKEN.",
    ),
]


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
        typer.echo(_table(list_series(url, study)))
        return
    if output is None:
        raise UsageError("--output: the folder to write the series into is missing")
    if series is None:
        found = list_series(url, study)
        if len(found) > 1:
            typer.echo(_table(found))
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


def _table(found: list[RemoteSeries]) -> str:
    """One line per series."""
    from mrisr.cli.tables import plain_table, rendered

    rows = []
    for s in found:
        count = "?" if s.instances is None else str(s.instances)
        rows.append((s.number, s.modality, count, s.description, s.uid))
    columns = ("number", "modality", "instances", "description", "series")
    return rendered(plain_table(columns, rows))
