"""``mrisr evaluate zones``: tables, files, intervals, runs that go on, and what a reader is told."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrisr.evaluation import figures
from mrisr.evaluation.experiment import Evaluation, Switches
from mrisr.evaluation.zones.case import Frozen
from mrisr.evaluation.zones.experiment import evaluate_zones
from tests.evaluation.zones.conftest import SETTINGS, THROUGH, Blind
from tests.zones.models import random_zones_model

CPU = Switches(device="cpu")
ALLOWED = Switches(device="cpu", allow_trained=True)
Run = Callable[..., Evaluation]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn only where a test looks at them."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(figures, "png", lambda figure: b"png")
        for name in ("dice_chart", "outlines"):
            monkeypatch.setattr(figures, name, lambda *arguments: None)


@pytest.fixture
def compared(
    models: Path, patients: Path, frozen: Frozen, write: Callable[..., Path], out: Path
) -> Run:
    """Runs a file of the experiment, with changes."""

    def evaluated(switches: Switches = CPU, report: Any = print, **changes: Any) -> Evaluation:
        return evaluate_zones(write(SETTINGS, **changes), patients, out, switches, report)

    return evaluated


def test_the_report(compared: Run, out: Path) -> None:
    lines: list[str] = []
    done = compared(report=lines.append)
    assert not done.failures
    assert {r.case for r in done.results} == {"unseen", "unseen-too"}
    assert lines[0].startswith("unseen: the central 48x44x13 of 50x46x13 voxels")
    assert lines[0].endswith("(x4)")
    assert lines[2].startswith("unseen t2w_ax x2, original image: Dice PZ 0.")
    original, bicubic, zero = done.at(done.scales[0], seen=False)
    assert [r.method for r in (original, bicubic, zero)] == ["original image", "bicubic", "zero"]
    dice = bicubic.means["PZ.dice"]
    assert dice.n == bicubic.patients == 2
    assert dice.half is not None
    per_patient = [r.scored.means()["PZ.dice"] for r in done.results if r.method == "bicubic"][::2]
    assert dice.value == pytest.approx(sum(per_patient) / 2)
    assert "psnr" not in original.means
    assert {f.name for f in out.iterdir()} == {
        *("cases", "pictures", "results.csv", "results.json", "results.md", "results.html")
    }
    names = {f.name for f in (out / "pictures").iterdir()}
    assert names == {"dice.png", "unseen-t2w_ax.png", "unseen-too-t2w_ax.png"}
    text = (out / "results.md").read_text()
    assert "### x4: against the labels, mean over 2 patients" in text
    assert "### x2: against the segmentation of the original image" in text
    assert ", trained on 1 patient; unseen told how well its training went." in text
    assert "$ mrisr evaluate zones --config configs/evaluate.yaml --data DATA --output OUT" in text
    page = (out / "results.html").read_text()
    assert page.count("<figure>") == 3
    assert "<script" not in page
    assert 'src="http' not in page


def test_csv_and_json_hold_the_same(compared: Run, out: Path) -> None:
    done = compared(ALLOWED, factors=[4])
    content = json.loads((out / "results.json").read_text())
    text = (out / "results.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 2 * len(content["cases"]) == 2 * len(done.results) == 2 * 4 * 3
    by_place = {(r["case"], r["method"], r["zone"]): r for r in rows}
    for case in content["cases"]:
        assert case["seen_by"] == {"known": ["segmenter thresholds"], "seen": ["zero-inplane"]}.get(
            case["case"], []
        )
        for zone, score in case["labels"].items():
            row = by_place[case["case"], case["method"], zone]
            for name in ("dice", "hd95_mm", "asd_mm", "volume_bias_ml", "reference_ml"):
                assert float(row[name]) == score[name]
    assert content["segmenter"]["trained_on"] == ["known"]
    assert {r["seen"] for r in content["rows"]} == {True, False}


def test_patients_that_models_know_have_tables_of_their_own(compared: Run, out: Path) -> None:
    compared(ALLOWED, factors=[2], cases=["unseen", "seen"])
    text = (out / "results.md").read_text()
    first, second = (
        text.index(f"### x2: against the labels, mean over 1 patient{tail}")
        for tail in ("\n", " that models were trained on")
    )
    assert first < second
    assert "--allow-trained --data DATA" in text
    assert "Trained on seen: zero-inplane." in text


def test_empty_masks_are_counted(compared: Run, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = Frozen(Blind(), trained=())
    monkeypatch.setattr("mrisr.evaluation.zones.experiment.load_frozen", lambda asked: blind)
    done = compared(factors=[2], cases=["unseen", "unseen-too"])
    means = done.at(done.scales[0])[1].means
    assert means["PZ.dice"].value == 0
    assert not {"PZ.agreement.dice", "PZ.hd95_mm"} & set(means)
    assert means["PZ.volume_bias_ml"].value == -means["PZ.reference_ml"].value
    text = (out / "results.md").read_text()
    assert "| 2, 2 of 2 |" in text
    assert "nan" not in text


def test_through_the_plane_with_pictures(compared: Run, out: Path) -> None:
    done = compared(**THROUGH, cases=["unseen"])
    assert not done.failures
    assert [str(s) for s in done.scales] == ["x2", "x4 as measured"]
    assert [r.method for r in done.at(done.scales[1], seen=False)] == [
        *("measured stack", "bspline", "zero")
    ]
    text = (out / "results.md").read_text()
    assert "### x4 as measured: against the segmentation of the measured stack" in text
    assert "which nobody measures" in text
    for name in ("dice", "unseen-t2w_ax"):
        assert (out / "pictures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "results.html").read_text()
    assert page.count("data:image/png;base64,") == 2


@pytest.mark.slow
def test_the_command(
    models: Path,
    patients: Path,
    tmp_path: Path,
    out: Path,
    write: Callable[..., Path],
    run: Command,
) -> None:
    """With a network of random weights; a message of one line where something is wrong."""
    card, config = random_zones_model(tmp_path / "random"), write(SETTINGS, factors=[2])
    base = ("evaluate", "zones", "--config", config, "--data", patients, "--output", out)
    code, text, err = run(*base, "--model", card, "--device", "cpu")
    assert code == 0
    assert "| bicubic | " in text
    assert "unseen t2w_ax x2, original image: Dice PZ" in err
    code, _, err = run(*base, "--model", card, "--card", "--quiet", "--device", "cpu")
    assert (code, err) == (0, "")
    figures = json.loads(card.read_bytes())["figures"]
    assert figures["trained_on"] == {}
    assert set(figures["held_out"]["unseen"]) == {"PZ", "TZ"}
    code, shown, _ = run("models", card)
    assert code == 0
    assert "PZ Dice" in shown
    code, _, err = run(*base, "--model", "none", "--quiet")
    assert code == 1
    assert err.startswith("mrisr: no model 'none'")
    code, text, _ = run(*base, "--model", card, "--margin", 0.2, "--quiet", "--device", "cpu")
    assert "--model zones.json --margin 0.2 --data DATA" in text
    assert text.count("(SHA-256 ") == 1
    assert json.loads(card.read_bytes())["sha256"][:12] not in text  # cropped, it is another one
    code, _, err = run(*base, "--model", card, "--bundle", tmp_path)
    assert (code, err.count("\n")) == (1, 1)


def test_evaluate_itself_asks_for_its_options(run: Command) -> None:
    for arguments, said in (
        ((), "Missing option '--config' / '-c'."),
        (("--config", "x", "--output", "y"), "Missing option '--data'."),
        (("--config", "x", "--data", "y"), "Missing option '--output' / '-o'."),
        (("--data", "x", "zones"), "options of `mrisr evaluate zones` stand after `zones`"),
        (("zones", "--data", "x", "--output", "y"), "Missing option '--config' / '-c'."),
        (("others",), "No such command 'others'."),
    ):
        assert run("evaluate", *arguments) == (1, "", f"mrisr: {said}\n")
    for arguments in (("--help",), ("zones", "--help")):
        code, out, _ = run("evaluate", *arguments)
        assert code == 0
        assert "--config" in out
