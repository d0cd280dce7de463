"""Calibrates the standard deviations of a model, and measures on other patients what they cover.

``python docs/scripts/uncertainty.py MODEL CACHE FOLDER [--card]`` degrades slices of the cache's patients,
restores them once and by samples, and compares both predictions of the error with the error. Calibrations are
fitted on the patients that the model was trained on and measured on the others. FOLDER keeps what was
computed; ``--card`` writes the calibration and its figures into the model's card.
"""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from mrisr import uncertainty
from mrisr.core.options import KINDS_OF, Sampling
from mrisr.core.volume import Volume
from mrisr.data.cache import Stack, read_stacks
from mrisr.evaluation.case import Scale
from mrisr.evaluation.degraded import central, cut, degraded_shape, measurement_of, stack_volume
from mrisr.io.atomic import make_folder
from mrisr.models.card import Calibration, Uncertainty, card_path
from mrisr.models.store import load_model, write_card
from mrisr.restore import restore

FACTORS, NOISES, SAMPLES, STEPS, ETA = (2.0, 4.0, 6.0), (0.0, 0.02), 8, 10, 1.0
#: Fewer steps, whose spread is told beside that of STEPS.
SWEEP = (1, 2, 4)
#: Shares of Gaussian errors within multiples of their standard deviation, and the share that is fitted.
COVERED, FITTED = {0.5: 0.6745, 0.8: 1.2816, 0.95: 1.96}, (0.9, 1.6449)
#: Images and pixels along their edges; of patients that are sampled, of which training ones are only some.
IMAGES, EDGE, FEW, SMALL = 3, 224, 1, 160
SAMPLED = ("ProstateX-0000", "ProstateX-0001", "ProCAncerI-137682", "Prostate3T-03-0001")
PLANES = {"inplane": ("axial",), "throughplane": ("coronal", "sagittal")}
FLOOR = 1e-3

Arrays = dict[str, Any]


def pair(stack: Stack, job: str, factor: float, noise: float, images: int, edge: int) -> Any:
    """A measurement, its truth on the measurement's scale, and the first reader's zones there."""
    settings: Any = SimpleNamespace(job=job, kind=KINDS_OF[job][0], thickness=1.0, noise=noise)  # type: ignore[index]
    part = stack_volume(stack)
    first = (part.shape[0] - images) // 2
    shape = (images, *(min(n, edge) for n in part.shape[1:]))

    def cut_out(volume: Volume) -> Volume:
        volume = replace(
            central(cut(volume, 0, first, first + images), shape),
            stacked_along=0 if job == "inplane" else 1,
        )
        return central(volume, degraded_shape(volume, settings, factor))

    truth = cut_out(part)
    measurement = measurement_of(truth, settings, Scale("degraded", factor))
    labels = None if stack.labels is None else cut_out(part.with_array(stack.labels[0]))
    return measurement, measurement.placed.stack(truth), labels


def compared(model: Any, stack: Stack, factor: float, noise: float, steps: int = 0) -> Arrays:
    """Error and predictions of it, voxel by voxel: features of one answer, or the spread of samples in
    ``steps``."""
    images, edge = (FEW, SMALL) if steps else (IMAGES, EDGE)
    measurement, truth, labels = pair(stack, model.card.job, factor, noise, images, edge)
    asked = Sampling(noise=str(noise))
    if steps:
        asked = replace(asked, samples=SAMPLES, steps=steps, eta=ETA if steps > 1 else None)
    found = restore(measurement, model, asked)
    told = found.deviation
    shown = [told.stack] if told is not None else uncertainty.features(measurement, found.stack)
    kept = {"error": (found.stack - truth).numpy(), "told": torch.stack(shown).numpy()}
    if labels is not None and model.card.job == "inplane":
        kept["labels"] = labels.array
    return {k: np.asarray(v, dtype=np.float32) for k, v in kept.items()}


def kept(
    folder: Path, model: Any, stack: Stack, factor: float, noise: float, steps: int = 0
) -> Arrays:
    """What an earlier run has compared, or this one does."""
    path = (
        folder / f"{model.card.name}-{stack.case}-{stack.series}-x{factor:g}-{noise:g}-{steps}.npz"
    )
    if not path.exists():
        print(path.stem, file=sys.stderr, flush=True)
        np.savez_compressed(path, **compared(model, stack, factor, noise, steps))
    return dict(np.load(path))


