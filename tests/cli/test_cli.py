"""The command line: one line per error and its exit code, JSON that is JSON, and the whole chain."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import mrisr
from mrisr.cli import main
from mrisr.cli.cards import card_text, listing
from mrisr.cli.tables import rendered, survey_text
from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume
from mrisr.io.survey import SeriesInfo
from mrisr.models.card import ModelCard, card_path, read_card

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(
    run: Run, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the program in this process, in an empty working folder, on the small models."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return lambda *arguments: Outcome(*run(*arguments))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_volume(phantom((24, 20, 4), spacing=(0.8, 0.8, 3.0)), tmp_path / "t2w.nii.gz")


def refused(outcome: Outcome, code: int, *words: str) -> None:
    """One line on standard error that says the words, nothing on standard output, nothing written."""
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("mrisr: ")
    for word in words:
        assert word in outcome.err
    assert list(Path.cwd().iterdir()) == []


def test_inplane(run: Run, study: Path) -> None:
    done = run("inplane", "--input", study, "--scale", "2.5", "--device", "cpu")
    assert done.code == 0
    assert read_volume("t2w_inplane-x2.5.nii.gz").shape == (60, 50, 4)
    assert done.out.startswith(str(Path.cwd() / "t2w_inplane-x2.5.nii.gz") + ": 60x50x4")
    assert done.out.count("\n") == 1
    assert done.err.splitlines()[-1] == "4 of 4 slices"  # no terminal: plain lines
    assert Path("t2w_inplane-x2.5.json").is_file()


def test_throughplane(run: Run, study: Path) -> None:
    arguments = ("--axial", study, "--factor", 6, "--output", "out.mha", "--qc", "qc.png")
    done = run("throughplane", *arguments, "--slice-thickness", 2.8)
    assert done.code == 0
    assert read_volume("out.mha").shape == (24, 20, 24)
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["out.json", "out.mha", "qc.png"]
    assert run("throughplane", "--axial", study, "--spacing", 1.5, "-q", "-o", "b.nii").code == 0
    assert read_volume("b.nii").shape == (24, 20, 8)


def test_every_option_of_the_contract(run: Run, study: Path) -> None:
    shared = [
        *("--model", "partdiff-JOB", "--steps", 2, "--seed", 3, "--device", "cpu"),
        *("--precision", "fp32", "--tile", 128, "--consistency", 0.5, "--quiet", "--json"),
    ]
    for command, name, more in (
        ("inplane", "--input", ["--scale", 2, "--degradation", "kspace"]),
        ("throughplane", "--axial", ["--factor", 2, "--degradation", "box"]),
    ):
        options = [str(o).replace("JOB", command) for o in shared]
        done = run(command, name, study, *options, *more)
        assert (done.code, done.err) == (0, "")
        record = json.loads(done.out)
        written = Path(record.pop("path"))
        assert json.loads(Path(written.name.partition(".")[0] + ".json").read_text()) == record
        parameters = record["parameters"]
        assert (parameters["steps"], parameters["seed"], parameters["tile"]) == (2, 3, 128)
        assert parameters["degradation"] == more[-1]
        assert record["precision"] == "fp32"


def test_a_bar_on_a_terminal(run: Run, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert run("inplane", "--input", study, "--scale", 2).code == 0
    assert run("inplane", "--input", study, "--scale", 3, "--quiet") == Outcome(0, "", "")


def test_usage_errors(run: Run, study: Path) -> None:
    inplane = ("inplane", "--input", study)
    refused(run(*inplane, "--scale", 9), 1, "scale", "1.5 to 8", "9")
    refused(run(*inplane, "--scale", "much"), 1, "--scale")
    refused(run(*inplane, "--sharpness", 3), 1, "--sharpness")
    refused(run(*inplane, "--precision", "fp8"), 1, "fp8")
    refused(run(*inplane, "--degradation", "box"), 1, "bicubic, kspace", "box")
    refused(run(*inplane, "--device", "tpu"), 1, "tpu")
    refused(run(*inplane, "--model", "best"), 1, "best", "partdiff-inplane")
    refused(run(*inplane, "--model", "partdiff-throughplane"), 1, "for inplane")
    refused(run(*inplane, "--model", "weights.pt"), 1, "safetensors")
    through = ("throughplane", "--axial", study)
    refused(run(*through, "--factor", 3, "--spacing", 1), 1, "not both")
    refused(run(*through, "--factor", 30), 1, "factor", "30")
    refused(run("inplane"), 1, "--input")
    refused(run("sharpen"), 1, "sharpen")


def test_a_defect_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mrisr.io.survey.survey", broken)
    refused(run("info", "x"), 1, "ZeroDivisionError", "MRISR_TRACEBACK")
    monkeypatch.setenv("MRISR_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main()


def test_stopped_by_the_user(run: Run, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mrisr.runs.run.run_files", stopped)
    refused(run("inplane", "--input", study), 1, "stopped")


def test_version_and_help(run: Run) -> None:
    assert run("--version") == Outcome(0, f"{mrisr.__version__}\n", "")
    alone = run()
    assert (alone.code, alone.err) == (0, "")
    assert "mrisr info STUDY" in alone.out
    told = run("inplane", "--help")
    assert told.code == 0
    panels = ("Input", "Output", "Model", "Sampling", "Hardware", "DICOM")
    boxes = (f"─ {panel} ─" for panel in panels)
    places = [told.out.index(text) for text in ("study.nii.gz --scale 2", *boxes)]
    assert places == sorted(places), "an example first, then the boxes"
    assert places[1] < told.out.index("--noise") < places[2] < told.out.index("--scale ", places[2])
    assert "--install-completion" in run("--help").out
    assert set(mrisr.__all__) == set(dir(mrisr))


def test_the_study_is_named_with_or_without_an_option(run: Run, study: Path) -> None:
    options = ("-q", "--factor", 2, "--method", "bspline", "--device", "cpu")
    for number, named in enumerate(([study], ["--input", study], ["--axial", study])):
        assert run("throughplane", *named, *options, "-o", f"{number}.nii").code == 0
    assert Path("0.nii").read_bytes() == Path("1.nii").read_bytes() == Path("2.nii").read_bytes()
    both = run("throughplane", study, "--input", study, "-o", "3.nii")
    assert both.code == 1
    assert "expected one of them" in both.err


def test_view_writes_a_page_that_stands_alone(run: Run, study: Path) -> None:
    bare = ("-q", "--factor", 2, "--method", "bspline", "--device", "cpu", "-o", "thin.nii.gz")
    assert run("throughplane", study, *bare).code == 0
    done = run("view", "thin.nii.gz", "--input", study, "--no-open")
    assert (done.code, done.out) == (0, "thin.html\n"), done.err
    page = Path("thin.html").read_text()
    assert "through-plane ×2" in page
    assert page.count("data:image/jpeg") > 6
    assert "all studies" not in page
    assert "not finished" not in page
    assert run("view", "thin.nii.gz", "--input", study, "--no-open").code == 3, "it exists"
    assert run("view", "thin.nii.gz", "--no-open").code == 2


def test_models(run: Run) -> None:
    done = run("models")
    assert done.code == 0
    for name in ("partdiff-inplane", "partdiff-throughplane", "zero-inplane"):
        assert name in done.out
    names = [card["name"] for card in json.loads(run("models", "--json").out)]
    assert "partdiff-inplane" in names
    card = json.loads(run("models", "partdiff-throughplane", "--json").out)
    assert card["job"] == "throughplane"
    text = run("models", "partdiff-throughplane").out
    assert card["sha256"] in text
    assert "Not for diagnosis" in text
    refused(run("models", "none-such"), 1, "none-such", "partdiff-inplane")
    _, head, body = run("models", "partdiff-throughplane", "--card-md").out.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["pipeline_tag"] == "image-to-image"
    assert "## partdiff-throughplane" in body
    refused(run("models", "--card-md"), 1, "--card-md")


def test_info(run: Run, study: Path, tmp_path: Path) -> None:
    told = run("info", study).out
    assert "24x20x4" in told
    assert f"next: mrisr throughplane --axial {study}" in told
    assert f"next: mrisr inplane --input {study}" in run("info", study.parent).out
    (found,) = json.loads(run("info", study, "--json").out)
    assert (found["plane"], found["shape"]) == ("axial", [24, 20, 4])
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(study.read_bytes()[:-20])
    for path, code in ((tmp_path, 0), (bad, 2)):  # of two volumes one can be used
        found = run("info", path)
        assert (found.code, "problem: " in found.out) == (code, True)
    refused(run("info", tmp_path / "missing"), 2, "missing")


def test_prepare_train_evaluate(run: Run, tmp_path: Path) -> None:
    """From volumes to a model with figures in its card, and to a volume made by that model."""
    data, cache, folder = tmp_path / "data", tmp_path / "cache", tmp_path / "run"
    for i, case in enumerate(("one", "two", "held-out")):
        (data / case).mkdir(parents=True)
        volume = phantom((64, 60, 3), spacing=(0.8, 0.8, 3.0), seed=i, noise=0.01)
        write_volume(volume, data / case / "t2w.nii.gz")
    assert run("prepare", "--data", data, "--output", cache, "--quiet").code == 0
    refused(run("prepare", "--data", data, "--output", cache), 1, "--force")
    config = tmp_path / "smoke.yaml"
    smoke = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())
    smoke["data"]["validation"] = ["held-out"]
    config.write_text(yaml.safe_dump(smoke))
    train = ("train", "--config", config, "--data", cache, "--output", folder, "--device", "cpu")
    done = run(*train, "--quiet")
    assert done.code == 0
    assert Path(done.out.strip()) == folder / "model.json"
    refused(run(*train), 1, "--resume")
    tuned = ("--data", cache, "--output", tmp_path / "tuned", "--device", "cpu", "--iterations", 1)
    refused(run("train", *tuned), 1, "--from MODEL")
    refused(run("train", *train[1:3], *tuned), 1, "go with --from")
    refused(run("train", "--from", folder, *tuned, "--validation", "two"), 1, "trained on two")
    done = run("train", "--from", folder, *tuned)
    assert done.err.startswith("validation: held-out\nvalidation at step 0: x2 ")
    assert f"next: mrisr inplane STUDY --model {tmp_path / 'tuned'}" in done.err
    evaluation = tmp_path / "evaluate.yaml"
    settings = {"job": "inplane", "model": str(folder), "planes": ["axial"], "kind": "bicubic"}
    methods = [{"name": "own"}]
    evaluation.write_text(
        yaml.safe_dump({**settings, "factors": [2], "crop": 48, "methods": methods})
    )
    arguments = ("--config", evaluation, "--data", cache, "--output", tmp_path / "scores", "--card")
    done = run("evaluate", *arguments)
    assert done.code == 0
    assert "| x2 | held-out | own |" in done.out
    card = run("models", folder).out
    assert "held-out figures" in card
    study = data / "held-out" / "t2w.nii.gz"
    assert run("inplane", "-i", study, "--scale", 2, "--model", folder, "--quiet").code == 0


def test_prepare_leaves_out_and_says_so(run: Run, tmp_path: Path) -> None:
    for case in ("good", "bad"):
        (tmp_path / "data" / case).mkdir(parents=True)
        write_volume(phantom((24, 20, 3)), tmp_path / "data" / case / "t2w.nii.gz")
    path = tmp_path / "data" / "bad" / "t2w.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    done = run("prepare", "--data", tmp_path / "data", "--output", "cache")
    assert done.code == 8
    assert "left out: " in done.err
    assert "1 volumes left out" in done.err
    (tmp_path / "nothing").mkdir()
    assert run("prepare", "--data", tmp_path / "nothing", "--output", "other").code == 2
    assert not Path("other").exists()


# --- models and studies as text -------------------------------------------------------------------


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
        f"held-out figures\nby: {scored.figures['command']}",
        "26.50 / 0.8120",
        "28.50 / 0.8120",
        "+1.50",
        "x4, mean over patients",
    ):
        assert words in text


def test_survey_text() -> None:
    assert survey_text([]) == "no volumes found"
    info = SeriesInfo(
        "t2w",
        "dicom",
        plane="axial",
        spacing=(0.75, 0.75, 3.0),
        noise=0.0183,
        notes=("positions win",),
    )
    _, row, note = survey_text([info]).splitlines()
    assert row.split() == "t2w dicom axial 1 - 0.75 x 0.75 x 3 - - - 1.8".split()
    assert note == "note: t2w: positions win"


def test_no_colour_and_no_trailing_blanks(card: ModelCard) -> None:
    text = card_text(card)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert rendered("a", "b") == "a\nb"
