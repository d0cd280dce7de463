"""``mrisr evaluate lesions`` on phantoms: what interpolation does to lesions, patients, files, the card."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.core.errors import InputError, UsageError
from mrisr.data.phantom import label_volume, phantom, phantom_affine
from mrisr.evaluation.experiment import Evaluation, Switches
from mrisr.evaluation.lesions import case, figures
from mrisr.evaluation.lesions.case import zones_on
from mrisr.evaluation.lesions.experiment import evaluate_lesions
from mrisr.evaluation.settings import LesionsSettings
from mrisr.io import write_volume
from mrisr.models.card import card_path, read_any_card
from mrisr.models.store import write_card
from tests.evaluation.zones.conftest import Oracle

SETTINGS: dict[str, Any] = {
    "job": "inplane",
    "kind": "bicubic",
    "factors": [2],
    "model": "partdiff-inplane",
    "diameters": [4, 9],
    "contrasts": [0.2, 0.5],
    "slices": 2,
    "passes": 2,
    "methods": [
        {"name": "bspline", "model": "bspline"},
        {"name": "released", "model": "partdiff-inplane"},
    ],
}
CPU = Switches(device="cpu")
Run = Callable[..., Evaluation]


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An axial stack with labels and a coronal one of a patient, an axial one without labels of another."""
    folder = tmp_path_factory.mktemp("lesions")
    for seed, name in enumerate(("labelled", "unlabelled")):
        (folder / name).mkdir()
        axial = phantom((84, 80, 5), spacing=(1.0, 1.0, 4.0), seed=seed, noise=0.01)
        write_volume(axial, folder / name / "t2w_ax.nii")
        if name == "labelled":
            labels = label_volume(axial.shape, axial.affine, seed)
            write_volume(labels, folder / name / "zones.nii")
            coronal = phantom((60, 72, 5), plane="coronal", spacing=(1, 1, 4), seed=seed)
            write_volume(coronal, folder / name / "t2w_cor.nii")
    return folder


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn only where a test looks at them."""
    if "report" not in request.node.name:
        monkeypatch.setattr(figures, "png", lambda figure: b"png")
        for name in ("chart", "windows"):
            monkeypatch.setattr(figures, name, lambda *arguments: None)


@pytest.fixture
def scored(own: Path, patients: Path, write: Callable[..., Path], out: Path) -> Run:
    def run(switches: Switches = CPU, **changes: Any) -> Evaluation:
        changes = {"cases": ["labelled"], **changes}
        return evaluate_lesions(write(SETTINGS, **changes), patients, out, switches, print)

    return run


def test_the_report(scored: Run, out: Path) -> None:
    done = scored()
    original, bspline, released = (r.scored.figures for r in done.results)
    for group in ("4 mm", "9 mm", "20%", "50%", "PZ", "TZ", "all", "erased"):
        assert original[f"recovery.{group}"] == pytest.approx(1)
    assert bspline["recovery.4 mm"] < bspline["recovery.9 mm"] < 1.05
    # Interpolation is linear: it keeps the same share of every contrast.
    assert bspline["recovery.20%"] == pytest.approx(bspline["recovery.50%"], abs=0.05)
    assert original["auc.20%"] < original["auc.50%"] <= 1
    assert (original["false"], original["lost"], original["uncorrelated"]) == (0, 0, 0)
    assert bspline["frc"] < original["frc"] == pytest.approx(0.5, abs=0.01)
    assert released["evaluations"] == 1
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert len(rows) == 3 * 2 * 2 * 2
    assert sum(int(r["lesions"]) for r in rows if r["method"] == "bspline") > 16
    text = (out / "results.md").read_text()
    for title in ("contrast kept", "lesions seen, area under the ROC curve", "without lesions"):
        assert f"### x2: {title}, mean over 1 patient\n" in text
    assert {p.name for p in (out / "pictures").iterdir()} == {"lesions-x2.png", "labelled-x2.png"}
    content = json.loads((out / "results.json").read_text())
    assert content["cases"][1]["recovery"]["4 mm"] == pytest.approx(bspline["recovery.4 mm"], 1e-4)
    assert scored().results[1].scored.figures == bspline  # kept, not made again


def test_zones_are_found_where_there_are_no_labels(
    scored: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case, "load_segmenter", lambda asked: Oracle(1))
    done = scored(cases=["unlabelled"], scan_noise=False, passes=1)
    assert "note: zones of unlabelled were found by the segmenter oracle" in done.notes
    assert not done.failures
    with pytest.raises(InputError, match="expected patients other, found none of them"):
        scored(cases=["other"])


def test_through_the_plane(scored: Run) -> None:
    """The zones of the axial stack, on the coronal one, whose rows become slices."""
    methods = [{"name": "bspline", "model": "bspline"}]
    changes = {"job": "throughplane", "kind": "gaussian", "model": None, "methods": methods}
    done = scored(**changes, factors=[4], passes=1)
    assert [r.series for r in done.results] == ["t2w_cor"] * 2
    assert done.results[1].scored.figures["recovery.4 mm"] < 0.9
    assert done.results[1].scored.figures["frc"] < 0.3


def test_labels_on_another_grid() -> None:
    """They go by the voxels' places in the world."""
    axial, coronal = (60, 56, 18), (40, 36, 10)
    labels = label_volume(axial, phantom_affine(axial, spacing=(1.0, 1.0, 3.0)))
    wanted = label_volume(coronal, phantom_affine(coronal, "coronal", (1.5, 1.5, 4.0)))
    found = zones_on(labels, wanted).array
    assert np.mean(found[wanted.array > 0] == wanted.array[wanted.array > 0]) > 0.8


def test_the_card(scored: Run, run: Callable[..., tuple[int, str, str]]) -> None:
    path = card_path("partdiff-inplane")
    into_card = Switches(device="cpu", into_card=True)
    with pytest.raises(UsageError, match="has no figures yet; `mrisr evaluate --card` comes first"):
        scored(into_card)
    before = {"command": "c", "patients": [], "means": [], "baseline": "b", "default": "d"}
    write_card(read_any_card(path).model_copy(update={"figures": before}), path)
    done = scored(into_card)
    lesions = read_any_card(path).figures["lesions"]
    assert lesions["command"].endswith("--data DATA --output OUT --card")
    assert [r["method"] for r in lesions["means"]] == ["bspline", "released"]
    kept = done.results[1].scored.figures["recovery.all"]
    assert lesions["means"][0]["recovery.all"] == pytest.approx(kept, abs=1e-3)
    code, text, _ = run("models", path)
    assert code == 0
    assert "Lesions, mean over patients" in text


def test_noise_is_stated_once() -> None:
    with pytest.raises(ValueError, match="expected a level or `scan_noise: true`, found both"):
        LesionsSettings(**SETTINGS, noise=0.02)
