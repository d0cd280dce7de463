"""The comparisons: ``mrisr evaluate`` of restored images, ``evaluate zones`` of what is segmented there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Quiet, option, takes
from mrisr.core.errors import UsageError
from mrisr.core.options import Segmenting

if TYPE_CHECKING:
    from mrisr.evaluation.experiment import Evaluation

app = typer.Typer(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)

FOLDER = "Folder for the report. A run started again goes on there."
DATA = "Cache made by `mrisr prepare`; with `scoring: reference` a folder of patients. Required."
CARD = "Write the figures of the file's model, or --model, into its card."
TRAINED = "Also score patients that a model was trained on, in tables of their own."
SkipMissing = Annotated[bool, option("Leave out methods whose model is missing.", "--skip-missing")]


@app.callback()
def evaluate(
    context: typer.Context,
    config: Annotated[
        Path | None,
        option("Evaluation, e.g. configs/evaluate_inplane.yaml. Required.", "--config", "-c"),
    ] = None,
    data: Annotated[Path | None, option(DATA)] = None,
    output: Annotated[Path | None, option(f"{FOLDER} Required.", "--output", "-o")] = None,
    model: Annotated[
        str | None, option("Model for the methods of the file that name none.")
    ] = None,
    device: Device = "auto",
    card: Annotated[bool, option(CARD, "--card")] = False,
    skip_missing: SkipMissing = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on held-out patients: tables, pictures, error against steps."""
    given = {"--config' / '-c": config, "--data": data, "--output' / '-o": output}
    if context.invoked_subcommand is not None:
        if any(value is not None for value in (*given.values(), model)):
            name = context.invoked_subcommand
            raise UsageError(f"options of `mrisr evaluate {name}` stand after `{name}`")
        return
    # Not required of the parser, which would ask for them before `zones` too.
    if config is None or data is None or output is None:
        missing = next(name for name, value in given.items() if value is None)
        raise UsageError(f"Missing option '{missing}'.")
    from mrisr.evaluation.experiment import Switches
    from mrisr.evaluation.images import evaluate as run

    switches = Switches(model, device, into_card=card, skip_missing=skip_missing)
    _end(run(config, data, output, switches, report=say(quiet)))


@app.command()
@takes(segmenting=Segmenting)
def zones(
    config: Annotated[
        Path, option("Experiment, e.g. configs/evaluate_zones.yaml.", "--config", "-c")
    ],
    data: Annotated[
        Path, option("Folder with a folder per patient, images and zones, or a manifest.")
    ],
    output: Annotated[Path, option(FOLDER, "--output", "-o")],
    segmenting: Segmenting,
    allow_trained: Annotated[bool, option(TRAINED, "--allow-trained")] = False,
    card: Annotated[
        bool, option("Write what the original images reach into the segmenter's card.", "--card")
    ] = False,
    skip_missing: SkipMissing = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods downstream: degrade, restore, segment by one frozen model, score."""
    from mrisr.evaluation.experiment import Switches
    from mrisr.evaluation.zones.experiment import evaluate_zones

    switches = Switches(
        device=segmenting.device,
        into_card=card,
        skip_missing=skip_missing,
        allow_trained=allow_trained,
        segmenting=segmenting,
    )
    _end(evaluate_zones(config, data, output, switches, report=say(quiet)))


def _end(done: Evaluation) -> None:
    """Print the tables, and leave with the code for a batch where some results are missing."""
    from mrisr.evaluation.report import as_markdown

    typer.echo(as_markdown(done))
    if done.failures:
        typer.echo(f"{len(done.failures)} results are missing", err=True)
        raise typer.Exit(8)
