"""Quality against steps: figures are those of the metrics, means are over patients, patients are unseen."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrisr import metrics
from mrisr.analysis.options import Steps, steps_of
from mrisr.analysis.scoring import (
    cases_in,
    distance,
    per_patient,
    preferred,
    read_slices,
    restored,
    score,
    unit,
    win_rates,
)
from mrisr.analysis.steps import analyze_steps
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Sampling
from mrisr.data import pairs
from mrisr.models.store import load_model

UNIT = st.floats(0, 0.999)
DECIBEL = st.floats(0.001, 40)
HOW = Steps(steps="1,3", factor=2.0, slices=2, crop=48, device="cpu")


def test_a_list_of_steps() -> None:
    assert steps_of("1,2, 50") == [1, 2, 50]
    for wrong in ("", "0,1", "2,1", "1,1", "one"):
        with pytest.raises(UsageError, match="steps: expected increasing whole numbers"):
            steps_of(wrong)


def test_the_central_slices_of_the_job_s_plane(data: Path) -> None:
    found = read_slices(data, "inplane", ["unseen"], factor=2.0, count=2, crop=48)
    assert [(s.case, s.series, s.images.shape) for s in found] == [
        ("unseen", "t2w_axial", (2, 1, 48, 48))
    ]
    (whole,) = read_slices(data, "inplane", ["unseen"], factor=2.0, count=99, crop=48)
    assert torch.equal(whole.images[1:3], found[0].images)
    coronal = read_slices(data, "throughplane", [], factor=2.0, count=2, crop=48)
    assert [s.case for s in coronal] == ["seen", "unseen"]
    assert cases_in(data, "throughplane", ["stranger", "unseen"]) == ["unseen"]


def test_refusals(data: Path) -> None:
    how = {"count": 8, "crop": 48}
    with pytest.raises(InputError, match="coronal series of stranger, found seen, unseen"):
        read_slices(data, "throughplane", ["stranger", "unseen"], factor=2.0, **how)
    for factor in (0.5, 1.0, 6.5):
        with pytest.raises(UsageError, match=f"at most 6, found {factor:g}"):
            read_slices(data, "inplane", [], factor=factor, **how)
    assert read_slices(data, "inplane", [], factor=6.0, **how)


def test_patients_count_once_however_many_series_they_have() -> None:
    rows = [("a", np.array([1.0])), ("b", np.array([2.0])), ("b", np.array([6.0]))]
    assert per_patient(rows) == {"a": [1.0], "b": [4.0]}


@pytest.mark.slow
@given(st.lists(st.tuples(UNIT, DECIBEL), min_size=2, max_size=6))
def test_nearer_by_both_measures_is_never_less_preferred(points: list[tuple[float, float]]) -> None:
    ssim, spectrum = np.array(points).T[:, :, None]
    shares = preferred(distance(ssim, spectrum))
    for i in range(len(points)):
        for j in range(len(points)):
            if ssim[i] >= ssim[j] and spectrum[i] <= spectrum[j]:
                assert shares[i, j] >= 0.5
    assert shares + shares.T == pytest.approx(1)
    assert win_rates(shares).mean() == pytest.approx(0.5)


def test_where_they_disagree_the_scale_of_interpolation_decides() -> None:
    ssim, spectrum = np.array([[0.6], [0.8], [0.7]]), np.array([[20.0], [16.0], [8.0]])
    assert win_rates(preferred(distance(ssim, spectrum))).tolist() == [0.0, 0.5, 1.0]
    # The second is at (0.5, 0.8), the third at (0.75, 0.4): 0.94 and 0.85 from the origin.
    assert preferred(distance(ssim, spectrum))[2, 1] == 1.0
    # Neither measure's unit matters.
    assert preferred(distance(ssim, 100 * spectrum))[2, 1] == 1.0
    # Interpolation that is nearer in the spectrum makes its errors weigh more: (0.5, 2.0), (0.75, 1.0).
    spectrum[0] = 8.0
    ssim[2] = 0.0
    assert preferred(distance(ssim, spectrum))[1, 2] == 1.0


def test_restored_as_the_product_does(models: Path, data: Path) -> None:
    sampling = Sampling(device="cpu", precision="fp32")
    (part,) = read_slices(data, "throughplane", ["unseen"], factor=4.0, count=2, crop=48)
    images = part.images
    model = load_model("partdiff-throughplane")
    found = restored(images, "throughplane", 4.0, model, sampling)
    y, operator = pairs.measure(images, "throughplane", pairs.Drawn("gaussian", 4.0))
    assert float((operator(found) - y).square().mean().sqrt()) < 4e-4  # consistent with the data
    assert float(found.min()) >= -1  # and a magnitude image
    psnr, _, spectrum = score(found, images, "throughplane")
    assert psnr == pytest.approx(metrics.psnr(unit(found), unit(images)).numpy())
    along = metrics.spectrum_error(unit(found), unit(images), dims=(-2,))
    assert spectrum == pytest.approx(along.numpy())


def test_the_command_s_files_agree(models: Path, data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    text = analyze_steps("partdiff-inplane", data, tmp_path, HOW, readers=True, report=lines.append)
    assert len(lines) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "readers.html", "readers_key.csv", "steps.csv", "steps.json", "steps.md", "steps.png",
        "steps_slices.csv",
    ]  # fmt: skip
    with (tmp_path / "steps_slices.csv").open(newline="") as file:
        slices = list(csv.DictReader(file))
    content = json.loads((tmp_path / "steps.json").read_text())
    names = ["interpolation", "1 step", "3 steps"]
    assert [s["setting"] for s in content["settings"]] == names
    assert [s["evaluations"] for s in content["settings"]] == [0, 1, 3]
    assert content["patients"] == ["unseen", "unseen-too"]
    shares = []
    for case in content["patients"]:
        rows = [[r for r in slices if (r["case"], r["setting"]) == (case, n)] for n in names]
        ssim, spectrum = (
            np.array([[float(r[key]) for r in row] for row in rows]) for key in ("ssim", "spectrum")
        )
        shares.append(preferred(distance(ssim, spectrum)))
    mean = np.mean(shares, axis=0)
    assert np.array(content["preference"]) == pytest.approx(mean)
    for row, name, rate in zip(content["settings"], names, win_rates(mean), strict=True):
        mine = [float(r["psnr"]) for r in slices if r["setting"] == name]
        assert row["psnr"] == pytest.approx(np.mean(mine), abs=1e-3)
        assert row["win_rate"] == pytest.approx(rate)
        assert f"| {name} | {row['evaluations']} | {row['psnr']:.2f} |" in text


def test_a_model_that_adds_nothing_is_the_same_at_every_step(
    models: Path, data: Path, tmp_path: Path
) -> None:
    analyze_steps("zero-inplane", data, tmp_path, replace(HOW, cases="stranger"))
    content = json.loads((tmp_path / "steps.json").read_text())
    _, one, three = content["settings"]
    assert one["psnr"] == pytest.approx(three["psnr"], abs=0.01)
    assert one["psnr_low"] is None  # one patient has no interval
    assert "--cases stranger " in content["command"]


def test_what_is_refused(models: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="was trained on seen"):
        analyze_steps("partdiff-inplane", data, out, replace(HOW, cases="seen,unseen"))
    with pytest.raises(InputError, match="series of nobody"):
        analyze_steps("partdiff-inplane", data, out, replace(HOW, cases="nobody"))
    with pytest.raises(UsageError, match="factor"):
        analyze_steps("partdiff-inplane", data, out, replace(HOW, factor=40.0))
    with pytest.raises(UsageError, match="expected a trained model"):
        analyze_steps("bicubic", data, out, HOW)
    few = replace(HOW, cases="unseen", slices=1)
    with pytest.raises(UsageError, match="at least 2 slices"):
        analyze_steps("partdiff-inplane", data, out, few, readers=True)
    assert not out.exists()
