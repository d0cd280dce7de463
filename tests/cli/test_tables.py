"""What the command line prints about models and studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrisr.cli.tables import card_text, listing, rendered, survey_text
from mrisr.io.survey import SeriesInfo
from mrisr.models.card import ModelCard, card_path, read_card


def row(method: str, case: str, factor: float, gain: float) -> dict[str, object]:
    figures = {"psnr": 26.5 + gain, "ssim": 0.812, "texture": -3.0, "residual": 2e-4, "gain": gain}
    return {"method": method, "case": case, "series": "t2w_ax", "factor": factor, **figures}


@pytest.fixture
def card(models: Path) -> ModelCard:
    return read_card(card_path("partdiff-inplane"))


@pytest.fixture
def scored(card: ModelCard) -> ModelCard:
    places = [("a", 2, 2.0), ("a", 4, 1.0), ("b", 2, 3.0), ("b", 4, 1.5)]
    figures = {
        "command": "mrisr evaluate --config configs/evaluate_card_inplane.yaml --data CACHE",
        "protocol": "none",
        "baseline": "bicubic-sharp",
        "default": "1 step",
        "patients": [row("1 step", *p) for p in places]
        + [row("bicubic-sharp", *p[:2], 0) for p in places],
        "means": [
            {"method": "1 step", "factor": f, "psnr": 27.5, "ssim": 0.8, "texture": -3.0, "gain": g}
            for f, g in ((2.0, 2.5), (4.0, 1.25))
        ],
    }
    return card.model_copy(update={"figures": figures})


def test_listing(card: ModelCard, scored: ModelCard) -> None:
    head, first, second = listing([card, scored]).splitlines()
    for column in ("model", "method", "factors", "steps", "gain", "sha256"):
        assert column in head
    assert "not scored" in first
    assert "x2 +2.50 dB, x4 +1.25 dB" in second
    assert card.sha256[:12] in first
    assert listing([]) == "no models"


def test_a_card_says_everything(card: ModelCard, scored: ModelCard) -> None:
    plain = " ".join(card_text(card).split())
    for words in (
        card.name,
        card.sha256,
        "x1.5 to x8",
        "1 step(s), eta 0",
        "type unshuffle, channels 1, width 8",
        "aligned path from g = 0.25, predicts high",
        "trained on seen",
        "held out unseen, unseen-too",
        "random weights",
        "Apache-2.0",
        "Not for diagnosis",
        "data licences not stated",
    ):
        assert words in plain
    assert "held-out figures" not in plain
    text = card_text(scored)
    for words in (
        f"held-out figures, by: {scored.figures['command']}",
        "26.50 / 0.8120",
        "28.50 / 0.8120",
        "+1.50",
        "x4, mean over patients",
    ):
        assert words in text


def test_survey_text() -> None:
    assert survey_text([]) == "no volumes found"
    info = SeriesInfo(
        "t2w", "dicom", plane="axial", spacing=(0.75, 0.75, 3.0), notes=("positions win",)
    )
    _, row, note = survey_text([info]).splitlines()
    assert row.split() == "t2w dicom axial - 0.75 x 0.75 x 3 - - -".split()
    assert note == "note: t2w: positions win"


def test_no_colour_and_no_trailing_blanks(card: ModelCard) -> None:
    text = card_text(card)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert rendered("a", "b") == "a\nb"
