"""``mrisr evaluate``: reports are written, runs go on where they stopped, one failure stops nothing else."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrisr.cli import main
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.evaluation import figures, restoring
from mrisr.evaluation import run as module
from mrisr.evaluation.card import gains, means_tables, patients_table
from mrisr.evaluation.case import Scale
from mrisr.evaluation.degraded import DegradedCase
from mrisr.evaluation.experiment import Switches
from mrisr.evaluation.images import Images
from mrisr.evaluation.report import as_markdown
from mrisr.evaluation.run import evaluate
from mrisr.models.store import load_model, read_card, write_card
from tests.evaluation.conftest import METHODS

CPU = Switches(device="cpu")
NAMES = [m["name"] for m in METHODS]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call tells the seconds, and pictures are drawn only where a test looks at the page."""
    monkeypatch.setattr(restoring, "TIMED", 1)
    if "page" not in request.node.name:
        monkeypatch.setattr(Images, "sections", lambda self, done: [])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float]]:
    """The scores that were made anew."""
    made: list[tuple[str, str, float]] = []
    anew = DegradedCase.score

    def counted(self: DegradedCase, method: Any, scale: Scale) -> Any:
        made.append((self.name, method.name, scale.factor))
        return anew(self, method, scale)

    monkeypatch.setattr(DegradedCase, "score", counted)
    return made


def test_the_report(models: Path, data: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    lines: list[str] = []
    done = evaluate(write(), data, tmp_path / "out", CPU, lines.append)
    out = tmp_path / "out"
    assert len(lines) == 2 * 2 * len(METHODS)  # patients, factors
    names = ["cases", "results.csv", "results.html", "results.json", "results.md"]
    assert sorted(p.name for p in out.iterdir()) == names
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["case"], r["factor"], r["method"]) for r in rows] == [
        (case, factor, name)
        for case in ("unseen", "unseen-too")
        for factor in ("2", "4")
        for name in NAMES
    ]
    content = json.loads((out / "results.json").read_text())
    for row, case in zip(rows, content["cases"], strict=True):
        assert float(row["psnr"]) == pytest.approx(case["means"]["psnr"], abs=1e-4)
        slices = case["slices"]["psnr"]
        assert float(row["psnr"]) == pytest.approx(sum(slices) / len(slices), abs=1e-3)
        assert int(row["slices"]) == len(slices)
        assert float(row["gain"]) == pytest.approx(
            float(row["psnr"])
            - next(
                float(r["psnr"])
                for r in rows
                if (r["case"], r["factor"]) == (row["case"], row["factor"])
                and r["method"] == "bicubic-sharp"
            ),
            abs=1e-3,
        )
    assert content["command"] == (
        "mrisr evaluate --config configs/evaluate.yaml --model partdiff-inplane --data CACHE --output OUT"
    )
    assert [m["name"] for m in content["methods"]] == NAMES
    assert content["methods"][2]["sha256"] == load_model("partdiff-inplane").card.sha256
    text = (out / "results.md").read_text()
    assert text == as_markdown(done)
    for words in ("x2: mean over 2 patients", "x4: difference from zero", "1 degree of freedom"):
        assert words in text
    table = text.split("### x4: mean")[1].split("###")[0]
    best = max(done.at(Scale("degraded", 4)), key=lambda r: r.means["psnr"].value)
    assert f"**{best.means['psnr'].value:.2f} ± " in table


def test_the_page_needs_nothing_else(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    name = "a <b>method</b> | bold"
    methods = [*METHODS, {"name": name, "model": "lanczos"}]
    evaluate(write(methods=methods, factors=[2]), data, tmp_path / "out", CPU)
    page = (tmp_path / "out" / "results.html").read_text()
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 1 + 2  # error against steps, a picture for each stack
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r"https?://|@import|url\(", page)
    assert name not in page
    assert "a &lt;b&gt;method&lt;/b&gt; | bold" in page
    assert "a <b>method</b> / bold" in (tmp_path / "out" / "results.md").read_text()


def test_a_second_run_makes_only_what_is_missing(
    models: Path,
    data: Path,
    write: Callable[..., Path],
    tmp_path: Path,
    calls: list[tuple[str, str, float]],
) -> None:
    out = tmp_path / "out"
    first = evaluate(write(), data, out, CPU)
    assert len(calls) == 20
    calls.clear()
    again = evaluate(write(), data, out, CPU)
    assert calls == []
    assert again.rows == first.rows
    next(out.glob("cases/unseen-t2w*x4-three*.json")).unlink()
    changed = [*METHODS[:2], {"name": "default", "seed": 5}, *METHODS[3:]]
    evaluate(write(methods=changed), data, out, CPU)
    assert sorted(calls) == sorted(
        [("unseen", "three", 4.0)]
        + [(c, "default", f) for c in ("unseen", "unseen-too") for f in (2.0, 4.0)]
    )
    calls.clear()
    evaluate(write(crop=40, factors=[2], cases=["unseen"]), data, out, CPU)
    assert sorted(m for _, m, _ in calls) == sorted(NAMES)


