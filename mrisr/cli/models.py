"""The commands that make, score and list models."""

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
    from mrisr.errors import UsageError

    if pictures:
        from mrisr.prepare import prepare_pictures

        what = "pictures"
        errors = prepare_pictures(
            data, output, edge=edge, crop=crop, force=force, report=say(quiet)
        )
    else:
        from mrisr.prepare import prepare as run

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


def evaluate(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Evaluation, e.g. configs/evaluate_inplane.yaml.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Cache made by `mrisr prepare`; with `scoring: reference` a folder of patients."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for the report. A run started again goes on there."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="Model for the methods of the file that name none."),
    ] = None,
    device: Device = "auto",
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="Write the figures of the file's model, or --model, into its card."
        ),
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out methods whose model is missing.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on held-out patients: tables, pictures, error against steps."""
    from mrisr.evaluation.report import as_markdown
    from mrisr.evaluation.run import Switches
    from mrisr.evaluation.run import evaluate as run

    switches = Switches(model, device, into_card=card, skip_missing=skip_missing)
    done = run(config, data, output, switches, report=say(quiet))
    typer.echo(as_markdown(done))
    if done.failures:
        typer.echo(f"{len(done.failures)} results are missing", err=True)
        raise typer.Exit(8)


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
