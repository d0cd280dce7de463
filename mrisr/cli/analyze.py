"""The analyses of the papers: ``mrisr analyze latents``, ``schedule`` and ``steps``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrisr.analysis.options import LatentSettings, Search, Steps
from mrisr.cli.console import say
from mrisr.cli.options import Cache, Quiet, option, takes

app = typer.Typer(
    help="Latent convergence, inference schedules, and quality against steps, on your own patients.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COPY = "Folder (or card) of a copy of the model that gets the schedule."
PAGE = "Also write a page for human readers (pictures inside)."
Folder = Annotated[Path, option("Folder for tables and figures.", "--output", "-o")]
Trained = Annotated[str, option("Name of a model or the path of one.")]


@app.command()
@takes(how=LatentSettings)
def latents(how: LatentSettings, data: Cache, output: Folder, quiet: Quiet = False) -> None:
    """Likeness of the diffused low- and high-resolution images; suggests K. Needs no model."""
    from mrisr.analysis.latents import analyze_latents

    typer.echo(analyze_latents(data, output, how, say(quiet)))


@app.command()
@takes(how=Search)
def schedule(
    how: Search,
    model: Trained,
    data: Cache,
    output: Folder,
    write: Annotated[Path | None, option(COPY)] = None,
    quiet: Quiet = False,
) -> None:
    """Search the signal levels for a number of steps, on the patients that the model was trained on."""
    from mrisr.analysis.schedule import analyze_schedule

    typer.echo(analyze_schedule(model, data, output, how, write=write, report=say(quiet)))


@app.command()
@takes(how=Steps)
def steps(
    how: Steps,
    model: Trained,
    data: Cache,
    output: Folder,
    readers: Annotated[bool, option(PAGE, "--readers")] = False,
    quiet: Quiet = False,
) -> None:
    """Quality against the number of steps, on held-out patients: figures and an automated preference."""
    from mrisr.analysis.steps import analyze_steps

    typer.echo(analyze_steps(model, data, output, how, readers=readers, report=say(quiet)))
