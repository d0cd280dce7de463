"""``mrisr evaluate``: reports are written, runs go on where they stopped, one failure stops nothing else."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.evaluation import degraded, figures
from mrisr.evaluation.case import Scale
from mrisr.evaluation.degraded import DegradedCase
from mrisr.evaluation.experiment import Evaluation, Switches
from mrisr.evaluation.images import Images, evaluate
from mrisr.evaluation.report import as_markdown, means_tables, patients_table
from mrisr.models.card import gains, read_card
from mrisr.models.store import load_model, write_card
from tests.evaluation.conftest import METHODS

CPU = Switches(device="cpu")
INTO_CARD = Switches(device="cpu", into_card=True)
NAMES = [m["name"] for m in METHODS]
Run = Callable[..., Evaluation]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call tells the seconds, and pictures are drawn only where a test looks at the page."""
    monkeypatch.setattr(degraded, "TIMED", 1)
    if "page" not in request.node.name:
        monkeypatch.setattr(Images, "sections", lambda self, done: [])


@pytest.fixture
def compared(models: Path, data: Path, write: Callable[..., Path], out: Path) -> Run:
    """Runs the evaluation file, with changes."""

    def evaluated(switches: Switches = CPU, report: Any = print, **changes: Any) -> Evaluation:
        return evaluate(write(**changes), data, out, switches, report)

    return evaluated


def test_the_report(compared: Run, out: Path) -> None:
    lines: list[str] = []
    done = compared(report=lines.append)
    assert len(lines) == 2 * 2 * len(METHODS)  # patients, factors
    names = ["cases", "results.csv", "results.html", "results.json", "results.md"]
    assert sorted(p.name for p in out.iterdir()) == names
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [(r["case"], r["factor"], r["method"]) for r in rows] == [
        (case, factor, name)
        for case in ("unseen", "unseen-too")
        for factor in ("2", "4")
        for name in NAMES
    ]
    content = json.loads((out / "results.json").read_text())
    for k, (row, case) in enumerate(zip(rows, content["cases"], strict=True)):
        slices = case["slices"]["psnr"]
        assert float(row["psnr"]) == pytest.approx(sum(slices) / len(slices), abs=1e-3)
        assert float(row["psnr"]) == pytest.approx(case["means"]["psnr"], abs=1e-4)
        assert int(row["slices"]) == len(slices)
        base = rows[k - k % len(NAMES)]  # bicubic-sharp
        gain = float(row["psnr"]) - float(base["psnr"])
        assert float(row["gain"]) == pytest.approx(gain, abs=1e-3)
    assert content["command"] == (
        "mrisr evaluate --config configs/evaluate.yaml --model partdiff-inplane --data CACHE --output OUT"
    )
    assert [m["name"] for m in content["methods"]] == NAMES
    assert content["machine"]["torch"] == torch.__version__
    assert content["methods"][2]["sha256"] == load_model("partdiff-inplane").card.sha256
    text = (out / "results.md").read_text()
    assert text == as_markdown(done)
    for words in ("x2: mean over 2 patients", "x4: difference from zero", "1 degree of freedom"):
        assert words in text
    table = text.split("### x4: mean")[1].split("###")[0]
    best = max(done.at(Scale("degraded", 4)), key=lambda r: r.means["psnr"].value)
    assert f"**{best.means['psnr'].value:.2f} ± " in table


@pytest.mark.slow
def test_the_page_needs_nothing_else(compared: Run, out: Path) -> None:
    name = "a <b>method</b> | bold"
    compared(methods=[*METHODS, {"name": name, "model": "lanczos"}], factors=[2])
    page = (out / "results.html").read_text()
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 1 + 2  # error against steps, a picture for each stack
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert not re.search(r"https?://|@import|url\(", page)
    assert name not in page
    assert "a &lt;b&gt;method&lt;/b&gt; | bold" in page
    assert "a <b>method</b> / bold" in (out / "results.md").read_text()


