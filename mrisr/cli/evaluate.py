"""The comparisons: ``mrisr evaluate`` of restored images, ``evaluate zones`` of what is segmented there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrisr.cli.console import say
from mrisr.cli.options import Device, Quiet, takes
from mrisr.core.options import Segmenting

app = typer.Typer(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)

FOLDER = "Folder for the report. A run started again goes on there."
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out methods whose model is missing.")
]


@app.callback()
def evaluate(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Evaluation, e.g. configs/evaluate_inplane.yaml. Required."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Cache made by `mrisr prepare`; with `scoring: reference` a folder of patients. Required."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"{FOLDER} Required.")
    ] = None,
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
    skip_missing: SkipMissing = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods on held-out patients: tables, pictures, error against steps."""
    from mrisr.core.errors import UsageError

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
    from mrisr.evaluation.report import as_markdown

    switches = Switches(model, device, into_card=card, skip_missing=skip_missing)
    done = run(config, data, output, switches, report=say(quiet))
    typer.echo(as_markdown(done))
    _end(len(done.failures))


@app.command()
@takes(segmenting=Segmenting)
def zones(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Experiment, e.g. configs/evaluate_zones.yaml.")
    ],
    data: Annotated[
        Path,
        typer.Option(help="Folder with a folder per patient, images and zones, or a manifest."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=FOLDER)],
    segmenting: Segmenting,
    allow_trained: Annotated[
        bool,
        typer.Option(
            "--allow-trained",
            help="Also score patients that a model was trained on, in tables of their own.",
        ),
    ] = False,
    card: Annotated[
        bool,
        typer.Option(
            "--card", help="Write what the original images reach into the segmenter's card."
        ),
    ] = False,
    skip_missing: SkipMissing = False,
    quiet: Quiet = False,
) -> None:
    """Compare methods downstream: degrade, restore, segment by one frozen model, score."""
    from mrisr.evaluation.experiment import Switches
    from mrisr.evaluation.report import as_markdown
    from mrisr.evaluation.zones.experiment import evaluate_zones

    switches = Switches(
        device=segmenting.device,
        into_card=card,
        skip_missing=skip_missing,
        allow_trained=allow_trained,
        segmenting=segmenting,
    )
    done = evaluate_zones(config, data, output, switches, report=say(quiet))
    typer.echo(as_markdown(done))
    _end(len(done.failures))


def _end(failures: int) -> None:
    """Leave with the code for a batch of which some failed."""
    if failures:
        typer.echo(f"{failures} results are missing", err=True)
        raise typer.Exit(8)
