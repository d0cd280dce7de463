"""``mrisr evaluate``: held-out patients only, means over patients, tables, and figures in the card."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mrisr import metrics
from mrisr.cache import read_stacks
from mrisr.errors import InputError, OutputError, UsageError
from mrisr.evaluation.run import as_csv, as_markdown, evaluate, mean_score
from mrisr.evaluation.score import BASELINE, Score, held_out, operator_for, score_case, with_sampler
from mrisr.evaluation.settings import EvaluationSettings, Sampler, load_evaluation
from mrisr.inference.engine import Engine
from mrisr.inference.options import Options
from mrisr.io import write_volume
from mrisr.models.store import load_model, read_card
from mrisr.phantom import phantom
from mrisr.prepare import prepare

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SETTINGS: dict[str, Any] = {
    "job": "inplane",
    "model": "partdiff-inplane",
    "planes": ["axial"],
    "kind": "bicubic",
    "factors": [2, 4],
    "crop": 48,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one patient the small models call theirs and two that they do not."""
    folder = tmp_path_factory.mktemp("evaluation")
    for seed, (case, plane, slices) in enumerate(
        [
            ("seen", "axial", 2),
            ("unseen", "axial", 2),
            ("unseen-too", "axial", 4),
            ("unseen", "coronal", 3),
        ]
    ):
        volume = phantom((56, 52, slices), plane=plane, spacing=(0.8, 0.8, 3.0), seed=seed)
        path = folder / "data" / case / f"t2w_{plane}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(volume, path)
    prepare(folder / "data", folder / "cache")
    return folder / "cache"


@pytest.fixture
def config(tmp_path: Path, models: Path) -> Path:
    return write(tmp_path, samplers=[{"steps": 1}, {"steps": 3, "churn": 1}])


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "evaluate.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changes))
    return path


def scores(**changes: Any) -> Score:
    fields: dict[str, Any] = dict.fromkeys(Score._fields, 0.0) | {"factor": 4.0, "slices": 1}
    return Score(**fields | {"case": "a", "series": "s"} | changes)


# --- scores ---------------------------------------------------------------------------------------


def test_means_are_over_patients_not_over_slices_or_stacks() -> None:
    rows = [
        scores(case="a", psnr=20.0, slices=100),
        scores(case="b", series="s1", psnr=30.0, psnr_interpolated=29.0),
        scores(case="b", series="s2", psnr=40.0, psnr_interpolated=31.0),
    ]
    mean = mean_score(rows)
    assert mean.psnr == pytest.approx((20 + 35) / 2)
    assert mean.gain == pytest.approx((20 + 5) / 2)
    assert (mean.case, mean.series, mean.factor) == ("mean", "2 patients", 4.0)


def test_a_score_is_the_mean_over_slices(models: Path, data: Path) -> None:
    settings = EvaluationSettings(**SETTINGS)
    engine = Engine(load_model("partdiff-inplane"), Options(device="cpu", precision="fp32"))
    (case,) = held_out(read_stacks(data, ["axial"]), settings, ["unseen-too"])
    assert case.images.shape == (4, 1, 48, 48)
    found = score_case(engine, case, settings, 2.0)
    operator = operator_for(settings, 2.0, case.images.shape)
    y = operator(case.images)
    x = operator.project(engine.restore(y, operator), y)
    reference = (case.images + 1) / 2
    base = operator.interpolating_by(BASELINE["inplane"]).interpolate(y)
    for image, psnr, ssim in (
        (x, found.psnr, found.ssim),
        (base, found.psnr_interpolated, found.ssim_interpolated),
        (operator.project(base, y), found.psnr_projected, found.ssim_projected),
    ):
        scaled = ((image + 1) / 2).clamp(0, 1)
        assert psnr == pytest.approx(float(metrics.psnr(scaled, reference).mean()), abs=1e-3)
        assert ssim == pytest.approx(float(metrics.ssim(scaled, reference).mean()), abs=1e-4)
    assert found.slices == 4
    assert found.residual < 1e-5
    assert found.gain == found.psnr - found.psnr_interpolated
    assert found.seconds > 0


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(steps=4), Sampler(steps=4, churn=1)])
def test_a_network_that_adds_nothing_scores_as_interpolation(
    models: Path, data: Path, sampler: Sampler
) -> None:
    changes = {"job": "throughplane", "planes": ["coronal"], "kind": "gaussian"}
    engine = Engine(load_model("zero-throughplane"), Options(device="cpu", precision="fp32"))
    engine = with_sampler(engine, sampler)
    for consistency in (0.0, 1.0):
        settings = EvaluationSettings(**SETTINGS | changes | {"consistency": consistency})
        (case,) = held_out(read_stacks(data, ["coronal"]), settings, ["unseen"])
        s = score_case(engine, case, settings, 4.0)
        same = (s.psnr_interpolated, s.texture_interpolated)
        if consistency == 1:
            same = (s.psnr_projected, s.texture_projected)
            assert s.residual < 1e-5
        assert (s.psnr, s.texture) == pytest.approx(same, abs=0.01)


