"""The commands that make, compare, analyse and list models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrisr.analysis.options import LatentSettings, Search, Steps
from mrisr.cli.terminal import Cache, Device, Force, Json, Quiet, option, say, study_option, takes
from mrisr.core.errors import UsageError
from mrisr.core.options import Segmenting

if TYPE_CHECKING:
    from mrisr.evaluation.experiment import Evaluation

_HELP = {"help_option_names": ["-h", "--help"]}
evaluations = typer.Typer(invoke_without_command=True, context_settings=_HELP)
analyses = typer.Typer(
    help="Latent convergence, inference schedules, and quality against steps, on your own patients.",
    no_args_is_help=True,
    context_settings=_HELP,
)

COPY = "Folder (or card) of a copy of the model that gets the schedule."
PAGE = "Also write a page for human readers (pictures inside)."
FOLDER = "Folder for the report. A run started again goes on there."
SCORED = "Cache made by `mrisr prepare`; with `scoring: reference` a folder of patients. Required."
CARD = "Write the figures of the file's model, or --model, into its card."
TRAINED = "Also score patients that a model was trained on, in tables of their own."
SkipMissing = Annotated[bool, option("Leave out methods whose model is missing.", "--skip-missing")]
Folder = Annotated[Path, option("Folder for tables and figures.", "--output", "-o")]
Trained = Annotated[str, option("Name of a model or the path of one.")]
DATA = "Folder with a folder per patient, or a manifest CSV (case, path[, series])."
CARD_MD = "Print the card as the README.md of a repository on a hub, with metadata in YAML."
BASE = "Fine-tune this model (name or path) instead: settings of configs/finetune-JOB.yaml."
VALIDATION = "Patient to validate on, with --from; repeat it. Default: a fifth of the new patients."
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
    data: Cache,
    output: Annotated[Path, option("Folder of the run.", "--output", "-o")],
    config: Annotated[
        Path | None, option("Configuration, e.g. configs/partdiff-inplane.yaml.", "--config", "-c")
    ] = None,
    base: Annotated[str | None, option(BASE, "--from")] = None,
    validation: Annotated[list[str] | None, option(VALIDATION)] = None,
    iterations: Annotated[int | None, option("Steps, with --from.", min=1)] = None,
    resume: Annotated[bool, option("Continue from the last checkpoint.", "--resume")] = False,
    tensorboard: Annotated[bool, option("Also write events.", "--tensorboard")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a model, or fine-tune one; start with torchrun for several devices."""
    from mrisr.cli.tables import table_text
    from mrisr.config import Config, ZonesConfig, load_config
    from mrisr.training import train as run
    from mrisr.training.figures import before_after
    from mrisr.training.finetune import fine_tuning

    settings: Config | ZonesConfig
    if base is not None and config is None:
        settings = fine_tuning(base, data, tuple(validation or ()), iterations)
    elif config is None or base is not None:
        raise UsageError("expected --config FILE, or --from MODEL to fine-tune that model")
    elif validation or iterations:
        raise UsageError("--validation, --iterations: go with --from; else they stand in the file")
    else:
        settings = load_config(config)
    report = say(quiet or os.environ.get("RANK", "0") != "0")  # one of torchrun's processes speaks
    card = run(
        settings, data, output, resume=resume, device=device, tensorboard=tensorboard, report=report
    )
    if changes := before_after(output):
        report(table_text(("", "before", "after", "change"), changes))
    report(f"curves: {output / 'curves.png'}")
    report(
        f"next: mrisr {'segment' if settings.job == 'zones' else settings.job} STUDY --model {output}"
    )
    typer.echo(str(card))


