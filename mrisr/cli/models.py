"""The commands that make and list models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Cache, Device, Force, Json, Quiet, option, study_option
from mrisr.core.errors import UsageError

DATA = "Folder with a folder per patient, or a manifest CSV (case, path[, series])."
EDGE = "Reduce pictures to this many pixels along the shorter edge, before the crop."


def prepare(
    data: Annotated[Path, study_option(DATA)],
    output: Annotated[Path, option("Folder of the cache.", "--output", "-o")],
    crop: Annotated[
        int | None, option("Keep only the central square of this many pixels.", min=1)
    ] = None,
    pictures: Annotated[
        bool, option("The folder holds RGB pictures (PNG, JPEG ...).", "--pictures")
    ] = False,
    edge: Annotated[int | None, option(EDGE, min=16)] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Turn volumes, or pictures, into one compact training cache."""
    what, report = "pictures" if pictures else "volumes", say(quiet)
    if pictures:
        from mrisr.data.pictures import prepare_pictures

        errors = prepare_pictures(data, output, edge=edge, crop=crop, force=force, report=report)
    elif edge is not None:
        raise UsageError("--edge: only pictures are reduced; it goes with --pictures")
    else:
        from mrisr.data.prepare import prepare as run

        errors = run(data, output, crop=crop, force=force, report=report)
    if errors:
        typer.echo(f"{len(errors)} {what} left out", err=True)
        raise typer.Exit(8)


def train(
    config: Annotated[
        Path, option("Configuration, e.g. configs/partdiff-inplane.yaml.", "--config", "-c")
    ],
    data: Cache,
    output: Annotated[Path, option("Folder of the run.", "--output", "-o")],
    resume: Annotated[bool, option("Continue from the last checkpoint.", "--resume")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a model; start with torchrun for several devices."""
    from mrisr.config import load_config
    from mrisr.training import train as run

    card = run(load_config(config), data, output, resume=resume, device=device, report=say(quiet))
    typer.echo(str(card))


def models(
    name: Annotated[str | None, typer.Argument(help="Model whose card to show.")] = None,
    as_json: Json = False,
) -> None:
    """List the models that are bundled or installed, or show the card of one."""
    from mrisr.cli.tables import card_text, listing
    from mrisr.models.card import available, card_path, read_any_card

    paths = [card_path(name)] if name else list(available().values())
    cards = [read_any_card(path) for path in paths]
    if as_json:
        content = [card.model_dump(mode="json") for card in cards]
        typer.echo(json.dumps(content[0] if name else content, indent=2))
    else:
        typer.echo(card_text(cards[0]) if name else listing(cards))
