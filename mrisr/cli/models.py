"""The commands that make and list models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Force, Json, Quiet


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
        int | None, typer.Option(help="Keep only the central square of this many pixels.", min=1)
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="The folder holds RGB pictures (PNG, JPEG ...).")
    ] = False,
    edge: Annotated[
        int | None,
        typer.Option(
            help="Reduce pictures to this many pixels along the shorter edge, before the crop.",
            min=16,
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Turn volumes, or pictures, into one compact training cache."""
    from mrisr.core.errors import UsageError

    if pictures:
        from mrisr.data.pictures import prepare_pictures

        what = "pictures"
        errors = prepare_pictures(
            data, output, edge=edge, crop=crop, force=force, report=say(quiet)
        )
    else:
        from mrisr.data.prepare import prepare as run

        if edge is not None:
            raise UsageError("--edge: only pictures are reduced; it goes with --pictures")
        what = "volumes"
        errors = run(data, output, crop=crop, force=force, report=say(quiet))
    if errors:
        typer.echo(f"{len(errors)} {what} left out", err=True)
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


def models(
    name: Annotated[str | None, typer.Argument(help="Model whose card to show.")] = None,
    as_json: Json = False,
) -> None:
    """List the models that are bundled or installed, or show the card of one."""
    from mrisr.cli.tables import card_text, listing
    from mrisr.models.find import available, card_path, read_any_card

    paths = [card_path(name)] if name else list(available().values())
    cards = [read_any_card(path) for path in paths]
    if as_json:
        content = [card.model_dump(mode="json") for card in cards]
        typer.echo(json.dumps(content[0] if name else content, indent=2))
    else:
        typer.echo(card_text(cards[0]) if name else listing(cards))
