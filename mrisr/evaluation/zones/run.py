"""``mrisr evaluate zones``: what restoration is worth to a segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.outcome import Failure
from mrisr.evaluation.run import Report, machine_of, tried
from mrisr.evaluation.zones.bench import Bench, ZonesStore, benches
from mrisr.evaluation.zones.card import write_zones_figures
from mrisr.evaluation.zones.cases import ZonesCase, find_cases, part_for
from mrisr.evaluation.zones.frozen import Frozen, SegmenterChoice, load_frozen
from mrisr.evaluation.zones.outcome import ZonesEvaluation
from mrisr.evaluation.zones.report import write_zones_report
from mrisr.evaluation.zones.rows import rows_of
from mrisr.evaluation.zones.scored import ZonesResult
from mrisr.evaluation.zones.settings import ZonesSettings, load_zones_settings
from mrisr.io.atomic import make_folder
from mrisr.zones.labels import ZONES


@dataclass(frozen=True)
class ZonesSwitches:
    """What is asked besides the file.

    Attributes:
        segmenter: takes the place of the file's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        skip_missing: leave out methods whose model is missing.
        allow_trained: score patients too that a model was trained on, in tables of their own.
        into_card: also write what the original images reached into the segmenter's card.
    """

    segmenter: SegmenterChoice = field(default_factory=SegmenterChoice)
    device: str = "auto"
    skip_missing: bool = False
    allow_trained: bool = False
    into_card: bool = False


def evaluate_zones(
    config: Path,
    data: Path,
    output: Path,
    switches: ZonesSwitches | None = None,
    report: Report = lambda line: None,
) -> ZonesEvaluation:
    """Degrade, restore, segment and score the labelled patients, and write the report into ``output``.

    ``results.csv``, ``.json``, ``.md``, ``.html`` and the folder ``pictures`` are written at the end; each
    single result lies in ``cases/`` as soon as it is there and is made anew only if something that
    decides it has changed.

    Args:
        config: a file of the experiment.
        data: a folder of patients or a manifest, as for ``mrisr prepare``.

    Raises:
        InputError: no patient is labelled, or labels lie on another grid than their image.
        UsageError: models are missing, or were trained on a patient to score.
    """
    asked = switches or ZonesSwitches()
    settings = load_zones_settings(config)
    if asked.allow_trained:
        settings = settings.model_copy(update={"include_trained": True})
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        report(line)

    methods = load_methods(
        settings, device=asked.device, skip_missing=asked.skip_missing, report=note
    )
    frozen = load_frozen(_choice(asked.segmenter, settings), asked.device)
    cases = find_cases(data, settings, methods, frozen, note)
    for line in crops(cases, settings):
        note(line)
    store = ZonesStore(make_folder(output) / "cases")
    results, failures = score_all(methods, cases, settings, frozen, store, report)
    done = ZonesEvaluation(
        settings=settings,
        methods=methods,
        frozen=frozen,
        seen={case.name: case.seen for case in cases},
        results=results,
        rows=rows_of(results),
        failures=failures,
        notes=notes,
        command=command_of(config, asked),
        machine=machine_of(methods),
    )
    write_zones_report(done, output)
    if asked.into_card:
        write_zones_figures(done, _choice(asked.segmenter, settings).model)
    return done


def _choice(asked: SegmenterChoice, settings: ZonesSettings) -> SegmenterChoice:
    if asked.foreign or asked.model is not None:
        return asked
    return SegmenterChoice(model=settings.segmenter)


def crops(cases: Iterable[ZonesCase], settings: ZonesSettings) -> list[str]:
    """What is cut off of which stack, in words. Raises UsageError where a stack is too small for a scale."""
    found: dict[str, list[str]] = {}
    for case in cases:
        for scale in settings.scales:
            part = part_for(case, scale, settings)
            all_, kept = (np.count_nonzero(c.labels.array) for c in (case, part))
            if part.image.shape != case.image.shape:
                voxels = ["x".join(map(str, c.image.shape)) for c in (case, part)]
                text = f"{case.name}: the central {voxels[1]} of {voxels[0]} voxels"
                if kept < all_:
                    text += f", without {all_ - kept} labelled ones"
                found.setdefault(text, []).append(str(scale))
    return [f"{text} ({', '.join(scales)})" for text, scales in found.items()]


def score_all(
    methods: Sequence[Method],
    cases: Sequence[ZonesCase],
    settings: ZonesSettings,
    frozen: Frozen,
    store: ZonesStore,
    report: Report,
) -> tuple[list[ZonesResult], list[Failure]]:
    """The original and every method on every stack at every scale; what fails is reported and left out."""
    results: list[ZonesResult] = []
    failures: list[Failure] = []
    for case in cases:
        for bench in benches(case, settings, frozen):
            for method in (None, *methods):
                found = score_one(bench, method, store, report)
                if isinstance(found, ZonesResult):
                    results.append(found)
                else:
                    failures.append(found)
    return results, failures


def score_one(
    bench: Bench, method: Method | None, store: ZonesStore, report: Report
) -> ZonesResult | Failure:
    """One result, told to ``report``; or why there is none."""
    part, scale = bench.part, bench.scale
    name = scale.original if method is None else method.name
    where = f"{part.name} {scale}, {name}"
    found = tried(partial(store.score, bench, method))
    if isinstance(found, str):
        report(f"failed: {where}: {found}")
        label = name if scale.scoring == "degraded" else f"{name}, as measured"
        return Failure(part.name, part.series, scale.factor, label, found)
    scored, kept = found
    dice = ", ".join(f"{zone} {scored.labels[zone].dice:.3f}" for zone in ZONES)
    cost = "" if method is None else f", {scored.seconds:.2g} s / slice"
    report(f"{where}: Dice {dice}{' (kept)' if kept else cost}")
    return ZonesResult(part.name, part.series, scale, name, bool(part.seen), scored)


def command_of(config: Path, asked: ZonesSwitches) -> str:
    """What reproduces the figures; DATA and OUT stand for the reader's folders."""
    words = ["mrisr evaluate zones --config", f"configs/{config.name}"]
    choice = asked.segmenter
    if choice.model is not None:
        words.append(f"--model {Path(choice.model).name}")
    words += [f"--{n} {n.upper()}" for n in ("bundle", "nnunet") if getattr(choice, n) is not None]
    words += ["--allow-trained"] if asked.allow_trained else []
    return " ".join([*words, "--data DATA --output OUT"])
