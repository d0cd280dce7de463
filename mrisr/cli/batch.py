"""The commands of a batch: make a manifest, run it; and the one that the workflow's rule calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrisr.cli.terminal import Force, Quiet, option, say, stage_bars, study_option

if TYPE_CHECKING:
    from mrisr.batch.status import Outcome

#: Failed studies that are listed on the terminal.
MOST_LISTED = 20
STUDIES = (
    "Folder of patients (t2w_ax, t2w_cor, t2w_sag, zones), BIDS tree, or folder of DICOM studies with a "
    "folder for each subject."
)


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
        Path, study_option("CSV of the studies; `mrisr manifest` makes one.", "--manifest", "-m")
    ],
    output: Annotated[
        Path,
        option("Folder of the results. A batch started again goes on.", "--output", "-o"),
    ],
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
    from mrisr.batch.manifest import ManifestError

    asked = start.Request(manifest, output, config, profile, jobs, chunk, tuple(extra or ()))
    try:
        if dry_run:
            typer.echo(start.dry_run(asked, say(quiet)))
            return
        with stage_bars(quiet) as show:
            outcome = start.run_batch(asked, show, say(quiet))
    except ManifestError as error:
        for fault in error.faults if len(error.faults) > 1 else ():
            typer.echo(f"{manifest}: {fault}", err=True)
        raise
    typer.echo(_summary(outcome, output))
    if any(status.state == "failed" for status in outcome.values()):
        raise typer.Exit(8)


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

    failed = {name: status for name, status in outcome.items() if status.state == "failed"}
    listed = list(failed.items())[:MOST_LISTED]
    rows = [(name, "; ".join(status.reasons)) for name, status in listed]
    seconds = sum(status.seconds for status in outcome.values())
    done = len(outcome) - len(failed)
    lines = [f"{done} of {len(outcome)} studies done, {seconds:.0f} s of work"]
    lines += [table_text(("failed", "why"), rows)] if failed else []
    if len(failed) > MOST_LISTED:
        lines.append(f"and {len(failed) - MOST_LISTED} more, see {output / 'outcome.csv'}")
    return "\n".join([*lines, f"report: {output / 'report.html'}"])
