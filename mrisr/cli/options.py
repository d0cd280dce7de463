"""The command line's options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Volume to write: .nii, .nii.gz, .mha, .mhd or .nrrd; a folder means a DICOM series. Left "
        "out: named after the input and the job, in the working folder.",
        readable=False,
    ),
]
FormatOption = Annotated[
    Literal["nifti", "mha", "nrrd", "dicom"] | None,
    typer.Option(help="Format of the output, where --output does not tell. Left out: nifti."),
]
Template = Annotated[
    Path | None,
    typer.Option(
        help="DICOM series of the same patient and place: gives patient and study to a DICOM output made "
        "from another format.",
        readable=False,
    ),
]
Deidentify = Annotated[
    bool,
    typer.Option(
        "--deidentify",
        help="DICOM output by the Basic Profile of PS3.15: attributes only, which is not complete "
        "de-identification.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", help="Name of a model (see `mrisr models`) or the path of one."),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="Instead of --model: the job's model of a method: partdiff, partdiff25, partdiff50, "
        "partdiff75, sr3, invsr, srgan, liif, regression, bicubic, bspline or lanczos."
    ),
]
Update = Annotated[
    Literal["corrected", "published"],
    typer.Option(help="Steps along the moving mean, or the published ones that lag behind it."),
]
Start = Annotated[
    float | None,
    typer.Option(
        help="Noise scale to start at, for models without alignment such as sr3. Left out: the model's own."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Evaluations per image: 1 is most faithful, more add texture. Left out: the model's own."
    ),
]
Churn = Annotated[float | None, typer.Option(help="0: deterministic steps; 1: ancestral ones.")]
Seed = Annotated[int, typer.Option(help="Seed of the noise. Same seed, same machine: same voxels.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(help="auto: bf16 where the device computes it natively."),
]
Tile = Annotated[
    int | None,
    typer.Option(help="Edge of a tile in pixels. Left out: whole images wherever they fit."),
]
Consistency = Annotated[
    float | None,
    typer.Option(
        help="Weight, 0 to 1, of the last projection onto what was measured. Left out: 1 (interpolations: 0)."
    ),
]
Qc = Annotated[
    Path | None,
    typer.Option("--qc", help="PNG to draw: input, interpolation, result in three planes."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace existing outputs. The input is never overwritten.")
]
Series = Annotated[
    str | None, typer.Option(help="DICOM series to take: its UID, number or description.")
]
Frame = Annotated[
    int | None, typer.Option(help="Volume (from 1) to take of a DICOM series that holds several.")
]
MaxVoxels = Annotated[int, typer.Option(help="Refuse inputs that claim more voxels than this.")]
Affine = Annotated[
    Literal["sform", "qform"] | None,
    typer.Option(help="NIfTI: which form counts where the two disagree."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
