"""A page for human readers: two-alternative forced choice, "which one is the real scan?" (SR3, PartDiff).

One HTML file with everything in it: pictures, script, style. It loads nothing and sends nothing. Each slice
is shown once, restored by one setting, beside itself; were it shown again by another setting, the reader
would know the one that comes back for the real scan. Sides and order are shuffled by the seed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mrisr.analysis.scoring import Slices, unit

#: Edge in pixels of the central square that readers see.
SHOWN = 192
SIDES = ("left", "right")


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
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()


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
    folder = files("mrisr.analysis")
    return Template(folder.joinpath("readers.html").read_text(encoding="utf-8")).substitute(
        style=folder.joinpath("readers.css").read_text(encoding="utf-8"),
        script=folder.joinpath("readers.js").read_text(encoding="utf-8"),
        data=json.dumps(data),
        count=len(trials),
    )
