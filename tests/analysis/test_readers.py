"""The readers' page: fair pairs, nothing given away, nothing from outside, and its script played by node."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from mrisr.analysis.scoring import Slices
from mrisr.analysis.steps import data_uri, draw_trials, reader_page

SCRIPT = Path(str(files("mrisr.analysis").joinpath("templates/readers.js")))
SETTINGS = ("interpolation", "1 step", "4 <steps>")


def restored(*counts: int) -> list[tuple[Slices, list[torch.Tensor]]]:
    """Series whose real slices are 0 and whose restorations by setting i are 0.1 i, apart from a mark."""
    out = []
    for number, count in enumerate(counts):
        truth = torch.zeros(count, 1, 40, 30)
        truth[:, 0, 0, 0] = 0.01 * torch.arange(count)
        images = [truth + 0.1 * i for i in range(len(SETTINGS))]
        out.append((Slices(f"patient-{number}", "t2w", truth), images))
    return out


@pytest.fixture
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("needs node, which runs the page's script")
    return path


def test_each_slice_is_shown_once_and_all_settings_equally_often() -> None:
    keys, again, other = (
        [t.key for t in draw_trials(SETTINGS, restored(6, 5), seed=s)] for s in (1, 1, 2)
    )
    assert keys == again != other
    assert len({(k["case"], k["slice"]) for k in keys}) == len(keys) == 10
    counts = Counter(k["setting"] for k in keys), Counter(k["real"] for k in keys)
    assert counts == ({"1 step": 5, "4 <steps>": 5}, {"left": 5, "right": 5})


def payload(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert match is not None
    return dict(json.loads(match[1]))


def test_nothing_comes_from_outside_and_nothing_is_given_away() -> None:
    page = reader_page(SETTINGS, draw_trials(SETTINGS, restored(6, 6)))
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"<(link|iframe|object)|@import|url\(|fetch\(|XMLHttp", page)
    assert "default-src 'none'" in page
    for word in ("patient-", "t2w", "1 step", "4 <steps>", "4 &lt;steps"):
        assert word not in page
    assert set(re.findall(r'alt="([^"]*)"', page)) == {"Left image", "Right image"}
    data = payload(page)
    assert set(data) == {"id", "seed", "pairs", "key"}
    assert not base64.b64decode(data["key"]).isascii()  # no JSON to be read at a glance


def test_pictures_are_plain_and_on_the_side_that_the_key_says() -> None:
    trials = draw_trials(SETTINGS, restored(6, 6))
    pairs = payload(reader_page(SETTINGS, trials))["pairs"]
    for trial, pair in zip(trials, pairs, strict=True):
        levels = []
        for uri in pair:
            picture = opened(uri)
            assert (picture.size, picture.mode, picture.info) == ((30, 40), "L", {})
            levels.append(int(np.asarray(picture)[20, 20]))
        made = round((1 + 0.1 * SETTINGS.index(trial.key["setting"])) / 2 * 255)
        assert levels == ([128, made] if trial.key["real"] == "left" else [made, 128])


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_centre_is_shown() -> None:
    image = torch.full((300, 200), -1.0)
    image[150, 100] = 1.0
    shown = np.asarray(opened(data_uri(image)))
    assert shown.shape == (192, 192)
    assert np.argwhere(shown == 255).tolist() == [[96, 96]]


def played(*command: str) -> Any:
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


@pytest.mark.parametrize("plan", ["straight", "reload", "no storage"])
def test_a_reader_plays_the_page(node: str, tmp_path: Path, plan: str) -> None:
    trials = draw_trials(SETTINGS, restored(4, 2), seed=5)
    data = payload(reader_page(SETTINGS, trials))
    (tmp_path / "data.json").write_text(json.dumps(data))
    driver = Path(__file__).with_name("page_driver.js")
    found = played(node, str(driver), str(SCRIPT), str(tmp_path / "data.json"), plan)
    resumed = ["trial"] if plan == "reload" else []
    counts = [f"{i + 1} of 6" for i in range(6)]
    wanted = ["intro", "trial", *counts[:2], *resumed, *counts[2:], "result", "intro"]
    assert found["told"] == wanted
    assert found["shown"] == data["pairs"]
    assert found["reader"] == ""  # the next reader starts anew

    chosen = [("right", "right", "left")[i % 3] for i in range(6)]
    keys = [t.key for t in trials]
    fooled = [side != k["real"] for side, k in zip(chosen, keys, strict=True)]
    for row, name in zip(found["table"], (*SETTINGS[1:], "all"), strict=True):
        mine = [f for f, k in zip(fooled, keys, strict=True) if name in ("all", k["setting"])]
        ci = binomtest(sum(mine), len(mine)).proportion_ci(method="wilson")
        interval = f"{100 * ci.low:.0f}% to {100 * ci.high:.0f}%"
        rate = f"{100 * sum(mine) / len(mine):.0f}%"
        assert row == [name, len(mine), sum(mine), rate, interval]

    (table, result) = found["saved"]
    rows = list(csv.DictReader(io.StringIO(table["text"])))
    assert [r["reader"] for r in rows] == ["'=re\"ader"] * 6  # no formula in a spreadsheet
    assert [r["chosen"] for r in rows] == chosen
    assert [r["real"] for r in rows] == [k["real"] for k in keys]
    assert [int(r["fooled"]) for r in rows] == fooled
    assert json.loads(result["text"])["rates"][-1]["fooled"] == sum(fooled)
