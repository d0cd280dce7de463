"""The manifest: what it may say, how its faults are told, and that it comes back as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrisr.batch.manifest import (
    ManifestError,
    StackSource,
    Study,
    read_manifest,
    write_manifest,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_studies(tmp_path: Path) -> None:
    text = "\ufeffsubject,session,axial,coronal,sagittal,labels,axial_series\n"
    text += "a,1,data/a 1.nii.gz,,,z.nii,\n\nb,,/abs/exam,cor.mha,,,1.2.3\n"
    first, second = read_manifest(written(tmp_path, text))
    assert first.folder == "sub-a/ses-1"
    assert first.sources == {
        "axial": StackSource(tmp_path / "data/a 1.nii.gz"),
        "labels": StackSource(tmp_path / "z.nii"),
    }
    assert second.folder == "sub-b"
    assert second.sources["axial"] == StackSource(Path("/abs/exam"), "1.2.3")


def test_comes_back_as_written(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    exam = tmp_path / "exam, with a comma"
    studies = [
        Study(
            "a",
            "x",
            {"axial": StackSource(exam, "1.2.3"), "coronal": StackSource(tmp_path / "cor")},
        ),
        Study("b", "", {"axial": StackSource(tmp_path / "b.nii")}),
    ]
    path = tmp_path / "lists" / "m.csv"
    write_manifest(path, studies)
    back = read_manifest(path)
    assert [s.folder for s in back] == ["sub-a/ses-x", "sub-b"]
    assert back[0].sources["axial"].path.resolve() == exam
    assert back[0].sources["axial"].series == "1.2.3"
    assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["no column subject, axial"]),
        ("subject,axail\na,b\n", ["no column axial", "unknown column 'axail'"]),
        ("subject,axial,axial\n", ["twice"]),
        ("subject,axial\n", ["no study"]),
        ("subject,axial\na\n", ["line 2: expected as many cells"]),
        ("subject,axial\na,x,y\n", ["line 2: expected as many cells"]),
        (
            "subject,session,axial\na/b,,x\n..,,x\na,ses 1,x\n-a,,x\n,,x\n",
            [f"line {n}:" for n in range(2, 7)],
        ),
        ("subject,axial\na,x\nA,y\nb,\n", ["line 3: sub-A stands in line 2", "line 4: axial"]),
        ("subject,session,axial\na,1,x\na,1,y\na,2,x\n", ["line 3: sub-a/ses-1"]),
        ("subject,axial,coronal,coronal_series\na,x,,5\n", ["a series without coronal"]),
        ('subject,axial\na,"x\n', ["line"]),
    ],
)
def test_each_fault_has_a_line(tmp_path: Path, text: str, faults: list[str]) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, text))
    assert len(caught.value.faults) == len(faults), caught.value.faults
    for fault, words in zip(caught.value.faults, faults, strict=True):
        assert words in fault
        assert "\n" not in fault


def test_missing_or_binary(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ManifestError):
            read_manifest(path)
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "m.csv")
