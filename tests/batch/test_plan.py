"""What may be asked of a batch, and what a rerun makes again: by inputs, models, parameters, outputs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mrisr
from mrisr.batch.names import STATUS, chunk_file
from mrisr.batch.plan import read_plan
from mrisr.batch.settings import BatchSettings, load_batch
from mrisr.core.errors import InputError, OutputError, UsageError
from tests.batch.conftest import (
    SETTINGS,
    Batch,
    parts_of,
    plan_of,
    states_of,
    tree,
    write_rows,
    write_study,
)

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
THROUGH: dict[str, Any] = {"job": "throughplane"}
A, B = "sub-a", "sub-b/ses-2"
VOLUMES = ("source", "throughplane", "inplane-x2")


def parts(study: str, *stages: str, volumes: tuple[str, ...] = VOLUMES) -> set[str]:
    """Names of parts, of the stages that have one for each volume, and of the page."""
    named = {f"{study} {stage}/{volume}" for stage in stages for volume in volumes}
    return named - {f"{study} upsample/source"} | {f"{study} report/page"}


EVERYTHING = parts(A, "upsample", "segment", "score") | parts(B, "upsample", "segment")
EVERYTHING |= {f"{A} convert/{role}" for role in ("axial", "coronal", "labels")} | {
    f"{B} convert/axial"
}


def test_all_is_made_once(batch: Batch) -> None:
    made = {f"{study} {part}" for study in (A, B) for part in parts_of(batch.out / study)}
    assert made == EVERYTHING
    assert set(states_of(batch.out / A).values()) == {"done"}
    for path in ("data/a/t2w_ax.nii.gz", f"out/{A}/upsampled/throughplane.nii.gz"):
        os.utime(batch.folder / path, (1, 1))
    assert batch.todo() == set()
    assert not list(chunk_file(batch.out, "x").parent.iterdir())


def write(name: str) -> Callable[[Batch], object]:
    return lambda batch: (batch.folder / "data" / f"{name}.nii.gz").write_text("new content")


def set_upsampling(**changes: Any) -> Callable[[Batch], object]:
    return lambda batch: batch.settings["upsampled"]["inplane-x2"].update(changes)


IN_PLANE = ("inplane-x2",)
OF_IN_PLANE = parts(A, "upsample", "segment", "score", volumes=IN_PLANE)
OF_IN_PLANE |= parts(B, "upsample", "segment", volumes=IN_PLANE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            write("a/t2w_ax"),
            {
                f"{A} convert/axial",
                f"{A} convert/labels",
                *parts(A, "upsample", "segment", "score"),
            },
        ),
        (write("a/t2w_cor"), {f"{A} convert/coronal", *parts(A)}),
        (write("a/zones"), {f"{A} convert/labels", *parts(A, "score")}),
        (set_upsampling(seed=1), OF_IN_PLANE),
        (set_upsampling(model="zero-inplane"), OF_IN_PLANE),
        (
            lambda batch: batch.settings.update(device="cuda"),
            {name for name in EVERYTHING if " convert/" not in name},
        ),
        (
            lambda batch: (batch.out / B / STATUS).write_text("{"),
            {name for name in EVERYTHING if name.startswith(B)},
        ),
    ],
)
def test_a_change_makes_what_depends_on_it(
    batch: Batch, change: Callable[[Batch], object], expected: set[str]
) -> None:
    change(batch)
    assert batch.todo() == expected


def test_a_model_trained_anew_counts_as_another(
    batch: Batch, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRISR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    for file in models.glob("partdiff-*"):
        (tmp_path / "models" / file.name).write_bytes(file.read_bytes())
    assert batch.todo() == set()
    card = tmp_path / "models" / "partdiff-inplane.json"
    prose = card.read_text().replace('"description": ""', '"description": "told anew"')
    card.write_text(prose)
    assert batch.todo() == set()
    card.write_text(prose.replace('"default_steps": 1', '"default_steps": 2'))
    assert batch.todo() == OF_IN_PLANE


def test_another_version_makes_all(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mrisr, "__version__", "99.0")
    assert batch.todo() == EVERYTHING


def test_outputs_that_are_gone_or_altered_are_made_again(batch: Batch) -> None:
    before = tree(batch.out)
    (batch.out / A / "source" / "axial.nii.gz").unlink()
    (batch.out / A / "scores.json").unlink()
    (batch.out / B / "upsampled" / "inplane-x2.nii.gz").write_text("tampered")
    (batch.out / B / "zones" / "source.json").write_text("{}")
    expected = {f"{A} convert/axial", f"{B} upsample/inplane-x2", f"{B} segment/source"}
    kept = (batch.out / A / "upsampled" / "inplane-x2.nii.gz").stat().st_mtime_ns
    assert batch.again() == expected | parts(A) | parts(B)
    assert (batch.out / A / "upsampled" / "inplane-x2.nii.gz").stat().st_mtime_ns == kept
    assert tree(batch.out) == before
    assert batch.todo() == set()


@pytest.mark.slow
def test_what_is_not_asked_for_any_more_is_removed(batch: Batch) -> None:
    del batch.settings["upsampled"]["inplane-x2"]
    assert batch.again() == parts(A) | parts(B)
    assert not list(batch.out.rglob("inplane-x2*"))
    batch.settings["zones"] = None
    assert batch.again() == parts(A) | parts(B)
    assert not (batch.out / A / "zones").exists()
    assert not (batch.out / A / "scores.json").exists()
    assert batch.todo() == set()


def test_chunks_hold_the_studies_with_work_and_decide_nothing(batch: Batch) -> None:
    (batch.out / A / "source" / "labels.nii.gz").unlink()
    batch.plan()
    assert chunk_file(batch.out, "001").read_text().split('"')[1] == A
    batch.settings["zones"] = None
    for size, numbers in ((1, ["001", "002"]), (2, ["001"])):
        plan = plan_of(batch.folder / "m.csv", batch.out, batch.settings, size)
        chunks = chunk_file(batch.out, "x").parent
        assert sorted(path.stem for path in chunks.iterdir()) == numbers
        assert read_plan(batch.out) == plan


def test_digests_are_not_taken_again(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.plan()
    read: list[Path] = []
    monkeypatch.setattr(
        "mrisr.batch.status.file_sha256", lambda *paths: read.extend(paths) or "0" * 64
    )
    batch.plan()
    assert read == []
    changed = batch.folder / "data" / "b" / "t2w_ax.nii.gz"
    changed.write_text("another size than before")
    batch.plan()
    assert read == [changed]


def test_refused_before_anything_is_written(tmp_path: Path, models: Path) -> None:
    out = tmp_path / "out"
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "out/a.nii.gz"})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="outside of the output"):
        plan_of(tmp_path / "m.csv", out)
    with pytest.raises(OutputError, match="expected a folder"):
        plan_of(tmp_path / "m.csv", tmp_path / "file")
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "a.nii.gz"})
    upsampled = {"x": {"job": "throughplane", "method": "nowhere"}}
    with pytest.raises(UsageError, match="nowhere-throughplane"):
        plan_of(tmp_path / "m.csv", out, {**SETTINGS, "upsampled": upsampled})
    with pytest.raises(UsageError, match="folder of a model"):
        plan_of(tmp_path / "m.csv", out, {"zones": {"bundle": str(tmp_path / "none")}})
    assert not out.exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii.gz")
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "a.nii.gz"})
    plan = plan_of(tmp_path / "m.csv", tmp_path / "out")
    assert plan.studies[0].parts[0].inputs == {"axial": None}


def test_another_series_of_a_folder_is_another_input(tmp_path: Path) -> None:
    write_study(tmp_path / "exam", labels=False)
    keys = []
    for series in ("5", "6"):
        row = {"subject": "a", "axial": "exam", "axial_series": series}
        plan = plan_of(write_rows(tmp_path / "m.csv", row), tmp_path / "out")
        keys.append(plan.studies[0].parts[0].key)
    assert keys[0] != keys[1]


# --- settings -------------------------------------------------------------------------------------


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
