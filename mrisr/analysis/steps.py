"""Quality against the number of steps (PartDiff Fig. 13): fidelity, spectrum, and an automated preference.

And a page for human readers: two-alternative forced choice, "which one is the real scan?" (SR3, PartDiff).
One HTML file with everything in it: pictures, script, style. It loads nothing and sends nothing. Each slice
is shown once, restored by one setting, beside itself; were it shown again by another setting, the reader
would know the one that comes back for the real scan. Sides and order are shuffled by the seed.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mrisr.analysis import scoring
from mrisr.analysis.options import Steps, command, names_of, steps_of
from mrisr.analysis.scoring import Array, Report, Slices, unit
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Sampling
from mrisr.core.statistics import Interval, mean_interval
from mrisr.io.atomic import make_folder
from mrisr.models.store import Model, load_model
from mrisr.restore import resolved
from mrisr.view.pages import embedded, new_figure, png, render

#: Figures over patients, in the order of an array of them: title, and format in the table.
MEASURES = {
    "psnr": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "spectrum": ("spectrum error (dB)", ".2f"),
    "win_rate": ("preferred (share)", ".0%"),
}
#: Edge in pixels of the central square that readers see.
SHOWN = 192
SIDES = ("left", "right")


class Setting(NamedTuple):
    """One way to restore: the model and how to sample; 0 steps are interpolation."""

    steps: int
    model: Model
    sampling: Sampling

    @property
    def name(self) -> str:
        return f"{self.steps} step{'s' * (self.steps > 1)}" if self.steps else "interpolation"


class RestoredSlices(NamedTuple):
    """A series with its restorations, one for each setting: images ``(n, 1, h, w)`` in -1..1, and figures
    ``(settings, 3, n)``."""

    slices: Slices
    images: list[Tensor]
    scores: Array


class Quality(NamedTuple):
    """All settings over patients: figures ``(4, settings)`` with their intervals, preference
    ``(settings, settings)``, and each patient's own figures."""

    figures: Interval
    preference: Array
    patients: dict[str, Array]


def settings_of(model: Model, how: Steps) -> list[Setting]:
    """Interpolation, and the model at each number of steps. Raises UsageError where it cannot do them."""
    base, steps = scoring.interpolation(scoring.job_of(model)), steps_of(how.steps)
    settings = [Setting(0, base, resolved(Sampling(device=how.device), base))]
    for n in steps:
        sampling = Sampling(
            steps=n,
            eta=None if n == 1 < steps[-1] else how.eta,  # one step has none; others may
            seed=how.seed if "seed" in model.restorer.options else None,
            device=how.device,
        )
        settings.append(Setting(n, model, resolved(sampling, model)))
    return settings


def restore_all(
    settings: Sequence[Setting], slices: Sequence[Slices], factor: float, report: Report
) -> list[RestoredSlices]:
    """Restore and score every series by every setting, of which the last one tells the job."""
    job = scoring.job_of(settings[-1].model)
    out = []
    for part in slices:
        images = [scoring.restored(part.images, job, factor, s.model, s.sampling) for s in settings]
        scores = np.stack([scoring.score(x, part.images, job) for x in images])
        out.append(RestoredSlices(part, images, scores))
        psnr = scores[:, 0].mean(axis=1)
        best = int(np.argmax(psnr))
        report(
            f"{part.case} {part.series}: {len(part.images)} slices, best PSNR "
            f"{psnr[best]:.2f} dB by {settings[best].name}"
        )
    return out


def quality(parts: Sequence[RestoredSlices]) -> Quality:
    """Means over patients, each patient's series first, of all figures and of the preferences. The first
    setting is interpolation, by which distances are scaled."""
    rows, matrices = [], []
    for part in parts:
        shares = scoring.preferred(scoring.distance(part.scores[:, 1], part.scores[:, 2]))
        matrices.append((part.slices.case, shares))
        figures = np.stack([*part.scores.mean(axis=2).T, scoring.win_rates(shares)])
        rows.append((part.slices.case, figures))
    each = scoring.per_patient(rows)
    preference = mean_interval(list(scoring.per_patient(matrices).values())).mean
    return Quality(mean_interval(list(each.values())), preference, each)