def test_a_second_run_makes_only_what_is_missing(
    compared: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str, str]] = []
    anew = DegradedCase.score

    def counted(self: DegradedCase, method: Any, scale: Any) -> Any:
        calls.append((self.name, method.name, str(scale)))
        return anew(self, method, scale)

    monkeypatch.setattr(DegradedCase, "score", counted)
    first = compared()
    assert len(calls) == 20
    calls.clear()
    assert compared().rows == first.rows
    assert calls == []
    next(out.glob("cases/unseen-t2w*x4-three*.json")).unlink()
    compared(methods=[*METHODS[:2], {"name": "default", "seed": 5}, *METHODS[3:]])
    expected = [(c, "default", f) for c in ("unseen", "unseen-too") for f in ("x2", "x4")]
    assert sorted(calls) == sorted([("unseen", "three", "x4"), *expected])
    calls.clear()
    compared(crop=40, factors=[2], cases=["unseen"])
    assert sorted(m for _, m, _ in calls) == sorted(NAMES)


def fail_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have one method fail on one stack at one scale."""
    working = DegradedCase.score

    def failing(self: DegradedCase, method: Any, scale: Scale) -> Any:
        if (self.name, method.name, scale.factor) == ("unseen", name, 2.0):
            raise RuntimeError("a defect\nof two lines")
        return working(self, method, scale)

    monkeypatch.setattr(DegradedCase, "score", failing)


def test_one_failure_does_not_stop_the_others(
    models: Path,
    data: Path,
    write: Callable[..., Path],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Command,
) -> None:
    working = DegradedCase.score
    fail_on(monkeypatch, "three")
    arguments = ("evaluate", "--config", write(), "--data", data, "--output", out)
    code, text, errors = run(*arguments, "--device", "cpu")
    assert code == 8
    assert "failed: unseen t2w_axial x2, three: RuntimeError: a defect of two lines" in errors
    assert "1 results are missing" in errors
    assert "- three, unseen t2w_axial x2: RuntimeError: a defect of two lines" in text
    assert len((out / "results.csv").read_text().splitlines()) == 20
    monkeypatch.setattr(DegradedCase, "score", working)
    assert run(*arguments, "--device", "cpu")[0] == 0

    def full(self: DegradedCase, method: Any, scale: Scale) -> Any:
        raise OutputError("full")

    monkeypatch.setattr(DegradedCase, "score", full)
    with pytest.raises(OutputError):
        evaluate(write(crop=40), data, out, CPU)


def test_what_is_refused_before_any_work(compared: Run, out: Path) -> None:
    with pytest.raises(UsageError, match="was trained on seen"):
        compared(cases=["unseen", "seen"])
    with pytest.raises(InputError, match="stacks of nobody"):
        compared(cases=["nobody"])
    assert not out.exists()


def test_data_and_output_that_are_none(
    models: Path, data: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="index"):
        evaluate(write(), tmp_path / "none", tmp_path / "out", CPU)
    with pytest.raises(OutputError):
        evaluate(write(), data, write() / "out", CPU)


def test_a_missing_model_can_be_left_out_and_is_named(compared: Run) -> None:
    methods = [*METHODS[:3], {"name": "gone", "model": "no"}]
    changes = {"reference": "gone", "pictures": ["default", "gone"], "factors": [2]}
    done = compared(Switches(device="cpu", skip_missing=True), methods=methods, **changes)
    assert {r.method for r in done.results} == set(NAMES[:3])
    assert "left out: gone (no model 'no')" in as_markdown(done)


def test_a_single_patient_has_no_interval(compared: Run) -> None:
    text = as_markdown(compared(cases=["unseen"], factors=[2]))
    assert "no interval and no test" in text
    assert "±" not in text.split("### x2: mean")[1].split("###")[0]


# --- cards ----------------------------------------------------------------------------------------


def test_figures_go_into_the_card_when_asked(own: Path, compared: Run) -> None:
    path = own / "partdiff-inplane.json"
    before = path.read_bytes()
    done = compared()
    assert path.read_bytes() == before
    compared(INTO_CARD)
    card = read_card(path)
    assert load_model("partdiff-inplane").card == card  # the weights still belong to it
    figures = card.figures
    assert (figures["default"], figures["baseline"]) == ("default", "bicubic-sharp")
    assert {r["method"] for r in figures["means"]} == {*NAMES} - {"zero"}  # another model's
    rows = {(r.method, r.scale.factor): r for r in done.rows}
    assert list(gains(figures)) == [2.0, 4.0]
    for factor, gain in gains(figures).items():
        found = rows["default", factor].gain
        assert found is not None
        assert gain == pytest.approx(found.value, abs=1e-3)
    assert len(patients_table(figures).cells) == 4
    assert [len(t.cells) for t in means_tables(figures)] == [4, 4]


def test_figures_of_real_scans_stand_beside_the_others(own: Path, compared: Run) -> None:
    compared(INTO_CARD, factors=[2])
    done = compared(INTO_CARD, factors=[2], scoring="measured")
    card = read_card(own / "partdiff-inplane.json")
    scan = card.figures.pop("measured")
    assert scan["cases"] == ["unseen", "unseen-too"]
    (row,) = (r for r in scan["means"] if r["method"] == scan["default"])
    (found,) = (r for r in done.rows if r.method == "default")
    assert row["noise"] == pytest.approx(found.means["noise"].value, rel=1e-4)
    assert "gain" not in row
    assert list(gains(card.figures)) == [2.0]


def test_a_comparison_fills_the_cards_that_are_its_own(own: Path, compared: Run) -> None:
    """Not those that it samples only otherwise than by default, nor those that another command has filled."""
    methods = [
        {"name": "bicubic-sharp", "model": "bicubic-sharp"},
        {"name": "zero", "model": "zero-inplane"},
        {"name": "three", "model": "partdiff-inplane", "steps": 3},
    ]
    changes: dict[str, Any] = {"methods": methods, "model": None, "reference": None}
    for _ in range(2):  # the second time over figures of its own
        compared(INTO_CARD, **changes)
    zero = read_card(own / "zero-inplane.json")
    assert zero.figures["default"] == "zero"
    assert list(gains(zero.figures)) == [2.0, 4.0]
    assert read_card(own / "partdiff-inplane.json").figures == {}
    other = zero.model_copy(update={"figures": zero.figures | {"command": "mrisr evaluate other"}})
    write_card(other, own / "zero-inplane.json")
    with pytest.raises(UsageError, match="--card"):
        compared(INTO_CARD, **changes)
    assert read_card(own / "zero-inplane.json") == other


def test_a_card_needs_a_model_and_its_default(own: Path, compared: Run) -> None:
    named = [{"name": "a", "model": "zero-inplane", "steps": 2}]
    with pytest.raises(UsageError, match="--card: name the model"):
        compared(INTO_CARD, methods=named, model=None, reference=None)
    with pytest.raises(UsageError, match="by its defaults"):
        compared(INTO_CARD, methods=[{"name": "a", "steps": 2}], reference=None)


def test_a_card_needs_the_baseline_on_every_stack(
    own: Path, compared: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is there all the same, and the card is what it was."""
    fail_on(monkeypatch, "bicubic-sharp")
    before = (own / "partdiff-inplane.json").read_bytes()
    with pytest.raises(
        UsageError, match=r"--card: bicubic-sharp has no PSNR of unseen .* x2, "
    ) as error:
        compared(INTO_CARD, factors=[2])
    assert "\n" not in str(error.value)
    assert (out / "results.md").exists()
    assert (own / "partdiff-inplane.json").read_bytes() == before


def test_error_against_steps_joins_what_differs_in_steps_alone(compared: Run) -> None:
    methods = [*METHODS, {"name": "two", "steps": 2}, {"name": "four", "steps": 4, "eta": 1}]
    done = compared(methods=methods, factors=[2], cases=["unseen"])
    axis = figures.against_steps(done, Scale("degraded", 2.0)).axes[0]
    lines = {str(line.get_label()): list(line.get_xdata()) for line in axis.get_lines()}
    assert lines["partdiff-inplane, deterministic"] == [1, 2]
    assert lines["partdiff-inplane, eta 1"] == [3, 4]
    assert lines["zero"] == [1]
    assert lines["projected"] == [0, 1]  # a level across the axis
