"""The command that segments a study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrisr.cli.run_options import FileOptions, fields_for, takes

if TYPE_CHECKING:
    from mrisr.runs.job import Job
    from mrisr.runs.segment import ZoneOptions

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Labels to write: .nii, .nii.gz, .mha, .mhd or .nrrd; .dcm means a DICOM Segmentation. Left "
        "out: named after the input, in the working folder.",
        readable=False,
    ),
]
Qc = Annotated[
    Path | None,
    typer.Option("--qc", help="PNG to draw: the zones outlined on the image in three planes."),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Folder of a MONAI bundle that segments instead. A bundle is a program and is run: only give "
        "one that you trust.",
        readable=False,
    ),
]
Nnunet = Annotated[
    Path | None,
    typer.Option(
        "--nnunet",
        help="Result folder of an nnU-Net v2 that segments instead. Its checkpoints can run code: only give "
        "one that you trust.",
        readable=False,
    ),
]
TableOption = Annotated[
    str | None,
    typer.Option(
        "--table",
        help="What the labels of --bundle or --nnunet stand for: 1=TZ,2=PZ, or a YAML or JSON file. Left "
        "out: as the model names them.",
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        help="Share of the width left out at each edge of the slices, for models trained on cropped ones "
        "(prostate_mri_anatomy: 0.2)."
    ),
]


@dataclass(frozen=True)
class SegmentOptions(FileOptions):
    """What a segmentation takes besides: what segments."""

    output: Output = None
    qc: Qc = None
    model: Annotated[
        str | None, typer.Option(help="Name of a zones model (see `mrisr models`) or its path.")
    ] = None
    bundle: Bundle = None
    nnunet: Nnunet = None
    table: TableOption = None
    margin: Margin = 0.0

    def job(self, source: Path) -> Job:
        """The run on files."""
        from mrisr.runs.job import Job

        return Job(source, segmentation=True, **fields_for(self, Job))

    def options(self) -> ZoneOptions:
        """What segments."""
        from mrisr.runs.segment import ZoneOptions

        return ZoneOptions(**fields_for(self, ZoneOptions))


@takes(SegmentOptions)
def segment(
    run: SegmentOptions,
    input: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            help="T2-weighted study of axial slices, or of voxels of one size: NIfTI, MHA/MHD, NRRD or a "
            "DICOM series folder.",
            readable=False,  # that is for the reader to say, with its exit code
        ),
    ],
) -> None:
    """Label the zones of the prostate: 1 peripheral, 2 transition zone."""
    from mrisr.runs.segment import run_segment

    path, record = run_segment(run.job(input), run.options())
    _say(path, record, run)


def _say(path: Path, record: dict[str, Any], run: SegmentOptions) -> None:
    """The notes on standard error, then the record as JSON, or one line: volumes, seconds, memory."""
    for note in [] if run.quiet else record["notes"]:
        typer.echo(f"note: {note}", err=True)
    if run.as_json:
        typer.echo(json.dumps({"path": str(path), **record}, indent=2))
    elif not run.quiet:
        volumes = ", ".join(f"{zone} {ml:.1f} ml" for zone, ml in record["volumes_ml"].items())
        memory = record["peak_memory_gib"]["process"]
        typer.echo(f"{path}: {volumes}; {record['seconds']:.0f} s, {memory:.1f} GiB")
