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
PLANES = {"inplane": ("axial",), "throughplane": ("axial", "coronal", "sagittal")}
FLOOR = 1e-3

Arrays = dict[str, Any]
Row = dict[str, Any]


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


def flat(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Size of the error ``(n,)``, and what predicts it ``(k, n)``."""
    return np.abs(arrays["error"]).ravel(), arrays["told"].reshape(len(arrays["told"]), -1)


def scalar(ratios: list[np.ndarray]) -> float:
    """What standard deviations have to be multiplied by to cover what they should, over the voxels of all
    patients, so that how these differ from one another is covered too."""
    share, multiple = FITTED
    return float(np.quantile(np.concatenate(ratios), share) / multiple)


def within(arrays: Arrays, shape: tuple[int, ...]) -> Arrays:
    """The central part of a shape."""
    for axis, wanted in enumerate(shape):
        n = arrays["error"].shape[axis]
        kept = np.arange((n - wanted) // 2, (n - wanted) // 2 + wanted)
        arrays = {k: np.take(a, kept, axis - len(shape)) for k, a in arrays.items()}
    return arrays


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


def told_by(weights: tuple[float, ...], arrays: Arrays) -> np.ndarray:
    """The standard deviation that the features of one answer tell."""
    return np.exp(weights[0] + np.tensordot(weights[1:], flat(arrays)[1], 1))


def figures(error: np.ndarray, deviation: np.ndarray) -> dict[str, float]:
    """Coverage, mean standard deviation as a share of the range, and its correlation with the error."""
    shares = {f"{100 * p:g}%": float((error <= z * deviation).mean()) for p, z in COVERED.items()}
    width = {
        "mean sd": float(deviation.mean() / 2),
        "rms error": float(np.sqrt((error**2).mean()) / 2),
    }
    even = np.ptp(deviation) < 1e-9
    return shares | width | {"r": 0.0 if even else float(np.corrcoef(error, deviation)[0, 1])}


def rows_of(way: str, arrays: Arrays, deviation: np.ndarray, **place: Any) -> list[Row]:
    """The figures of all voxels, and of each zone where zones are known."""
    error, _ = flat(arrays)
    zones = arrays["labels"].ravel() if "labels" in arrays else np.zeros_like(error)
    regions = {"all": np.ones_like(zones) > 0, "PZ": zones == 1, "TZ": zones == 2}
    return [
        {**place, "way": way, "region": name, **figures(error[inside], deviation[inside])}
        for name, inside in regions.items()
        if inside.sum() > 500
    ]


class Comparison:
    """A model, the patients that it was trained on and the others, and what was computed for them."""

    def __init__(self, name: str, cache: str, folder: Path) -> None:
        model, self.folder = load_model(name), folder
        self.model = replace(model, card=model.card.model_copy(update={"uncertainty": None}))
        known, job = model.card.training.cases, model.card.job or "inplane"
        stacks = [s for s in read_stacks(cache, PLANES[job]) if s.series.count("_") == 1]
        self.trained = [s for s in stacks if s.case in known]
        self.others = [s for s in stacks if s.case not in known]
        native = [s for s in stacks if job == "inplane" or s.plane != "axial"]
        self.drawn = [s for s in native if s.case in SAMPLED or s.case not in known]

    def kept(self, stack: Stack, factor: float, noise: float, steps: int = 0) -> Arrays:
        """What an earlier run has compared, or this one does."""
        name = f"{self.model.card.name}-{stack.case}-{stack.series}-x{factor:g}-{noise:g}-{steps}"
        path = self.folder / f"{name}.npz"
        if not path.exists():
            print(name, file=sys.stderr, flush=True)
            np.savez_compressed(path, **compared(self.model, stack, factor, noise, steps))
        return dict(np.load(path))

    def fit(self, factor: float, noise: float) -> tuple[Calibration, float]:
        """The calibration, and one standard deviation for all voxels."""
        single = [self.kept(s, factor, noise) for s in self.trained]
        many = [self.kept(s, factor, noise, STEPS) for s in self.trained if s in self.drawn]
        times = round(scalar([e / told[0] for e, told in map(flat, many)]), 4)
        row = Calibration(factor=factor, noise=noise, scalar=times, weights=fitted(single))
        return row, scalar([flat(a)[0] for a in single])

    def measure(self, fit: Calibration, even: float) -> list[Row]:
        """What a calibration covers of the other patients."""
        rows = []
        for stack in self.others:
            place = (fit.factor, fit.noise)
            where = {**dict(zip(("factor", "noise"), place, strict=True)), "case": stack.case}
            where["series"] = stack.series
            one = self.kept(stack, *place)
            rows += rows_of("one answer", one, told_by(fit.weights, one), **where)
            if stack not in self.drawn:
                continue
            many = self.kept(stack, *place, STEPS)
            part = within(one, many["error"].shape)
            level = np.full_like(flat(part)[0], even)
            rows += rows_of("one answer, there", part, told_by(fit.weights, part), **where)
            rows += rows_of("one figure, there", part, level, **where)
            rows += rows_of(f"{SAMPLES} samples", many, fit.scalar * flat(many)[1][0], **where)
        return rows

    def sweep(self) -> list[Row]:
        """What so many steps ask for at x4 without noise, and cover then."""
        rows = []
        stacks = [s for s in self.others if s in self.drawn]
        for steps, stack in product((*SWEEP, STEPS), stacks):
            error, told = flat(self.kept(stack, 4.0, 0.0, steps))
            times = scalar([error / told[0]])
            rows.append({"steps": steps, "scalar": times, **figures(error, times * told[0])})
        return rows


def main(name: str, cache: str, folder: Path, into_card: bool) -> None:
    """Fit, measure, print the tables, and write the card."""
    found = Comparison(name, cache, folder)
    fits = [found.fit(*place) for place in product(FACTORS, NOISES)]
    rows = [row for fit, even in fits for row in found.measure(fit, even)]
    print(markdown(means(rows, "factor", "noise", "region", "way")))
    print(markdown(means([r for r in rows if r["region"] == "all"], "case", "series", "way")))
    print(markdown(means(found.sweep(), "steps")))
    if not into_card:
        return
    told = {
        "command": f"python docs/scripts/uncertainty.py {name} CACHE FOLDER --card",
        "fitted_on": sorted({s.case for s in found.trained}),
        "samples_fitted_on": sorted({s.case for s in found.trained if s in found.drawn}),
        "measured_on": sorted({f"{s.case} {s.series}" for s in found.others}),
        "rows": [
            {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
            for row in means(rows, "factor", "noise", "region", "way")
            if row["way"] in ("one answer", f"{SAMPLES} samples")
        ],
    }
    made = Uncertainty(steps=STEPS, eta=ETA, calibration=tuple(f for f, _ in fits), figures=told)
    card = load_model(name).card.model_copy(update={"uncertainty": made})
    write_card(card, card_path(name))


def means(rows: list[Row], *keys: str) -> list[Row]:
    """The mean figures of the rows that have the same keys."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    numbers = [
        k
        for k, v in rows[0].items()
        if k not in (*keys, "factor", "noise") and isinstance(v, float)
    ]
    return [
        dict(zip(keys, group, strict=True))
        | {k: float(np.mean([r[k] for r in some])) for k in numbers}
        for group, some in groups.items()
    ]


def markdown(rows: list[Row]) -> str:
    """Rows of one kind as a table."""
    cells = [[f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in row.values()] for row in rows]
    head = [list(rows[0]), ["---"] * len(rows[0])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*head, *cells]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], make_folder(sys.argv[3]), "--card" in sys.argv)
