"""``mrisr evaluate zones``: tables, files, intervals, runs that go on, and what a reader is told."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrisr.cli import main
from mrisr.core.errors import InputError, OutputError
from mrisr.evaluation.case import Scale
from mrisr.evaluation.experiment import Switches
from mrisr.evaluation.zones import figures
from mrisr.evaluation.zones.case import Frozen, ZonesCase
from mrisr.evaluation.zones.experiment import evaluate_zones
from tests.evaluation.zones.conftest import SETTINGS, THROUGH, Blind
from tests.zones.models import random_zones_model

CPU = Switches(device="cpu")
ALLOWED = Switches(device="cpu", allow_trained=True)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn only where a test looks at them."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(figures, "png", lambda figure: b"png")
        for name in ("dice_chart", "outlines"):
            monkeypatch.setattr(figures, name, lambda *arguments: None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The scores that were made anew."""
    made: list[tuple[str, str, str]] = []
    anew = ZonesCase.score

    def counted(self: ZonesCase, method: Any, scale: Scale) -> Any:
        made.append((self.name, str(scale), method.name))
        return anew(self, method, scale)

    monkeypatch.setattr(ZonesCase, "score", counted)
    return made


def test_the_report(
    models: Path, patients: Path, frozen: Frozen, write: Callable[..., Path], tmp_path: Path
) -> None:
    lines: list[str] = []
    out = tmp_path / "out"
    done = evaluate_zones(write(), patients, out, CPU, lines.append)
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
    assert "$ mrisr evaluate zones --config configs/zones.yaml --data DATA --output OUT" in text
    page = (out / "results.html").read_text()
    assert page.count("<figure>") == 3
    assert "<script" not in page
    assert 'src="http' not in page


def test_csv_and_json_hold_the_same(
    models: Path, patients: Path, frozen: Frozen, write: Callable[..., Path], tmp_path: Path
) -> None:
    done = evaluate_zones(write(factors=[4]), patients, tmp_path / "out", ALLOWED)
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    text = (tmp_path / "out" / "results.csv").read_text()
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


def test_patients_that_models_know_have_tables_of_their_own(
    models: Path, patients: Path, frozen: Frozen, write: Callable[..., Path], tmp_path: Path
) -> None:
    config = write(factors=[2], cases=["unseen", "seen"])
    evaluate_zones(config, patients, tmp_path / "out", ALLOWED)
    text = (tmp_path / "out" / "results.md").read_text()
    first, second = (
        text.index(f"### x2: against the labels, mean over 1 patient{tail}")
        for tail in ("\n", " that models were trained on")
    )
    assert first < second
    assert "n = 1: no interval can be given" in text
    assert "±" not in text
    assert "--allow-trained --data DATA" in text
    assert "Trained on seen: zero-inplane." in text


