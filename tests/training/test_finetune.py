"""Fine-tuning: whom it may be validated on, what it takes from the model, and what the run shows."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mrisr.core.errors import UsageError
from mrisr.data import cache
from mrisr.data.phantom import phantom
from mrisr.io import write_volume
from mrisr.models.card import card_path, read_card
from mrisr.training import train
from mrisr.training.figures import before_after, duration, figures_line
from mrisr.training.finetune import fine_tuning
from tests.training.helpers import rows, smoke


def indexed(folder: Path, *cases: str) -> Path:
    """A cache's index of patients, without their volumes."""
    entries: list[cache.IndexEntry] = [{"case": c, "shape": [1, 8, 8]} for c in cases]
    cache.write_index(folder, entries)
    return folder


def test_a_patient_of_the_base_model_is_no_validation(data: Path, tmp_path: Path) -> None:
    """Nor one of the models before it; said before anything is written."""
    first = train(smoke(iterations=1), data, tmp_path / "first", device="cpu")
    second = smoke(iterations=1, initialize=str(first))
    train(second, data, tmp_path / "second", device="cpu")
    content = smoke(initialize=str(tmp_path / "second"), iterations=1).model_dump()
    content["data"]["validation"] = ("two",)
    third = type(second).model_validate(content)
    with pytest.raises(UsageError, match="smoke was trained on two; validate on other"):
        train(third, data, tmp_path / "third", device="cpu")
    assert not (tmp_path / "third").exists()


def test_what_fine_tuning_takes_from_the_model(tmp_path: Path) -> None:
    card = read_card(card_path("partdiff-inplane"))
    seen, held = card.training.cases[0], card.training.validation_cases[0]
    config = fine_tuning("partdiff-inplane", indexed(tmp_path, seen, held, "a", "b", "c"))
    assert config.data.validation == ("c",)
    assert (config.train.initialize, config.train.lr, config.data.noise) == (card.name, 1e-4, 0.08)
    assert config.diffusion == card.diffusion
    assert card.network == config.network.model_copy(update={"by_noise": True})
    assert config.card.data_licences == card.data_licences
    named = fine_tuning("partdiff-throughplane", tmp_path, ("a", "b"), 7)
    assert (named.data.validation, named.train.iterations) == (("a", "b"), 7)
    assert (named.job, named.data.exclude) == ("throughplane", ())
    for cases in ((seen, *card.training.cases[1:3]), ("a",)):
        with pytest.raises(UsageError, match="to validate on"):
            fine_tuning("partdiff-inplane", indexed(tmp_path, *cases))


def test_what_a_run_shows(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    train(smoke(), data, tmp_path, device="cpu", tensorboard=True, report=lines.append)
    assert lines[0] == "validation: held-out"
    assert lines[1].startswith("validation at step 0: x2 ")
    assert lines[2].startswith("step 5 of 20 (25%): loss ")
    assert [line.endswith("gone, 0 s left") for line in lines if "left" in line][-1]
    first, last = (row for row in rows(tmp_path) if "loss" not in row)
    assert lines[-1] == f"validation at step 20: {figures_line(last)}"
    changes = {name: (a, b, change) for name, a, b, change in before_after(tmp_path)}
    assert changes.keys() == last.keys() - {"step"}
    change = last["x4_psnr"] - first["x4_psnr"]
    assert float(changes["x4_psnr"][2]) == pytest.approx(change, abs=1e-4)
    curves = imread(tmp_path / "curves.png")
    assert curves.shape[1] == 880
    assert float(np.std(curves[:, 440:, :3])) > 0.05  # the right half, of the validation
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert all(name.encode() in events.read_bytes() for name in ("loss", "x2_gain", "x4_psnr"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.6, "5 s"), (61, "1 min 1 s"), (7321, "2 h 2 min")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.slow
def test_from_folder_to_figure(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The released model, which knows no phantoms, restores one better after training on others."""
    for i in range(3):
        (tmp_path / "studies" / f"patient-{i}").mkdir(parents=True)
        volume = phantom((128, 128, 4), spacing=(0.6, 0.6, 3.0), seed=i, noise=0.01)
        write_volume(volume, tmp_path / "studies" / f"patient-{i}" / "t2w.nii.gz")
    folder, data = tmp_path / "mine", tmp_path / "cache"
    assert run("prepare", "--data", tmp_path / "studies", "--output", data)[0] == 0
    arguments = ("--data", data, "--output", folder, "--iterations", 50, "--device", "cpu")
    code, out, told = run("train", "--from", "partdiff-inplane", *arguments)
    assert (code, out.strip()) == (0, str(folder / "model.json"))
    assert told.startswith("validation: patient-2\n")
    changes = {row[0]: float(row[3]) for row in before_after(folder)}
    assert changes["x2_noisy_gain"] > 0.03
    assert json.loads((folder / "model.json").read_text())["name"] == "partdiff-inplane-finetuned"
    study = tmp_path / "studies" / "patient-2" / "t2w.nii.gz"
    used = ("--model", folder, "--scale", 2, "--output", tmp_path / "sr.nii.gz")
    assert run("inplane", study, *used, "--qc", tmp_path / "look.png")[0] == 0
    assert (tmp_path / "look.png").exists()
