"""The commands that make, score and list models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Force, Json, ModelName, Quiet


def prepare(
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with a folder per patient, or a manifest CSV (case, path[, series]).",
            readable=False,
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
