"""The command line: each command is a few lines over the functions that do the work.

Nothing heavy is imported before a command runs, so ``mrisr --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mrisr.cli_options import (
    Affine,
    Churn,
    Consistency,
    Device,
    Force,
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
    Tile,
)
from mrisr.console import progress_bar, say, say_result
from mrisr.errors import MrisrError

if TYPE_CHECKING:
    from mrisr.inference.options import Options

app = typer.Typer(
    help="Super-resolution of prostate MRI: sharp, isotropic volumes that overlay on the original.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        import mrisr

        typer.echo(mrisr.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def inplane(
    input: Annotated[
        Path,
        typer.Option("--input", "-i", help="Study: NIfTI, MHA/MHD, NRRD or a DICOM series folder."),
    ],
    scale: Annotated[float, typer.Option(help="1.5 to 8, fractions allowed.")] = 4.0,
    output: Output = None,
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

    job = Job(input, output, force, qc, series, frame, affine, max_voxels)
    with progress_bar("slices", quiet) as progress:
        path, record = run_in_plane(job, scale, options, progress)
    say_result(path, record, quiet, as_json)


@app.command()
def throughplane(
    axial: Annotated[
        Path,
        typer.Option(
            "--axial",
            "-a",
            help="Stack: NIfTI, MHA/MHD, NRRD or a DICOM series folder. Coronal and sagittal stacks "
            "do as well.",
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

    job = Job(axial, output, force, qc, series, frame, affine, max_voxels)
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


@app.command()
def prepare(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with a folder per patient, or a manifest CSV (case, path[, series])."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the cache.")],
    crop: Annotated[
        int | None, typer.Option(help="Keep only the central square of this many pixels.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Turn volumes into one compact training cache."""
    from mrisr.prepare import prepare as run

    errors = run(data, output, crop=crop, force=force, report=say(quiet))
    if errors:
        typer.echo(f"{len(errors)} volumes left out", err=True)
        raise typer.Exit(8)


@app.command()
def train(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", help="Configuration, e.g. configs/partdiff-inplane.yaml."),
    ],
    data: Annotated[Path, typer.Option(help="Cache made by `mrisr prepare`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a model; start with torchrun for several devices."""
    from mrisr.config import load_config
    from mrisr.training import train as run

    card = run(load_config(config), data, output, resume=resume, device=device, report=say(quiet))
    typer.echo(str(card))


@app.command()
def evaluate(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Evaluation, e.g. configs/evaluate_inplane.yaml.")
    ],
    data: Annotated[Path, typer.Option(help="Cache made by `mrisr prepare`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")],
    model: ModelName = None,
    device: Device = "auto",
    card: Annotated[
        bool, typer.Option("--card", help="Write the figures into the model's card.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on held-out patients against interpolation."""
    from mrisr.evaluation.run import evaluate as run

    table = run(config, data, output, model=model, device=device, into_card=card, report=say(quiet))
    typer.echo(table)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Model whose card to show.")] = None,
    as_json: Json = False,
) -> None:
    """List the models that are bundled or installed, or show the card of one."""
    from mrisr.models.store import available, card_path, read_card
    from mrisr.tables import card_text, listing

    cards = [read_card(card_path(name))] if name else [read_card(p) for p in available().values()]
    if as_json:
        content = [card.model_dump(mode="json") for card in cards]
        typer.echo(json.dumps(content[0] if name else content, indent=2))
    else:
        typer.echo(card_text(cards[0]) if name else listing(cards))


@app.command()
def info(
    study: Annotated[
        Path,
        typer.Argument(
            help="A volume, a DICOM folder with one or many series, or a folder of volumes."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what a study holds, its planes and geometry, and what is wrong with it."""
    from dataclasses import asdict

    from mrisr.io.survey import survey
    from mrisr.tables import survey_text

    found = survey(study)
    if as_json:
        typer.echo(json.dumps([asdict(s) for s in found], indent=2))
    else:
        typer.echo(survey_text(found))
    if found and all(s.problems for s in found):
        raise typer.Exit(2)


@app.command()
def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the study, the results and the picture."),
    ] = Path("demo"),
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Make a digital phantom study, upsample it both ways and draw before and after."""
    from mrisr.demo import run_demo

    typer.echo(run_demo(output, device=device, report=say(quiet)))


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


#: Base of the errors by which the parser refuses a command line, wherever Typer keeps its Click.
_PARSER_ERROR: type[Exception] = typer.BadParameter.__bases__[0]
#: What newer versions of Typer return, without a word, when the user presses Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line; an expected error is one line on standard error and its exit code."""
    code = 0
    try:
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except MrisrError as error:
        typer.echo(f"mrisr: {' '.join(str(error).split())}", err=True)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("mrisr: stopped", err=True)
        code = 1
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mrisr"):
            raise
        typer.echo(
            f"mrisr: {error.name} is not installed; pip install 'mrisr[all]' brings it", err=True
        )
        code = 1
    except _PARSER_ERROR as error:
        message = error.format_message()  # type: ignore[attr-defined]
        typer.echo(f"mrisr: {' '.join(message.split())}", err=True)
        code = 1
    sys.exit(code)
