"""The analyses of the papers: ``mrisr analyze latents``, ``schedule`` and ``steps``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Quiet
from mrisr.core.errors import UsageError

app = typer.Typer(
    help="Latent convergence, inference schedules, and quality against steps, on your own patients.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Eta = TypeVar("Eta", float, list[float])
Data = Annotated[Path, typer.Option(help="Cache made by `mrisr prepare`.")]
Folder = Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and figures.")]
Factor = Annotated[float, typer.Option(help="How much coarser the degraded images are.")]
Trained = Annotated[str, typer.Option("--model", help="Name of a model or the path of one.")]
Cases = Annotated[str, typer.Option(help="Patients, separated by commas.")]
Slices = Annotated[int, typer.Option(min=1, help="Central slices of each series.")]


@app.command()
def latents(
    data: Data,
    output: Folder,
    job: Annotated[
        Literal["inplane", "throughplane"],
        typer.Option(
            help="In-plane: axial slices, bicubic. Through-plane: coronal slices along S-I."
        ),
    ],
    factor: Factor,
    cases: Cases = "",
    slices: Slices = 8,
    threshold: Annotated[
        float,
        typer.Option(help="K is the first step at which no band keeps more of the missing detail."),
    ] = 0.01,
    quiet: Quiet = False,
) -> None:
    """Likeness of the diffused low- and high-resolution images; suggests K. Needs no model."""
    from mrisr.analysis.latents import LatentSettings, analyze_latents

    settings = LatentSettings(
        job=job, factor=factor, cases=_names(cases), slices=slices, threshold=threshold
    )
    typer.echo(analyze_latents(data, output, settings, say(quiet)))


@app.command()
def schedule(
    model: Trained,
    data: Data,
    output: Folder,
    steps: Annotated[int, typer.Option(help="Evaluations per image, at least 2.")],
    factor: Factor,
    criterion: Annotated[
        Literal["nearest", "psnr", "spectrum"],
        typer.Option(help="Nearest to the reference in SSIM and spectrum, or one measure alone."),
    ] = "nearest",
    eta: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="To try; may be repeated. Left out: the model's own."),
    ] = None,
    churn: Annotated[list[float] | None, typer.Option(min=0, max=1, hidden=True)] = None,
    slices: Slices = 2,
    crop: Annotated[int, typer.Option(min=32, help="Edge of the central square, pixels.")] = 192,
    write: Annotated[
        Path | None,
        typer.Option(help="Folder (or card) of a copy of the model that gets the schedule."),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Search the signal levels for a number of steps, on the patients that the model was trained on."""
    from mrisr.analysis.schedule import analyze_schedule
    from mrisr.analysis.schedule_grid import Search

    how = Search(
        steps=steps,
        factor=factor,
        eta=tuple(_renamed(eta, churn) or ()),
        criterion=criterion,
        slices=slices,
        crop=crop,
        device=device,
    )
    typer.echo(analyze_schedule(model, data, output, how, write=write, report=say(quiet)))


@app.command()
def steps(
    model: Trained,
    data: Data,
    output: Folder,
    factor: Factor,
    steps: Annotated[str, typer.Option(help="Numbers of steps to compare.")] = "1,2,4,10,25,50",
    eta: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="0: deterministic steps; 1: ancestral. Left out: the model's."
        ),
    ] = None,
    churn: Annotated[float | None, typer.Option(min=0, max=1, hidden=True)] = None,
    cases: Cases = "",
    slices: Slices = 8,
    crop: Annotated[int, typer.Option(min=32, help="Edge of the central square, pixels.")] = 320,
    readers: Annotated[
        bool,
        typer.Option("--readers", help="Also write a page for human readers (pictures inside)."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the noise and of the readers' page.")] = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Quality against the number of steps, on held-out patients: figures and an automated preference."""
    from mrisr.analysis.steps import Steps, analyze_steps, steps_of

    how = Steps(
        steps=steps_of(steps),
        factor=factor,
        eta=_renamed(eta, churn),
        cases=_names(cases),
        slices=slices,
        crop=crop,
        seed=seed,
        device=device,
    )
    typer.echo(analyze_steps(model, data, output, how, readers=readers, report=say(quiet)))


def _renamed(eta: Eta | None, churn: Eta | None) -> Eta | None:
    """DDIM's eta, by its name or by its old one. Raises UsageError where both are given."""
    if eta is not None and churn is not None:
        raise UsageError("give --eta or --churn, which is its old name, not both")
    return eta if churn is None else churn


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