def as_rows(settings: Sequence[Setting], found: Quality) -> list[scoring.Row]:
    """One row per setting: means over patients, with the ends of their 95% intervals."""
    ends = np.stack([found.figures.mean, found.figures.low, found.figures.high], axis=1)
    names = [name + end for name in MEASURES for end in ("", "_low", "_high")]
    return [
        {
            "setting": s.name,
            "steps": s.steps,
            "evaluations": s.model.restorer.evaluations(s.sampling),
            **scoring.numbers(names, ends[:, :, i].ravel()),
        }
        for i, s in enumerate(settings)
    ]


def slice_rows(settings: Sequence[Setting], parts: Sequence[RestoredSlices]) -> list[scoring.Row]:
    """One row per slice and setting."""
    return [
        {
            "case": part.slices.case,
            "series": part.slices.series,
            "slice": k,
            "setting": setting.name,
            **scoring.numbers(scoring.FIGURES, figures),
        }
        for part in parts
        for setting, scores in zip(settings, part.scores, strict=True)
        for k, figures in enumerate(scores.T)
    ]


def as_markdown(settings: Sequence[Setting], found: Quality) -> str:
    """The table of all settings, and who is preferred to whom."""
    header = ["setting", "evaluations", "PSNR dB", "SSIM", "spectrum error dB", "preferred"]
    formats = [form for _, form in MEASURES.values()]
    table, shares = [], []
    for i, s in enumerate(settings):
        evaluations = str(s.model.restorer.evaluations(s.sampling))
        table.append([s.name, evaluations, *map(format, found.figures.mean[:, i], formats)])
        row = ["" if i == j else f"{share:.0%}" for j, share in enumerate(found.preference[i])]
        shares.append([s.name, *row])
    return (
        f"Mean over {scoring.patients(found.figures.n)}.\n\n{scoring.markdown(header, table)}\n"
        "Share of slices on which the row's setting is preferred to the column's:\n\n"
        f"{scoring.markdown(['', *(s.name for s in settings)], shares)}"
    )


def steps_figure(settings: Sequence[Setting], found: Quality) -> bytes:
    """Each figure against the steps: mean over patients, thin lines for each, interpolation as a line."""
    figure = new_figure(12, 3.4)
    steps = [s.steps for s in settings[1:]]
    panels = figure.subplots(1, len(MEASURES))
    for k, (axes, (title, _)) in enumerate(zip(panels, MEASURES.values(), strict=True)):
        mean = found.figures.mean[k]
        for figures in found.patients.values():
            axes.plot(steps, figures[k][1:], color=scoring.BLUE, lw=0.7, alpha=0.5)
        axes.plot(steps, mean[1:], "o-", color=scoring.BLUE, lw=2, ms=4)
        axes.axhline(mean[0], ls="--", color=scoring.GREY, lw=1)
        place = (steps[0], mean[0])
        axes.annotate(settings[0].name, place, va="bottom", color=scoring.GREY, fontsize=8)
        axes.set(xscale="log", xlabel="steps", title=title)
        axes.set_xticks(steps, [str(s) for s in steps])
        axes.minorticks_off()
        axes.margins(y=0.15)
    panels[-1].set_ylim(0, 1)
    figure.suptitle(
        f"mean over {scoring.patients(found.figures.n)}; thin: each patient", fontsize=10
    )
    return png(figure, dpi=120)


class Trial(NamedTuple):
    """A pair to show: which slice it is, how it was restored and on which side the real scan is, for whoever
    runs the test; and the left and the right image ``(h, w)``."""

    key: dict[str, str | int]
    pair: tuple[Tensor, Tensor]


def draw_trials(
    settings: Sequence[str], restored: Sequence[tuple[Slices, Sequence[Tensor]]], seed: int = 0
) -> list[Trial]:
    """Draw every slice once, in random order, the settings in turn, so that all have equally many pairs.

    ``restored`` are series with their images ``(n, 1, h, w)`` by each setting, of which the first is
    interpolation, too easy to be asked for. Slices that would make it uneven are left out.
    """
    random = np.random.default_rng(seed)
    slices = [(*series, k) for series in restored for k in range(len(series[0].images))]
    asked = range(1, len(settings))
    each = len(slices) // len(asked)
    order = random.permutation(len(slices))[: each * len(asked)]
    turns = random.permutation(np.tile(asked, each))
    sides = random.permutation(np.arange(len(order)) % 2)
    trials = []
    for number, (index, setting, real) in enumerate(zip(order, turns, sides, strict=True), 1):
        (case, series, truth), images, k = slices[index]
        key = {"pair": number, "case": case, "series": series, "slice": k}
        key |= {"setting": settings[setting], "real": SIDES[real]}
        pair = truth[k, 0], images[setting][k, 0]
        trials.append(Trial(key, pair if real == 0 else pair[::-1]))
    return trials