def test_one_failure_does_not_stop_the_others(
    models: Path,
    data: Path,
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    working = DegradedCase.score

    def failing(self: DegradedCase, method: Any, scale: Scale) -> Any:
        if (self.name, method.name, scale.factor) == ("unseen", "three", 2.0):
            raise RuntimeError("a defect\nof two lines")
        return working(self, method, scale)

    monkeypatch.setattr(DegradedCase, "score", failing)
    out = tmp_path / "out"
    program = ["mrisr", "evaluate", "--config", write(), "--data", data, "--output", out]
    monkeypatch.setattr(sys, "argv", [*map(str, program), "--device", "cpu"])

    def code() -> Any:
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code

    assert code() == 8
    found = capsys.readouterr()
    assert "failed: unseen t2w_axial x2, three: RuntimeError: a defect of two lines" in found.err
    assert "1 results are missing" in found.err
    assert "- three, unseen t2w_axial x2: RuntimeError: a defect of two lines" in found.out
    with (out / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 19
    monkeypatch.setattr(DegradedCase, "score", working)
    assert code() == 0


def test_what_is_refused_before_any_work(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="expected a model for inplane"):
        evaluate(write(), data, out, Switches("partdiff-throughplane"))
    with pytest.raises(UsageError, match="was trained on seen"):
        evaluate(write(cases=["unseen", "seen"]), data, out, CPU)
    with pytest.raises(UsageError, match="models are missing: gone"):
        evaluate(write(methods=[*METHODS, {"name": "gone", "model": "no"}]), data, out, CPU)
    with pytest.raises(InputError, match="stacks of nobody"):
        evaluate(write(cases=["nobody"]), data, out, CPU)
    with pytest.raises(InputError, match="index"):
        evaluate(write(), tmp_path / "none", out, CPU)
    assert not out.exists()
    with pytest.raises(OutputError):
        evaluate(write(), data, write() / "out", CPU)


def test_a_missing_model_can_be_left_out_and_is_named(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    methods = [*METHODS[:3], {"name": "gone", "model": "no"}]
    config = write(methods=methods, reference="gone", pictures=["default", "gone"], factors=[2])
    done = evaluate(config, data, tmp_path / "out", Switches(device="cpu", skip_missing=True))
    assert {r.method for r in done.results} == set(NAMES[:3])
    assert "left out: gone (no model 'no')" in as_markdown(done)


def test_a_single_patient_has_no_interval(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    done = evaluate(write(cases=["unseen"], factors=[2]), data, tmp_path / "out", CPU)
    text = as_markdown(done)
    assert "no interval and no test" in text
    assert "±" not in text.split("### x2: mean")[1].split("###")[0]


# --- cards ----------------------------------------------------------------------------------------


@pytest.fixture
def own(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    monkeypatch.setenv("MRISR_MODELS", str(folder))
    return folder


def test_figures_go_into_the_card_when_asked(
    own: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = own / "partdiff-inplane.json"
    before = path.read_bytes()
    done = evaluate(write(), data, tmp_path / "out", CPU)
    assert path.read_bytes() == before
    evaluate(write(), data, tmp_path / "out", Switches(device="cpu", into_card=True))
    card = read_card(path)
    assert load_model("partdiff-inplane").card == card  # the weights still belong to it
    figures = card.figures
    assert (figures["default"], figures["baseline"]) == ("default", "bicubic-sharp")
    assert {r["method"] for r in figures["means"]} == {*NAMES} - {"zero"}  # another model's
    rows = {(r.method, r.factor): r for r in done.rows}
    for factor, gain in gains(figures).items():
        found = rows["default", factor].gain
        assert found is not None
        assert gain == pytest.approx(found.value, abs=1e-3)
    assert list(gains(figures)) == [2.0, 4.0]
    assert len(patients_table(figures).cells) == 4
    assert [len(t.cells) for t in means_tables(figures)] == [4, 4]


def test_a_comparison_fills_the_cards_that_are_its_own(
    own: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    """Not those that it samples only otherwise than by default, nor those that another command has filled."""
    methods = [
        {"name": "bicubic-sharp", "model": "bicubic-sharp"},
        {"name": "zero", "model": "zero-inplane"},
        {"name": "three", "model": "partdiff-inplane", "steps": 3},
    ]
    file = write(methods=methods, model=None, reference=None)
    card = Switches(device="cpu", into_card=True)
    for _ in range(2):  # the second time over figures of its own
        evaluate(file, data, tmp_path / "out", card)
    zero = read_card(own / "zero-inplane.json")
    assert zero.figures["default"] == "zero"
    assert list(gains(zero.figures)) == [2.0, 4.0]
    assert read_card(own / "partdiff-inplane.json").figures == {}
    other = zero.model_copy(update={"figures": zero.figures | {"command": "mrisr evaluate other"}})
    write_card(other, own / "zero-inplane.json")
    with pytest.raises(UsageError, match="--card"):
        evaluate(file, data, tmp_path / "out", card)
    assert read_card(own / "zero-inplane.json") == other


def test_a_card_needs_a_model_and_its_default(
    own: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    card = Switches(device="cpu", into_card=True)
    named = [{"name": "a", "model": "zero-inplane", "steps": 2}]
    with pytest.raises(UsageError, match="--card: name the model"):
        evaluate(write(methods=named, model=None, reference=None), data, tmp_path / "out", card)
    with pytest.raises(UsageError, match="by its defaults"):
        evaluate(
            write(methods=[{"name": "a", "steps": 2}], reference=None), data, tmp_path / "out", card
        )


def test_error_against_steps_joins_what_differs_in_steps_alone(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    methods = [*METHODS, {"name": "two", "steps": 2}, {"name": "four", "steps": 4, "eta": 1}]
    config = write(methods=methods, factors=[2], cases=["unseen"])
    done = evaluate(config, data, tmp_path / "out", CPU)
    axis = figures.against_steps(done, Scale("degraded", 2.0)).axes[0]
    lines = {str(line.get_label()): list(line.get_xdata()) for line in axis.get_lines()}
    assert lines["partdiff-inplane, deterministic"] == [1, 2]
    assert lines["partdiff-inplane, eta 1"] == [3, 4]
    assert lines["zero"] == [1]
    assert lines["projected"] == [0, 1]  # a level across the axis


def test_the_machine_is_named(models: Path) -> None:
    assert module.machine_of([])["torch"] == torch.__version__
