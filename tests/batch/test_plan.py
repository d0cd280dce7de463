"""What a rerun makes again, and what it keeps: by inputs, models, parameters and outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import mrisr
from mrisr.batch.chunk import read_chunk
from mrisr.batch.names import HIDDEN, STAGES, chunk_file, marker
from mrisr.batch.plan import Plan
from mrisr.core.errors import InputError, OutputError, UsageError
from tests.batch.trees import SETTINGS, cheap_stages, plan_of, run_all, tree, write_rows

A, B = "sub-a", "sub-b/ses-2"


@dataclass
class Batch:
    """Two studies, the first with all that a study may have."""

    folder: Path
    made: list[str]
    settings: dict[str, Any] = field(default_factory=lambda: {**SETTINGS})

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def file(self, name: str) -> Path:
        return self.folder / "data" / f"{name}.nii.gz"

    def plan(self, chunk: int = 1) -> Plan:
        return plan_of(self.folder / "m.csv", self.out, self.settings, chunk)

    def again(self) -> set[str]:
        """What another run makes."""
        self.made.clear()
        run_all(self.plan(), self.out)
        return set(self.made)


@pytest.fixture
def batch(tmp_path: Path, models: Path) -> Iterator[Batch]:
    """A batch that has run."""
    with cheap_stages() as made:
        batch = Batch(tmp_path, made)
        (tmp_path / "data").mkdir()
        for name in ("a", "cor", "z", "b"):
            batch.file(name).write_text(name)
        rows = [
            {"subject": "a", "axial": "data/a.nii.gz", "coronal": "data/cor.nii.gz"},
            {"subject": "b", "session": "2", "axial": "data/b.nii.gz"},
        ]
        rows[0]["labels"] = "data/z.nii.gz"
        write_rows(tmp_path / "m.csv", *rows)
        batch.again()
        yield batch


VOLUMES = ("source", "throughplane", "inplane-x2")


def parts(study: str, *stages: str, volumes: tuple[str, ...] = VOLUMES) -> set[str]:
    """Names of parts, of the stages that have one for each volume."""
    return {
        f"{study} {stage}/{volume}"
        for stage in stages
        for volume in volumes
        if (stage, volume) != ("upsample", "source")
    }


def page(*studies: str) -> set[str]:
    return {f"{study} report/page" for study in studies}


def test_all_is_made_once(batch: Batch) -> None:
    assert len(batch.made) == len(set(batch.made))
    expected = parts(A, "upsample", "segment", "score") | parts(B, "upsample", "segment")
    expected |= {f"{A} convert/{role}" for role in ("axial", "coronal", "labels")}
    assert set(batch.made) == expected | {f"{B} convert/axial"} | page(A, B)
    assert batch.again() == set()


def test_another_time_is_no_change(batch: Batch) -> None:
    for path in (batch.file("a"), batch.out / A / "upsampled" / "throughplane.nii.gz"):
        os.utime(path, (1, 1))
    assert batch.again() == set()


def write(name: str) -> Callable[[Batch], object]:
    return lambda batch: batch.file(name).write_text("new content")


def set_upsampling(**changes: Any) -> Callable[[Batch], object]:
    def change(batch: Batch) -> None:
        upsampled = batch.settings["upsampled"]
        changed = {**upsampled["inplane-x2"], **changes}
        batch.settings["upsampled"] = {**upsampled, "inplane-x2": changed}

    return change


IN_PLANE = ("inplane-x2",)
OF_IN_PLANE = parts(A, "upsample", "segment", "score", volumes=IN_PLANE)
OF_IN_PLANE |= parts(B, "upsample", "segment", volumes=IN_PLANE) | page(A, B)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (write("a"), {f"{A} convert/axial", *parts(A, "upsample", "segment", "score"), *page(A)}),
        (write("cor"), {f"{A} convert/coronal", *page(A)}),
        (write("z"), {f"{A} convert/labels", *parts(A, "score"), *page(A)}),
        (set_upsampling(seed=1), OF_IN_PLANE),
        (set_upsampling(model="zero-inplane"), OF_IN_PLANE),
    ],
)
def test_a_change_makes_what_depends_on_it(
    batch: Batch, change: Callable[[Batch], object], expected: set[str]
) -> None:
    change(batch)
    assert batch.again() == expected
    assert batch.again() == set()


def test_another_device_makes_all_volumes(batch: Batch) -> None:
    batch.settings["device"] = "cuda"
    volumes = parts(A, "upsample", "segment", "score") | parts(B, "upsample", "segment")
    assert batch.again() == volumes | page(A, B)


def test_a_model_trained_anew_counts_as_another(
    batch: Batch, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRISR_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    for file in models.glob("partdiff-*"):
        (tmp_path / "models" / file.name).write_bytes(file.read_bytes())
    assert batch.again() == set()
    card = tmp_path / "models" / "partdiff-inplane.json"
    prose = card.read_text().replace('"description": ""', '"description": "told anew"')
    card.write_text(prose)
    assert batch.again() == set()
    card.write_text(prose.replace('"default_steps": 1', '"default_steps": 2'))
    assert batch.again() == OF_IN_PLANE


def test_another_version_makes_all(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = set(batch.made)
    monkeypatch.setattr(mrisr, "__version__", "99.0")
    assert batch.again() == everything


def test_outputs_that_are_gone_or_altered_are_made_again(batch: Batch) -> None:
    before = tree(batch.out)
    (batch.out / A / "source" / "axial.nii.gz").unlink()
    (batch.out / B / "upsampled" / "inplane-x2.nii.gz").write_text("tampered")
    assert batch.again() == {f"{A} convert/axial", f"{B} upsample/inplane-x2"}
    assert tree(batch.out) == before
    (batch.out / B / "status" / "segment.json").write_text("{")
    assert batch.again() == parts(B, "segment")


def test_what_is_not_asked_for_any_more_is_removed(batch: Batch) -> None:
    upsampled = batch.settings["upsampled"]
    batch.settings["upsampled"] = {"throughplane": upsampled["throughplane"]}
    assert batch.again() == page(A, B)
    assert not list(batch.out.rglob("inplane-x2*"))
    batch.settings["zones"] = None
    assert batch.again() == page(A, B)
    assert not (batch.out / A / "zones").exists()
    assert not (batch.out / A / "status" / "segment.json").exists()
    assert batch.again() == set()


def test_markers_tell_snakemake_what_is_to_be_done(batch: Batch) -> None:
    def marked() -> dict[str, list[str]]:
        return {n: [s for s in STAGES if marker(batch.out, s, n).exists()] for n in ("001", "002")}

    batch.plan()
    assert marked() == {"001": list(STAGES), "002": list(STAGES)}
    batch.file("z").write_text("other labels")
    set_upsampling(seed=1)(batch)
    batch.plan()
    assert marked() == {"001": [], "002": ["convert"]}


def test_a_chunk_file_changes_only_with_its_content(batch: Batch) -> None:
    path = chunk_file(batch.out, "001")
    before = path.stat().st_mtime_ns
    batch.plan()
    assert path.stat().st_mtime_ns == before
    plan = batch.plan(chunk=2)
    assert [p.name for p in sorted(path.parent.iterdir())] == ["001.json"]
    assert read_chunk(path) == plan.chunks["001"]
    assert all(not plan.todo[study] for study in (A, B)), "chunks do not decide results"


def test_digests_are_not_taken_again(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.plan()
    read: list[Path] = []
    monkeypatch.setattr(
        "mrisr.batch.digest.file_sha256", lambda path: read.append(path) or "0" * 64
    )
    batch.plan()
    assert read == []
    batch.file("b").write_text("longer than before")
    batch.plan()
    assert read == [batch.file("b")]


def test_refused_before_anything_is_written(tmp_path: Path, models: Path) -> None:
    out = tmp_path / "out"
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "out/a.nii.gz"})
    (tmp_path / "file").write_text("")
    with cheap_stages():
        with pytest.raises(InputError, match="outside of the output"):
            plan_of(tmp_path / "m.csv", out)
        with pytest.raises(OutputError, match="expected a folder"):
            plan_of(tmp_path / "m.csv", tmp_path / "file")
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "a.nii.gz"})
    upsampled = {"x": {"job": "throughplane", "method": "nowhere"}}
    with cheap_stages(), pytest.raises(UsageError, match="nowhere-throughplane"):
        plan_of(tmp_path / "m.csv", out, {"upsampled": upsampled})
    missing = {"zones": {"bundle": str(tmp_path / "none")}}
    with pytest.raises(UsageError, match="folder of a model"):
        plan_of(tmp_path / "m.csv", out, missing)
    assert not out.exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path, models: Path) -> None:
    os.mkfifo(tmp_path / "a.nii.gz")
    write_rows(tmp_path / "m.csv", {"subject": "a", "axial": "a.nii.gz"})
    with cheap_stages():
        plan = plan_of(tmp_path / "m.csv", tmp_path / "out")
    assert plan.studies[0].of("convert")[0].inputs == {"axial": None}


def test_nothing_of_this_machine_outside_the_hidden_folder(batch: Batch) -> None:
    for path in batch.out.rglob("*.json"):
        if HIDDEN not in path.parts:
            assert str(batch.folder) not in path.read_text(), path
