"""The commands that restore, segment or look at a study, make one, or exchange one with an archive.

And those of a batch of studies: make its manifest, run it; and the one that the workflow's rule calls.
"""

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
    progress_bars,
    say,
    stage_bars,
    study_argument,
    study_option,
    takes,
)
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Files, InPlane, Segmenting, ThroughPlane

if TYPE_CHECKING:
    from mrisr.archive.transfer import RemoteSeries
    from mrisr.batch.bids import Dataset
    from mrisr.batch.status import Outcome

_FORMATS = "NIfTI, MHA/MHD, NRRD or a DICOM series folder"
_STACK = f"Stack: {_FORMATS}. Coronal and sagittal stacks do as well."
_SAME = "The study, as an option instead."
_OTHER = f"Further stack of the same exam, across the first: {_FORMATS}."
_IMAGE = f"T2-weighted study of axial slices, or of voxels of one size: {_FORMATS}."
STUDY = "A volume, a DICOM folder with one or many series, or a folder of volumes."
STUDIES = (
    "Folder of patients (t2w_ax, t2w_cor, t2w_sag, zones), BIDS tree, or folder of DICOM studies with a "
    "folder for each subject."
)
#: Failed studies that are listed on the terminal.
MOST_LISTED = 20
_RESULT = "What a run has written; or the folder of a batch, or of a study of one."
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
    study: Annotated[Path | None, study_argument(f"Study: {_FORMATS}.")] = None,
    input: Annotated[Path | None, study_option(_SAME, "--input", "-i")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the pixels of every slice smaller."""
    _run(_one(study, input), settings, files, quiet, as_json)


@takes(settings=ThroughPlane, files=Files)
def throughplane(
    settings: ThroughPlane,
    files: Files,
    study: Annotated[Path | None, study_argument(_STACK)] = None,
    axial: Annotated[Path | None, study_option(_SAME, "--axial", "-a", "--input", "-i")] = None,
    coronal: Annotated[Path | None, study_option(_OTHER, "--coronal")] = None,
    sagittal: Annotated[Path | None, study_option(_OTHER, "--sagittal")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the slices thinner; out of several planes of a patient, one isotropic volume."""
    others = tuple(path for path in (coronal, sagittal) if path is not None)
    _run(_one(study, axial, "--axial"), settings, files, quiet, as_json, others)


@takes(settings=Segmenting, files=Files)
def segment(
    settings: Segmenting,
    files: Files,
    study: Annotated[Path | None, study_argument(_IMAGE)] = None,
    input: Annotated[Path | None, study_option(_SAME, "--input", "-i")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Label the zones of the prostate: 1 peripheral, 2 transition zone."""
    _run(_one(study, input), settings, files, quiet, as_json)


def _one(study: Path | None, given: Path | None, option: str = "--input") -> Path:
    """The study, named as an argument or by its option. Raises UsageError: by neither, or by both."""
    if (study is None) == (given is None):
        found = "neither" if study is None else f"{study} and {given}"
        raise UsageError(f"STUDY or {option}: expected one of them, found {found}")
    return study or given  # type: ignore[return-value]


def _run(
    source: Path,
    settings: InPlane | ThroughPlane | Segmenting,
    files: Files,
    quiet: bool,
    as_json: bool,
    others: tuple[Path, ...] = (),
) -> None:
    """Do the run; print the notes on standard error, then the record, as JSON or on one line."""
    from mrisr.runs.outputs import FileRun
    from mrisr.runs.run import run_files

    labels = isinstance(settings, Segmenting)
    images = "slices" if isinstance(settings, InPlane) else "images"
    unit = "seconds" if getattr(settings, "adapt", None) else "steps"
    with progress_bars(quiet or labels, images, f"{unit} of adaptation") as bars:
        made = run_files(FileRun(source, files, labels, others), settings, *bars)
    record = made.record
    for note in () if quiet else record.notes:
        typer.echo(f"note: {note}", err=True)
    for reason in () if quiet else record.check or ():
        typer.echo(f"check: {reason}", err=True)
    if as_json:
        typer.echo(json.dumps({"path": str(made.path), **record.as_dict()}, indent=2))
    elif not quiet:
        parts = [f"{zone} {ml:.1f} ml" for zone, ml in (record.volumes_ml or {}).items()]
        if record.residual is not None:
            shape = "x".join(map(str, record.output.shape))
            spacing = " x ".join(f"{s:.4g}" for s in record.output.spacing_mm)
            agreement = record.residual.in_words
            parts = [f"{shape}, {spacing} mm; {agreement}"]
        cost = f"{record.seconds:.0f} s, {record.peak_memory_gib['process']:.1f} GiB"
        typer.echo(f"{made.path}: {', '.join(parts)}; {cost}")


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
        typer.echo(survey_text(found, study))
    if found and all(s.problems for s in found):
        raise typer.Exit(2)


def view(
    result: Annotated[Path, typer.Argument(help=_RESULT, readable=False)],
    input: Annotated[
        Path | None, study_option("Study that the result was made of.", "--input", "-i")
    ] = None,
    series: Annotated[
        str | None, option("DICOM series of it: its UID, number or description.")
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, or only write it.")
    ] = True,
    force: Force = False,
) -> None:
    """Show before and after on a page with a slider, which it writes beside a result."""
    import webbrowser

    from mrisr.batch.report.single import page_of

    page = page_of(result, input, series=series, force=force)
    typer.echo(page)
    if open_page and not webbrowser.open(page.absolute().as_uri()):
        typer.echo("no browser could be opened", err=True)


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


def manifest(
    data: Annotated[Path, typer.Argument(help=STUDIES, readable=False)],
    output: Annotated[Path, option("CSV to write.", "--output", "-o")],
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make the manifest of a batch: a row for each study."""
    from mrisr.batch.discover import find_studies
    from mrisr.batch.manifest import write_manifest
    from mrisr.io import check_output

    check_output(output, force=force)
    studies = find_studies(data, say(quiet))
    write_manifest(output, studies)
    typer.echo(f"{output}: {len(studies)} studies")


def batch(
    manifest: Annotated[
        Path | None,
        study_option("CSV of the studies; `mrisr manifest` makes one.", "--manifest", "-m"),
    ] = None,
    output: Annotated[
        Path | None,
        option("Folder of the results. A batch started again goes on.", "--output", "-o"),
    ] = None,
    bids: Annotated[
        Path | None,
        study_option(
            "BIDS data set, instead of --manifest. Results are a BIDS derivative, by default in its "
            "derivatives/mrisr."
        ),
    ] = None,
    subject: Annotated[
        list[str] | None, option("Only this subject of the BIDS data set; may be repeated.")
    ] = None,
    config: Annotated[
        Path | None,
        option("What is made of each study. Left out: configs/batch.yaml's.", "--config", "-c"),
    ] = None,
    jobs: Annotated[
        int | None, option("Jobs at a time; on this machine, cores.", "--jobs", "-j", min=1)
    ] = None,
    profile: Annotated[
        str, option("local, slurm, or the folder of a Snakemake profile.")
    ] = "local",
    chunk: Annotated[
        int | None,
        option("Studies that share a process. Left out: what the profile says.", min=1),
    ] = None,
    dry_run: Annotated[
        bool, option("Say what would be done, and do nothing.", "--dry-run", "-n")
    ] = False,
    extra: Annotated[
        list[str] | None, typer.Argument(help="After --: further arguments of Snakemake.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Upsample, segment, score and report on many studies, here or on a cluster; goes on where it stopped."""
    from mrisr.batch import start

    studies, output = _studies(manifest, bids, output, subject or [])
    asked = start.Request(studies, output, config, profile, jobs, chunk, tuple(extra or ()))
    if dry_run:
        typer.echo(start.dry_run(asked, say(quiet)))
        return
    with stage_bars(quiet) as show:
        outcome = start.run_batch(asked, show, say(quiet))
    typer.echo(_summary(outcome, output))
    if any(status.state == "failed" for status in outcome.values()):
        raise typer.Exit(8)


def _studies(
    manifest: Path | None, bids: Path | None, output: Path | None, subjects: list[str]
) -> tuple[Path | Dataset, Path]:
    """Where the studies of a batch come from, and its folder. Raises UsageError."""
    from mrisr.batch.bids import Dataset

    if bids is not None:
        if manifest is not None:
            raise UsageError("give --manifest or --bids, not both")
        dataset = Dataset(bids, output, tuple(subjects))
        return dataset, dataset.batch
    if subjects:
        raise UsageError("--subject is for --bids")
    if manifest is None or output is None:
        missing = "--output' / '-o" if manifest else "--manifest' / '-m"
        raise UsageError(f"Missing option '{missing}'.")
    return manifest, output


def chunk(
    chunk: Annotated[Path, typer.Argument(help="A chunk that mrisr batch planned.")],
    alone: Annotated[bool, option("In this process, whatever happens to it.", "--alone")] = False,
) -> None:
    """All stages over the studies of a chunk; the rule of the workflow calls it."""
    from mrisr.batch.run import end_with_parent, run_chunk, supervise

    if alone:
        run_chunk(chunk, typer.echo)
        return
    end_with_parent()  # the rule replaces its shell by this process: its parent is the workflow
    raise typer.Exit(supervise(chunk, say(False)))


def _summary(outcome: Outcome, output: Path) -> str:
    """Summary of a batch: counts of studies by state, failures with their reasons, the report's path."""
    from mrisr.cli.tables import table_text

    failed = [(name, "; ".join(s.reasons)) for name, s in outcome.items() if s.state == "failed"]
    seconds = sum(status.seconds for status in outcome.values())
    done = len(outcome) - len(failed)
    lines = [f"{done} of {len(outcome)} studies done, {seconds:.0f} s of work"]
    look = [(name, "; ".join(s.check)) for name, s in outcome.items() if s.state == "check"]
    for heading, rows in (("failed", failed), ("check", look)):
        lines += [table_text((heading, "why"), rows[:MOST_LISTED])] if rows else []
        if len(rows) > MOST_LISTED:
            lines.append(f"and {len(rows) - MOST_LISTED} more, see {output / 'outcome.csv'}")
    return "\n".join([*lines, f"report: {output / 'report.html'}"])
