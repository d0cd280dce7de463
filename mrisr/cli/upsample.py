"""The commands that upsample a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mrisr.cli.console import progress_bar, say_result
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
    ModelName,
    Output,
    PrecisionOption,
    Qc,
    Quiet,
    Seed,
    Series,
    Steps,
    Template,
    Tile,
)

if TYPE_CHECKING:
    from mrisr.inference.options import Options


def inplane(
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
    output: Output = None,
    format: FormatOption = None,
    template: Template = None,
    deidentify: Deidentify = False,
    model: ModelName = None,
    steps: Steps = None,
    churn: Churn = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    tile: Tile = None,
    consistency: Consistency = 1.0,
    degradation: Annotated[
        str | None, typer.Option(help="bicubic or kspace: what made the pixels coarse.")
    ] = None,
    qc: Qc = None,
    series: Series = None,
    frame: Frame = None,
    affine: Affine = None,
    max_voxels: MaxVoxels = 2**31,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the pixels of every slice smaller."""
    options = _options(model, steps, churn, seed, device, precision, tile, consistency, degradation)
    from mrisr.inference.api import Job, run_in_plane

    job = Job(
        input,
        output,
        format,
        template,
        deidentify,
        force,
        qc,
        series,
        frame,
        affine,
        max_voxels,
    )
    with progress_bar("slices", quiet) as progress:
        path, record = run_in_plane(job, scale, options, progress)
    say_result(path, record, quiet, as_json)


def throughplane(
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
    output: Output = None,
    format: FormatOption = None,
    template: Template = None,
    deidentify: Deidentify = False,
    model: ModelName = None,
    steps: Steps = None,
    churn: Churn = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    tile: Tile = None,
    consistency: Consistency = 1.0,
    degradation: Annotated[
        str | None, typer.Option(help="gaussian or box: the slice profile.")
    ] = None,
    qc: Qc = None,
    series: Series = None,
    frame: Frame = None,
    affine: Affine = None,
    max_voxels: MaxVoxels = 2**31,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make the slices thinner."""
    options = _options(model, steps, churn, seed, device, precision, tile, consistency, degradation)
    from mrisr.inference.api import Job, run_through_plane

    job = Job(
        axial,
        output,
        format,
        template,
        deidentify,
        force,
        qc,
        series,
        frame,
        affine,
        max_voxels,
    )
    with progress_bar("images", quiet) as progress:
        path, record = run_through_plane(
            job,
            options,
            factor=factor,
            spacing=spacing,
            slice_thickness=slice_thickness,
            progress=progress,
        )
    say_result(path, record, quiet, as_json)


def _options(
    model: str | None,
    steps: int | None,
    churn: float | None,
    seed: int,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    tile: int | None,
    consistency: float,
    degradation: Any,
) -> Options:
    from mrisr.inference.options import Options

    return Options(
        model=model,
        steps=steps,
        churn=churn,
        seed=seed,
        device=device,
        precision=precision,
        tile=tile,
        consistency=consistency,
        degradation=degradation,
    )
