"""The commands that upsample a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import progress_bar, say_result
from mrisr.cli.run_options import RunOptions, takes_run_options


@takes_run_options
def inplane(
    run: RunOptions,
    input: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            help="Study: NIfTI, MHA/MHD, NRRD or a DICOM series folder.",
            readable=False,  # that is for the reader to say, with its exit code
        ),
    ],
    scale: Annotated[float, typer.Option(help="1.5 to 8, fractions allowed.")] = 4.0,
    degradation: Annotated[
        str | None, typer.Option(help="bicubic or kspace: what made the pixels coarse.")
    ] = None,
) -> None:
    """Make the pixels of every slice smaller."""
    options = run.options(degradation)
    from mrisr.runs.upsample import run_in_plane

    with progress_bar("slices", run.quiet) as progress:
        path, record = run_in_plane(run.job(input), scale, options, progress)
    say_result(path, record, run.quiet, run.as_json)


@takes_run_options
def throughplane(
    run: RunOptions,
    axial: Annotated[
        Path,
        typer.Option(
            "--axial",
            "-a",
            help="Stack: NIfTI, MHA/MHD, NRRD or a DICOM series folder. Coronal and sagittal stacks "
            "do as well.",
            readable=False,
        ),
    ],
    factor: Annotated[
        float | None,
        typer.Option(help="Slices made of one. Left out: isotropic with the pixels."),
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Distance of the new slices in mm, instead of --factor.")
    ] = None,
    slice_thickness: Annotated[
        float | None,
        typer.Option(
            help="Slice thickness in mm (it is not the spacing). Left out: what the source states, else "
            "the spacing."
        ),
    ] = None,
    degradation: Annotated[
        str | None, typer.Option(help="gaussian or box: the slice profile.")
    ] = None,
) -> None:
    """Make the slices thinner."""
    options = run.options(degradation)
    from mrisr.runs.upsample import run_through_plane

    with progress_bar("images", run.quiet) as progress:
        path, record = run_through_plane(
            run.job(axial),
            options,
            factor=factor,
            spacing=spacing,
            slice_thickness=slice_thickness,
            progress=progress,
        )
    say_result(path, record, run.quiet, run.as_json)
