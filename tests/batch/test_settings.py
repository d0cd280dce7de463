"""What may be asked of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrisr.batch.settings import BatchSettings, load_batch
from mrisr.core.errors import InputError, UsageError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
THROUGH: dict[str, Any] = {"job": "throughplane"}


def test_the_file_says_what_holds_without_it() -> None:
    written, default = load_batch(CONFIGS / "batch.yaml"), load_batch(None)
    assert written.segmented == default.segmented == ("source", "throughplane", "inplane-x2")
    assert written.model_copy(update={"zones": default.zones}) == default


def test_zones_are_those_of_axial_volumes_unless_named() -> None:
    settings = BatchSettings(
        upsampled={"cor": {"job": "throughplane", "of": "coronal"}, "ax": THROUGH}
    )
    assert settings.segmented == ("source", "ax")
    assert settings.source_of("cor") == "coronal"
    assert BatchSettings(zones=None).segmented == ()


def test_options_keep_their_old_names_and_the_batch_device() -> None:
    old = {**THROUGH, "update": "published", "churn": 0.5}
    settings = BatchSettings(upsampled={"a": old, "b": {**THROUGH, "device": "cpu"}}, device="cuda")
    volume = settings.upsampling("a")
    assert (volume.sampler, volume.eta, volume.device) == ("published", 0.5, "cuda")
    assert settings.upsampling("b").device == "cpu"
    assert settings.segmenting().device == "cuda"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("upsampled: {a: {job: inplane}}", "scale"),
        ("upsampled: {a: {job: throughplane, scale: 2}}", "scale"),
        ("upsampled: {a: {job: throughplane, factor: 2, spacing: 1}}", "not both"),
        ("upsampled: {a: {job: throughplane, model: x, method: sr3}}", "not both"),
        ("upsampled: {../a: {job: throughplane}}", "upsampled.../a"),
        ("upsampled: {source: {job: throughplane}}", "another name"),
        ("upsampled: {Zones: {job: throughplane}}", "another name"),
        ("upsampled: {a: {job: throughplane}, A: {job: throughplane}}", "upper and lower"),
        ("zones: {volumes: [sourec]}", "sourec"),
        ("zones: {bundle: a, nnunet: b}", "only one"),
        ("zones: {table: {1: TZ, 2: PZ}}", "bundle"),
        ("zones: {bundle: a, table: {1: TZ}}", "PZ"),
        ("zone: {}", "zone"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "batch.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_batch(path)
    assert words in str(caught.value)


def test_models_are_found_from_any_folder(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages work in another folder than the command that was given a relative path."""
    monkeypatch.chdir(models.parent)
    path = tmp_path / "batch.yaml"
    path.write_text(
        f"upsampled: {{a: {{job: throughplane, model: {models.name}/zero-throughplane.json}}}}"
    )
    assert load_batch(path).upsampled["a"].model == str(models / "zero-throughplane.json")
    path.write_text("upsampled: {a: {job: throughplane, model: zero-throughplane}}")
    assert load_batch(path).upsampled["a"].model == "zero-throughplane"
    path.write_text("upsampled: {a: {job: throughplane, model: nowhere}}")
    with pytest.raises(UsageError, match="no model 'nowhere'"):
        load_batch(path)