def flat(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Size of the error ``(n,)``, and what predicts it ``(k, n)``."""
    return np.abs(arrays["error"]).ravel(), arrays["told"].reshape(len(arrays["told"]), -1)


def scalar(ratios: list[np.ndarray]) -> float:
    """What standard deviations have to be multiplied by to cover what they should, patients alike."""
    share, multiple = FITTED
    return float(np.mean([np.quantile(r, share) for r in ratios]) / multiple)


def fitted(single: list[Arrays]) -> tuple[float, ...]:
    """Bias and weights of the features of one answer: least squares of the error's logarithm, then the bias
    that covers."""
    pairs = [flat(a) for a in single]
    columns = [np.vstack([np.ones_like(e), told]).T for e, told in pairs]
    targets = [np.log(e + FLOOR) for e, _ in pairs]
    weights = np.linalg.lstsq(np.concatenate(columns), np.concatenate(targets), rcond=None)[0]
    weights[0] += np.log(
        scalar([e / np.exp(c @ weights) for (e, _), c in zip(pairs, columns, strict=True)])
    )
    return tuple(round(float(w), 4) for w in weights)


def figures(error: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """Coverage, mean standard deviation as a share of the range, and its correlation with the error."""
    shares = {f"{100 * p:g}%": float((error <= z * deviation).mean()) for p, z in COVERED.items()}
    width = {
        "mean sd": float(deviation.mean() / 2),
        "rms error": float(np.sqrt((error**2).mean()) / 2),
    }
    even = np.ptp(deviation) < 1e-9
    return shares | width | {"r": 0.0 if even else float(np.corrcoef(error, deviation)[0, 1])}


def rows_of(way: str, arrays: Arrays, deviation: np.ndarray, **place: Any) -> list[dict[str, Any]]:
    """The figures of all voxels, and of each zone where zones are known."""
    error, _ = flat(arrays)
    zones = arrays["labels"].ravel() if "labels" in arrays else np.zeros_like(error)
    regions = {"all": np.ones_like(zones) > 0, "PZ": zones == 1, "TZ": zones == 2}
    return [
        {**place, "way": way, "region": name, **figures(error[inside], deviation[inside])}
        for name, inside in regions.items()
        if inside.sum() > 500
    ]


def main(name: str, cache: str, folder: Path, into_card: bool) -> None:
    """Fit, measure, print the tables, and write the card."""
    model = load_model(name)
    model = replace(model, card=model.card.model_copy(update={"uncertainty": None}))
    known = model.card.training.cases
    stacks = [s for s in read_stacks(cache, PLANES[model.card.job]) if s.series.count("_") == 1]
    trained = [s for s in stacks if s.case in known]
    others = [s for s in stacks if s.case not in known]
    calibration, rows = [], []
    for factor, noise in product(FACTORS, NOISES):
        place = {"factor": factor, "noise": noise}
        single = [kept(folder, model, s, factor, noise) for s in trained]
        drawn = [kept(folder, model, s, factor, noise, STEPS) for s in trained if s.case in SAMPLED]
        weights = fitted(single)
        even = scalar([flat(a)[0] for a in single])
        times = round(scalar([e / told[0] for e, told in map(flat, drawn)]), 4)
        calibration.append(Calibration(factor=factor, noise=noise, scalar=times, weights=weights))
        for stack in others:
            where = {**place, "case": stack.case, "series": stack.series}
            one, many = (kept(folder, model, stack, factor, noise, n) for n in (0, STEPS))
            told = np.exp(weights[0] + np.tensordot(weights[1:], flat(one)[1], 1))
            rows += rows_of("one answer", one, told, **where)
            rows += rows_of("one figure for all voxels", one, np.full_like(told, even), **where)
            rows += rows_of(f"{SAMPLES} samples", many, times * flat(many)[1][0], **where)
    print(markdown(means(rows, "factor", "noise", "region", "way")))
    sweep = []
    for steps, stack in product((*SWEEP, STEPS), others):
        raw = kept(folder, model, stack, 4.0, 0.0, steps)
        ratio = scalar([flat(raw)[0] / flat(raw)[1][0]])
        sweep.append(
            {"steps": steps, "scalar": ratio, **figures(flat(raw)[0], ratio * flat(raw)[1][0])}
        )
    print(markdown(means(sweep, "steps")))
    if into_card:
        command = f"python docs/scripts/uncertainty.py {name} CACHE FOLDER --card"
        told = {
            "command": command,
            "fitted_on": sorted({s.case for s in trained}),
            "samples_fitted_on": sorted({s.case for s in trained if s.case in SAMPLED}),
            "measured_on": sorted({s.case for s in others}),
            "samples": SAMPLES,
            "rows": [
                {k: v if isinstance(v, str) else float(f"{v:.4g}") for k, v in r.items()}
                for r in rows
            ],
        }
        path = card_path(name)
        card = load_model(name).card
        made = Uncertainty(steps=STEPS, eta=ETA, calibration=tuple(calibration), figures=told)
        write_card(card.model_copy(update={"uncertainty": made}), path)


def means(rows: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """The mean figures of the rows that have the same keys."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    numbers = [k for k in rows[0] if k not in keys and isinstance(rows[0][k], float)]
    return [
        dict(zip(keys, group, strict=True))
        | {k: float(np.mean([r[k] for r in some])) for k in numbers}
        for group, some in groups.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows of one kind as a table."""
    cells = [[f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in row.values()] for row in rows]
    head = [list(rows[0]), ["---"] * len(rows[0])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *cells]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], make_folder(sys.argv[3]), "--card" in sys.argv)
