"""The grid of schedules, its search on training patients alone, and the schedule in a model's card."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mrisr.analysis.options import Criterion, Search
from mrisr.analysis.schedule import (
    Bench,
    analyze_schedule,
    candidates,
    figures_of,
    with_schedule,
    write_schedule,
)
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.diffusion import INFERENCE, sampling_levels
from mrisr.models.store import load_model

HOW = Search(steps=3, factor=2.0, slices=1, crop=32, device="cpu")


@pytest.mark.parametrize("steps", [2, 10])
def test_candidates_rise_from_the_start_to_one(models: Path, steps: int) -> None:
    model = load_model("partdiff-inplane")
    grid = candidates(model, replace(HOW, steps=steps, eta=(0.0, 1.0)))
    assert len({(c.levels, c.eta) for c in grid}) == len(grid) > 20
    for c in grid:
        assert (len(c.levels), c.levels[0], c.levels[-1]) == (steps + 1, 0.25, 1.0)
        assert list(c.levels) == sorted(set(c.levels))
    assert grid[0].family == "even"
    assert grid[0].levels == pytest.approx(sampling_levels(INFERENCE, 0.25, steps).tolist())


def test_the_families(models: Path) -> None:
    grid = candidates(load_model("partdiff-inplane"), replace(HOW, steps=4))
    squared = next(c for c in grid if c.family == "time" and c.parameter == 2.0)
    last = INFERENCE.time(torch.tensor(0.25))
    wanted = INFERENCE.scale_at(last * torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]) ** 2)
    assert squared.levels[1:-1] == pytest.approx(wanted[1:-1].tolist(), abs=1e-7)
    snr = next(c for c in grid if c.family == "snr" and c.parameter == 0.95)
    assert snr.levels[-2] == pytest.approx(0.95)
    logs = torch.logit(torch.tensor(snr.levels[:-1], dtype=torch.float64) ** 2)
    assert logs.diff().numpy() == pytest.approx(float(logs.diff()[0]), rel=1e-6)


def test_what_leaves_nothing_to_search_is_refused(models: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 2, found 1"):
        candidates(load_model("partdiff-inplane"), replace(HOW, steps=1))
    with pytest.raises(UsageError, match="bicubic: expected a diffusion model"):
        analyze_schedule("bicubic", data, tmp_path / "out", HOW)
    with pytest.raises(UsageError, match="factor: expected above 1"):
        analyze_schedule("partdiff-inplane", data, tmp_path / "out", replace(HOW, factor=50.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("criterion", "value"), [("psnr", 29.0), ("spectrum", -3.0), ("nearest", -0.75)]
)
def test_criteria(
    models: Path, monkeypatch: pytest.MonkeyPatch, criterion: Criterion, value: float
) -> None:
    figures = {"a": np.array([30.0, 0.9, 4.0, 1.0]), "b": np.array([28.0, 0.8, 2.0, 0.5])}
    model = load_model("partdiff-inplane")
    bench = Bench(model, [], replace(HOW, criterion=criterion))
    monkeypatch.setattr(bench, "figures", lambda candidate: figures)
    assert bench.value(candidates(model, HOW)[0]) == pytest.approx(value)


def test_interpolation_is_as_far_as_the_scale_says() -> None:
    base = np.array([[20.0], [0.6], [10.0]])
    assert figures_of(base, base) == pytest.approx((20.0, 0.6, 10.0, 2**0.5))
    better = np.array([[21.0], [0.84], [3.0]])
    assert figures_of(better, base) == pytest.approx((21.0, 0.84, 3.0, 0.5))


@pytest.mark.slow
def test_it_searches_training_patients_and_checks_on_the_others(
    models: Path, data: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    how, copy = replace(HOW, eta=(0.0, 1.0)), tmp_path / "copy"
    text = analyze_schedule(
        "partdiff-inplane", data, tmp_path, how, write=copy, report=lines.append
    )
    content = json.loads((tmp_path / "schedule.json").read_text())
    assert list(content["training"]["gain_by_patient"]) == ["seen"]
    assert sorted(content["validation"]["gain_by_patient"]) == ["unseen", "unseen-too"]
    with (tmp_path / "schedule.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(lines)
    found = content["training"]["means"]
    top = min(rows, key=lambda r: float(r["distance"]))
    assert float(top["distance"]) == pytest.approx(found["chosen"]["distance"], abs=1e-4)
    chosen = content["chosen"]
    assert [float(g) for g in top["levels"].split()] == pytest.approx(chosen["levels"])
    evenly = next(r for r in rows if r["family"] == "even" and float(r["eta"]) == chosen["eta"])
    assert float(evenly["psnr"]) == pytest.approx(found["evenly spaced"]["psnr"], abs=1e-3)
    assert "Validation patients, scored after the choice (2):" in text
    assert "--eta 0 --eta 1" in content["command"]
    assert len({r["distance"] for r in rows}) > 20  # the levels take effect
    assert (tmp_path / "schedule.png").stat().st_size > 10_000
    assert load_model(copy).card.diffusion.schedules == {3: tuple(chosen["levels"])}
    assert "model.json: has the schedule for 3 steps" in text
    assert load_model("partdiff-inplane").card.diffusion.schedules == {}


@pytest.mark.slow
def test_where_levels_make_no_difference_the_even_ones_stay(
    models: Path, data: Path, tmp_path: Path
) -> None:
    analyze_schedule("zero-throughplane", data, tmp_path, HOW)
    content = json.loads((tmp_path / "schedule.json").read_text())
    assert content["chosen"]["family"] == "even"
    assert content["training"]["gain_by_patient"] == {
        "seen": {"psnr": 0.0, "ssim": 0.0, "spectrum": 0.0, "distance": 0.0}
    }


def test_a_cache_without_training_patients_is_refused(
    models: Path, data: Path, tmp_path: Path
) -> None:
    index = json.loads((data / "index.json").read_text())
    index["series"] = [s for s in index["series"] if s["case"] != "seen"]
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="training patients of partdiff-inplane"):
        analyze_schedule("partdiff-inplane", tmp_path, tmp_path / "out", HOW)


def test_schedules_gather_in_a_copy_that_loads(models: Path, tmp_path: Path) -> None:
    model = load_model("partdiff-inplane")
    folder = tmp_path / "copy"
    two, three = (0.25, 0.7, 1.0), (0.25, 0.5, 0.9, 1.0)
    assert write_schedule(with_schedule(model, two), folder) == folder / "model.json"
    write_schedule(with_schedule(model, three), folder / "model.json")
    loaded = load_model(folder)
    assert loaded.card.diffusion.schedules == {2: two, 3: three}
    assert loaded.card.sha256 == model.card.sha256
    weights, before = (m.restorer.network.state_dict() for m in (loaded, model))
    assert all(torch.equal(weights[name], before[name]) for name in before)
    other = with_schedule(load_model("zero-inplane"), two)
    with pytest.raises(OutputError, match="expected the weights of zero-inplane, found partdiff"):
        write_schedule(other, folder)
    assert load_model(folder).card.diffusion.schedules == {2: two, 3: three}
