"""``mrisr analyze`` from the command line: arguments arrive, errors are one line with their exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mrisr.cli import app
from mrisr.core.errors import InputError, UsageError

runner = CliRunner()


def call(*arguments: object) -> str:
    result = runner.invoke(app, ["analyze", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_latents(data: Path, tmp_path: Path) -> None:
    common = ("latents", "--data", data, "--output", tmp_path, "--factor", 4, "--slices", 1)
    text = call(*common, "--job", "throughplane", "--cases", "seen, unseen")
    assert "seen t2w_coronal: 1 slices" in text
    assert json.loads((tmp_path / "latents.json").read_text())["patients"] == ["seen", "unseen"]


@pytest.mark.parametrize(
    "eta", ["--eta", pytest.param("--churn", marks=pytest.mark.slow)]
)  # its name, and what it was called before
def test_schedule_and_steps(models: Path, data: Path, tmp_path: Path, eta: str) -> None:
    common = ("--model", "zero-inplane", "--data", data, "--factor", 2, "--slices", 1, "--crop", 32)
    common += ("--device", "cpu", "-q", eta, 1, "--output", tmp_path)
    text = call("schedule", *common, "--steps", 2, "--criterion", "psnr", "--write", tmp_path)
    assert "zero-inplane, x2, 2 steps, by psnr: even 1, eta 1" in text
    assert (tmp_path / "model.safetensors").exists()
    assert "| 2 steps | 2 |" in call("steps", *common, "--steps", "1,2", "--readers")
    for name in ("schedule", "steps"):
        assert " --eta 1 " in json.loads((tmp_path / f"{name}.json").read_text())["command"]
    assert (tmp_path / "readers.html").exists()


def test_errors_reach_the_user(models: Path, data: Path, tmp_path: Path) -> None:
    out = ("--output", tmp_path / "out")
    model = ("--model", "partdiff-inplane", "--factor", "2", "--data", data, *out)
    with pytest.raises(UsageError, match="not both"):
        call("steps", *model, "--eta", 1, "--churn", 1)
    with pytest.raises(InputError, match="index"):
        call("latents", "--data", tmp_path, "--job", "inplane", "--factor", 2, *out)
    with pytest.raises(UsageError, match="crop: expected at least 32, found 8"):
        call("steps", *model, "--crop", 8)
    with pytest.raises(UsageError, match="eta: expected 0 to 1, found 2"):
        call("schedule", *model, "--steps", 2, "--eta", 2)
    assert not (tmp_path / "out").exists()