def test_a_run_goes_on_and_redoes_what_a_change_touches(
    models: Path,
    patients: Path,
    frozen: Frozen,
    write: Callable[..., Path],
    calls: list[Any],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    names = {"cases": ["unseen"]}
    evaluate_zones(write(**names, factors=[4]), patients, out, CPU)
    assert calls == [("unseen", "x4", m) for m in ("original image", "bicubic", "zero")]
    before = (out / "results.csv").read_bytes()
    calls.clear()
    lines: list[str] = []
    evaluate_zones(write(**names, factors=[4]), patients, out, CPU, lines.append)
    assert calls == []
    assert all(line.endswith("(kept)") for line in lines[1:])
    assert (out / "results.csv").read_bytes() == before
    evaluate_zones(write(**names, factors=[2, 4]), patients, out, CPU)
    assert {scale for _, scale, _ in calls} == {"x2"}
    calls.clear()
    frozen.segmenter.sha256 = "1" * 64
    evaluate_zones(write(**names, factors=[2, 4]), patients, out, CPU)
    assert len(calls) == 6


def test_one_failure_stops_nothing_else(
    models: Path,
    patients: Path,
    frozen: Frozen,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    anew = ZonesCase.score

    def fails(self: ZonesCase, method: Any, scale: Scale) -> Any:
        if method.name == "bicubic" and scale.factor == 2:
            raise InputError("here", expected="more", found="less")
        return anew(self, method, scale)

    monkeypatch.setattr(ZonesCase, "score", fails)
    done = evaluate_zones(write(cases=["unseen"]), patients, tmp_path / "out", CPU)
    assert [(f.method, f.factor) for f in done.failures] == [("bicubic", 2)]
    assert len(done.results) == 5
    assert (
        "- bicubic, unseen t2w_ax x2: here: expected more"
        in (tmp_path / "out" / "results.md").read_text()
    )

    def full(self: ZonesCase, method: Any, scale: Scale) -> Any:
        raise OutputError("full")

    monkeypatch.setattr(ZonesCase, "score", full)
    with pytest.raises(OutputError):
        evaluate_zones(write(cases=["unseen-too"]), patients, tmp_path / "out", CPU)


def test_empty_masks_are_counted(
    models: Path,
    patients: Path,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    blind = Frozen(Blind(), trained=())
    monkeypatch.setattr("mrisr.evaluation.zones.experiment.load_frozen", lambda asked: blind)
    config = write(factors=[2], cases=["unseen", "unseen-too"])
    done = evaluate_zones(config, patients, tmp_path / "out", CPU)
    row = done.at(done.scales[0], seen=False)[1]
    assert row.means["PZ.dice"].value == 0
    assert "PZ.hd95_mm" not in row.means
    text = (tmp_path / "out" / "results.md").read_text()
    assert "| 2, 2 of 2 |" in text
    assert "nan" not in text


def test_through_the_plane_with_pictures(
    models: Path, patients: Path, frozen: Frozen, write: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = evaluate_zones(write(**THROUGH, cases=["unseen"]), patients, out, CPU)
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


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run_program: Command) -> Command:
    """Runs `mrisr evaluate` with arguments: exit code, output, errors."""
    return lambda *arguments: run_program("evaluate", *arguments)


@pytest.fixture
def run_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `mrisr` with arguments: exit code, output, errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mrisr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def test_the_command(
    models: Path, patients: Path, tmp_path: Path, run: Command, run_program: Command
) -> None:
    """With a network of random weights; a message of one line where something is wrong."""
    card, config = random_zones_model(tmp_path / "random"), tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | {"factors": [2], "cases": ["unseen"]}))
    base = ("zones", "--config", config, "--data", patients, "--output", tmp_path / "out")
    code, out, err = run(*base, "--model", card, "--device", "cpu")
    assert code == 0
    assert "| bicubic | " in out
    assert "unseen t2w_ax x2, original image: Dice PZ" in err
    code, _, err = run(*base, "--model", card, "--card", "--quiet", "--device", "cpu")
    assert (code, err) == (0, "")
    figures = json.loads(card.read_bytes())["figures"]
    assert figures["trained_on"] == {}
    assert set(figures["held_out"]["unseen"]) == {"PZ", "TZ"}
    code, shown, _ = run_program("models", card)
    assert code == 0
    assert "PZ Dice" in shown
    code, _, err = run(*base, "--model", "none", "--quiet")
    assert code == 1
    assert err.startswith("mrisr: no model 'none'")
    code, _, err = run(*base, "--model", card, "--bundle", tmp_path)
    assert (code, err.count("\n")) == (1, 1)


def test_evaluate_itself_asks_for_its_options(run: Command, tmp_path: Path) -> None:
    for arguments, said in (
        ((), "Missing option '--config' / '-c'."),
        (("--config", "x", "--output", "y"), "Missing option '--data'."),
        (("--config", "x", "--data", "y"), "Missing option '--output' / '-o'."),
        (("--data", "x", "zones"), "options of `mrisr evaluate zones` stand after `zones`"),
        (("zones", "--data", "x", "--output", "y"), "Missing option '--config' / '-c'."),
        (("others",), "No such command 'others'."),
    ):
        assert run(*arguments) == (1, "", f"mrisr: {said}\n")
    for arguments in (("--help",), ("zones", "--help")):
        code, out, _ = run(*arguments)
        assert code == 0
        assert "--config" in out