def data_uri(image: Tensor) -> str:
    """The centre of an image ``(h, w)`` in -1..1 as an 8-bit PNG without metadata, in the text of a link."""
    from PIL import Image

    h, w = image.shape
    top, left = max(0, (h - SHOWN) // 2), max(0, (w - SHOWN) // 2)
    levels = (unit(image[top : top + SHOWN, left : left + SHOWN]) * 255).round().byte().numpy()
    picture = io.BytesIO()
    Image.fromarray(levels).save(picture, format="PNG")
    return embedded(picture.getvalue())


def encode(content: object, seed: int) -> str:
    """JSON that cannot be read at a glance (no more than that); ``decode`` of the page's script undoes it."""
    state, out = seed, bytearray()
    for byte in json.dumps(content).encode():
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(byte ^ (state >> 24))
    return base64.b64encode(bytes(out)).decode()


def reader_page(settings: Sequence[str], trials: Sequence[Trial]) -> str:
    """The page as HTML. It names no patient; the trials' keys tell which pair is which."""
    pairs = [[data_uri(image) for image in t.pair] for t in trials]
    asked = settings[1:]
    key = {
        "settings": asked,
        "setting": [asked.index(str(t.key["setting"])) for t in trials],
        "real": [SIDES.index(str(t.key["real"])) for t in trials],
    }
    digest = hashlib.sha256(json.dumps([pairs, key]).encode()).hexdigest()
    seed = int(digest[:8], 16)
    data = {"id": digest[:16], "seed": seed, "pairs": pairs, "key": encode(key, seed)}
    return render("mrisr.analysis", "readers.html", data=json.dumps(data), count=len(trials))


def analyze_steps(
    model: str,
    data: Path,
    output: Path,
    how: Steps,
    *,
    readers: bool = False,
    report: Report = lambda line: None,
) -> str:
    """Write ``steps.csv``, ``steps_slices.csv``, ``steps.json``, ``steps.md`` and ``steps.png`` into
    ``output``, and with ``readers`` the page ``readers.html`` and its key ``readers_key.csv`` as well;
    returns the Markdown text.

    Raises:
        UsageError: steps that the model cannot do, a patient that it was trained on, or fewer slices than
            settings for the readers.
        InputError: the cache cannot be read or lacks a patient.
        OutputError: the folder cannot be written.
    """
    loaded = load_model(model)
    settings = settings_of(loaded, how)
    slices = _held_out(data, loaded, how)
    asked, count = len(settings) - 1, sum(len(part.images) for part in slices)
    if readers and count < asked:
        wanted = f"at least {asked} slices, one for each setting"
        raise UsageError(f"readers: expected {wanted}, found {count}")
    make_folder(output)
    parts = restore_all(settings, slices, how.factor, report)
    found = quality(parts)
    text, rows = as_markdown(settings, found), as_rows(settings, found)
    content = {
        "command": command("steps", how, loaded.card.name),
        "patients": sorted(found.patients),
        "settings": rows,
        "preference": [[round(float(v), 6) for v in row] for row in found.preference],
    }
    others = {
        "steps_slices.csv": scoring.csv_bytes(slice_rows(settings, parts)),
        "steps.png": steps_figure(settings, found),
    }
    if readers:
        named = [s.name for s in settings]
        trials = draw_trials(named, [(part.slices, part.images) for part in parts], how.seed)
        others["readers.html"] = reader_page(named, trials).encode()
        others["readers_key.csv"] = scoring.csv_bytes([t.key for t in trials])
    scoring.write_analysis(output, "steps", rows, content, text, others)
    return text


def _held_out(data: Path, model: Model, how: Steps) -> list[Slices]:
    """The slices to restore, none of a patient that the model was trained on."""
    card, job, cases = model.card, scoring.job_of(model), names_of(how.cases)
    trained = sorted(set(cases) & set(card.training.cases))
    if trained:
        raise UsageError(f"{card.name} was trained on {', '.join(trained)}; choose other patients")
    cases = cases or scoring.cases_in(data, job, card.training.validation_cases)
    if not cases:
        wanted = f"series of the validation patients of {card.name}"
        raise InputError(data, expected=wanted, found="none")
    return scoring.read_slices(data, job, cases, factor=how.factor, count=how.slices, crop=how.crop)
