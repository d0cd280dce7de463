"""``mrisr analyze`` from the command line: arguments arrive, errors are one line with their exit codes."""

from __future__ import annotations

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


def test_latents(data: Path, tmp_path: Path) -> None:
    common = ("--data", data, "--output", tmp_path, "--factor", 4)
    text = call(
        "latents", *common, "--job", "throughplane", "--cases", "seen, unseen", "--slices", 1
    )
    assert "Suggested: K = " in text
    assert "seen t2w_coronal: 1 slices" in text
    assert json.loads((tmp_path / "latents.json").read_text())["patients"] == ["seen", "unseen"]
    assert "slices" not in call("latents", *common, "--job", "inplane", "--slices", 1, "-q")


def test_schedule(models: Path, data: Path, tmp_path: Path) -> None:
    text = call(
        "schedule", "--model", "partdiff-inplane", "--data", data, "--output", tmp_path / "out",
        "--steps", 2, "--factor", 2, "--slices", 1, "--crop", 32, "--criterion", "spectrum",
        "--eta", 0, "--churn", 1, "--write", tmp_path / "copy", "--device", "cpu", "-q",
    )  # fmt: skip
    assert "partdiff-inplane, x2, 2 steps, by spectrum" in text
    assert (tmp_path / "copy" / "model.safetensors").exists()


def test_steps(models: Path, data: Path, tmp_path: Path) -> None:
    text = call(
        "steps", "--model", "partdiff-inplane", "--data", data, "--output", tmp_path, "--factor", 2,
        "--steps", "1,2", "--slices", 2, "--crop", 48, "--churn", 1, "--readers", "--device", "cpu",
    )  # fmt: skip
    assert "| 2 steps | 2 |" in text
    assert (
        "--steps 1,2 --factor 2 --eta 1 "
        in json.loads((tmp_path / "steps.json").read_text())["command"]
    )
    assert (tmp_path / "readers.html").exists()


def test_errors_reach_the_user(models: Path, data: Path, tmp_path: Path) -> None:
    out = ("--output", tmp_path / "out")
    model = ("--model", "partdiff-inplane", "--factor", "2", "--data", data, *out)
    with pytest.raises(UsageError, match="at least 2"):
        call("schedule", *model, "--steps", 1)
    with pytest.raises(UsageError, match="increasing whole numbers"):
        call("steps", *model, "--steps", "4,2")
    with pytest.raises(InputError, match="index"):
        call("latents", "--data", tmp_path, "--job", "inplane", "--factor", 2, *out)
    assert not (tmp_path / "out").exists()