@evaluations.callback()
def evaluate(
    context: typer.Context,
    config: Annotated[
        Path | None,
        option("Evaluation, e.g. configs/evaluate_inplane.yaml. Required.", "--config", "-c"),
    ] = None,
    data: Annotated[Path | None, option(SCORED)] = None,
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


@evaluations.command()
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


@evaluations.command()
def lesions(
    config: Annotated[
        Path, option("Experiment, e.g. configs/evaluate_lesions.yaml.", "--config", "-c")
    ],
    data: Annotated[Path, option("Folder with a folder per patient, or a manifest.")],
    output: Annotated[Path, option(FOLDER, "--output", "-o")],
    model: Annotated[
        str | None, option("Model for the methods of the file that name none.")
    ] = None,
    device: Device = "auto",
    card: Annotated[bool, option(CARD, "--card")] = False,
    skip_missing: SkipMissing = False,
    quiet: Quiet = False,
) -> None:
    """Put small lesions into slices, degrade, restore: which are left, and what nobody put in."""
    from mrisr.evaluation.experiment import Switches
    from mrisr.evaluation.lesions.experiment import evaluate_lesions

    switches = Switches(model, device, into_card=card, skip_missing=skip_missing)
    _end(evaluate_lesions(config, data, output, switches, report=say(quiet)))


def _end(done: Evaluation) -> None:
    """Print the tables, and leave with the code for a batch where some results are missing."""
    from mrisr.evaluation.report import as_markdown

    typer.echo(as_markdown(done))
    if done.failures:
        typer.echo(f"{len(done.failures)} results are missing", err=True)
        raise typer.Exit(8)


@analyses.command()
@takes(how=LatentSettings)
def latents(how: LatentSettings, data: Cache, output: Folder, quiet: Quiet = False) -> None:
    """Likeness of the diffused low- and high-resolution images; suggests K. Needs no model."""
    from mrisr.analysis.latents import analyze_latents

    typer.echo(analyze_latents(data, output, how, say(quiet)))


@analyses.command()
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


@analyses.command()
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


def models(
    name: Annotated[str | None, typer.Argument(help="Model whose card to show.")] = None,
    card_md: Annotated[bool, option(CARD_MD, "--card-md")] = False,
    as_json: Json = False,
) -> None:
    """List the models that are bundled or installed, or show the card of one."""
    from mrisr.cli.cards import card_markdown, card_text, listing
    from mrisr.cli.tables import rendered
    from mrisr.models.card import LEFT_OUT, available, card_path, left_out, read_any_card

    if card_md and (name is None or as_json):
        raise UsageError("--card-md: expected the name of one model, and no --json")
    paths = [card_path(name, weights=False)] if name else list(available().values())
    cards = [read_any_card(path) for path in paths]
    if card_md:
        typer.echo(card_markdown(cards[0]))
    elif as_json:
        content = [card.model_dump(mode="json") for card in cards]
        typer.echo(json.dumps(content[0] if name else content, indent=2))
    else:
        typer.echo(card_text(cards[0]) if name else listing(cards))
        if not name and (absent := left_out()):
            typer.echo(rendered("", f"also {', '.join(sorted(absent))}: {LEFT_OUT}"))


def export(
    name: Annotated[str, typer.Argument(help="Model to export, or its path.")],
    output: Annotated[Path, option("Folder to write.", "--output", "-o")],
    to: Annotated[str, option("bundle: a MONAI bundle.")] = "bundle",
    force: Force = False,
) -> None:
    """Write a model as other programs take it: a MONAI bundle, which runs where mrisr is installed."""
    if to != "bundle":
        raise UsageError(f"--to: expected bundle, found {to}")
    from mrisr.cli.cards import card_markdown
    from mrisr.integrations.bundle import export_bundle
    from mrisr.models.card import card_path, read_card

    path = card_path(name)
    card = read_card(path)
    typer.echo(str(export_bundle(card, path, output, card_markdown(card), force=force)))


def benchmark(
    device: Device = "auto",
    json_file: Annotated[Path | None, option("Write all that was measured.", "--json")] = None,
    plot: Annotated[Path | None, option("Draw stages and curves, a PNG.")] = None,
    profile: Annotated[
        Path | None, option("Leave a trace of the default method, JSON for ui.perfetto.dev.")
    ] = None,
    baseline: Annotated[
        Path | None,
        option("File of an earlier --json: fail with 8 where a ratio is 15% worse, or missing."),
    ] = None,
    quick: Annotated[bool, option("Few methods, on a small study.", "--quick")] = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Measure what every method costs on this machine, stage by stage, beside what the machine can do."""
    from mrisr.benchmark import report
    from mrisr.benchmark.run import read_benchmark, run_benchmark
    from mrisr.cli.tables import plain_table, rendered
    from mrisr.io import check_output
    from mrisr.io.atomic import write_bytes
    from mrisr.view.pages import png

    before = None if baseline is None else read_benchmark(baseline)
    for path in (json_file, plot, profile):
        if path is not None:
            check_output(path, force=force)
    command = f"mrisr benchmark --device {device}{' --quick' * quick}"
    done = run_benchmark(device, quick=quick, trace=profile, command=command, report=say(quiet))
    tables = report.tables(done) + ([report.worse(done, before)] if before else [])
    parts = [part for t in tables for part in ("", t.title, plain_table(t.columns, t.cells))]
    typer.echo(rendered(*report.remarks(done), *parts, width=150))
    if json_file is not None:
        write_bytes(json_file, (done.model_dump_json(indent=1) + "\n").encode())
    if plot is not None:
        write_bytes(plot, png(report.drawn(done)))
    if done.left_out or (before and any(cells[-1] for cells in tables[-1].cells)):
        raise typer.Exit(8)