def test_through_plane_degrades_rows_only(models: Path, data: Path) -> None:
    changes = {"job": "throughplane", "planes": ["coronal"], "kind": "gaussian"}
    settings = EvaluationSettings(**SETTINGS | changes)
    (case,) = held_out(read_stacks(data, ["coronal"]), settings, ["unseen"])
    operator = operator_for(settings, 4.0, case.images.shape)
    assert operator(case.images).shape == (3, 1, 12, 48)
    engine = Engine(load_model("partdiff-throughplane"), Options(device="cpu"))
    assert torch.isfinite(torch.tensor(score_case(engine, case, settings, 4.0)[2:])).all()


# --- the command ----------------------------------------------------------------------------------


def test_tables_are_written(config: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    text = evaluate(config, data, tmp_path / "out", device="cpu", report=lines.append)
    assert len(lines) == 4 + 2  # two patients, two factors; two samplers
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["scores.csv", "scores.json", "scores.md"]
    assert (out / "scores.md").read_text() == text
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["case"], r["factor"]) for r in rows] == [
        ("unseen", "2.0"),
        ("unseen", "4.0"),
        ("unseen-too", "2.0"),
        ("unseen-too", "4.0"),
    ]
    figures = json.loads((out / "scores.json").read_text())
    assert figures["command"].startswith("mrisr evaluate --config configs/evaluate.yaml")
    for row, other in zip(rows, figures["patients"], strict=True):
        assert float(row["psnr"]) == pytest.approx(other["psnr"], abs=1e-4)
        assert float(row["gain"]) == pytest.approx(other["gain"], abs=1e-3)
        assert other["residual"] <= 1e-3
    assert [(r["steps"], r["churn"], r["factor"]) for r in figures["curve"]] == [
        (1, 0, 4),
        (3, 1, 4),
    ]
    assert "| unseen | t2w_axial | x2 |" in text
    assert "3 steps, ancestral (churn 1), corrected" in text
    first = figures["curve"][0]["psnr"]
    means = [r["psnr"] for r in figures["patients"] if r["factor"] == 4]
    assert first == pytest.approx(sum(means) / 2, abs=1e-3)


def test_figures_go_into_the_card_when_asked(
    config: Path, data: Path, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    monkeypatch.setenv("MRISR_MODELS", str(folder))
    path = folder / "partdiff-inplane.json"
    before = path.read_bytes()
    evaluate(config, data, tmp_path / "out", device="cpu")
    assert path.read_bytes() == before
    evaluate(config, data, tmp_path / "out", device="cpu", into_card=True)
    card = read_card(path)
    figures = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert card.figures == figures
    assert load_model("partdiff-inplane").card == card  # the weights still belong to it


def test_training_patients_are_refused(config: Path, data: Path, tmp_path: Path) -> None:
    file = write(tmp_path, cases=["unseen", "seen"])
    with pytest.raises(UsageError, match="was trained on seen"):
        evaluate(file, data, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_what_else_is_refused(config: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a model for inplane"):
        evaluate(config, data, tmp_path / "out", model="partdiff-throughplane")
    with pytest.raises(InputError, match="stacks of nobody"):
        evaluate(write(tmp_path, cases=["nobody"]), data, tmp_path / "out")
    with pytest.raises(InputError, match="index"):
        evaluate(config, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="update"):
        load_evaluation(write(tmp_path, samplers=[{"update": "other"}]))
    with pytest.raises(OutputError):
        evaluate(write(tmp_path), data, config / "out")


@pytest.mark.parametrize("name", ["evaluate_inplane", "evaluate_throughplane"])
def test_the_shipped_evaluations(name: str) -> None:
    settings = load_evaluation(CONFIGS / f"{name}.yaml")
    assert settings.crop == 320
    assert settings.model == name.replace("evaluate_", "partdiff-")
    assert Sampler() in settings.samplers


def test_tables_without_a_curve() -> None:
    rows = [scores(psnr=30.0, psnr_interpolated=28.0, residual=2e-4)]
    text = as_markdown(rows, [])
    assert "sampler" not in text
    assert "+2.00 | 2.0e-04" in text
    assert as_csv(rows).splitlines()[0].endswith("seconds,gain")
