"""What is found in folders and manifests, whose it is, and what is left out."""

import os
from pathlib import Path

import pytest

from mrisr.core.errors import InputError
from mrisr.data import cache
from mrisr.data.phantom import phantom
from mrisr.data.prepare import prepare
from mrisr.data.sources import Entry, find_sources
from mrisr.io import write_volume
from mrisr.io.tables import ManifestError
from tests.data.conftest import write
from tests.dicom.synthetic import hospital_series


@pytest.mark.parametrize(
    ("mark", "encoding", "ends"),
    [
        (",", "utf-8-sig", "\r\n"),
        (";", "utf-8-sig", "\r\n"),
        ("\t", "utf-16", "\r\n"),
        (",", "utf-16", "\n"),
    ],
)
def test_manifests_of_spreadsheets(study: Path, mark: str, encoding: str, ends: str) -> None:
    text = f"case,path{ends}Müller,one/t2w_ax.nii.gz{ends}".replace(",", mark)
    (study / "m.csv").write_bytes(text.encode(encoding))
    assert find_sources(study / "m.csv") == [Entry("Müller", "t2w_ax", study / "one/t2w_ax.nii.gz")]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff\ufeffcase,path\np,{}\n",
        "sep=;\r\ncase;path\r\np;{}\r\n",
        '"sep=,"\ncase,path\np,{}\n',
        "\n\ncase,path\np,{}\n",
        'case, path\np, "{}"\n',
        " case\xa0,\u200bpath \np,{}\u200b\xa0\n",
        "case,path\np,{}\n,\n,,,\n",
        "case,path,,\np,{},,\n",
        "case,path\np,{},,\n",
        'case;path;"note, free"\np;{};\n',
    ],
)
def test_what_spreadsheets_leave_around_cells(study: Path, text: str) -> None:
    path = study / "m.csv"
    path.write_text(text.format("one/t2w_ax.nii.gz"), encoding="utf-8", newline="")
    assert find_sources(path) == [Entry("p", "t2w_ax", study / "one/t2w_ax.nii.gz")]


def test_columns_are_told_apart_as_they_are_written(study: Path) -> None:
    (study / "m.csv").write_text("case,pa\u200bth\n")
    with pytest.raises(InputError, match=r"columns case, path, found 'case', 'pa\\u200bth'"):
        find_sources(study / "m.csv")


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        (b"p,one/t2w_ax.nii.gz\nM\xfcller,x\n", ["line 3: no UTF-8 text"]),
        (b"p,one/t2w_ax.nii.gz\nq\n", ["line 3: expected as many cells"]),
        (b"p,a,b\n", ["line 2: expected as many cells"]),
        (b"p,\n\n,a\n", ["line 2: path: expected one", "line 4: case: expected one"]),
        (b"p,a/t2.nii\nq,a/t2.nii\np,b/t2.nii\n", ["line 4: p t2 stands in line 2 already"]),
    ],
)
def test_each_fault_of_a_manifest_has_a_line(study: Path, rows: bytes, faults: list[str]) -> None:
    path = study / "m.csv"
    path.write_bytes(b"case,path\n" + rows)
    with pytest.raises(ManifestError, match=r"m\.csv: expected a manifest of volumes") as caught:
        find_sources(path)
    assert len(caught.value.faults) == len(faults)
    for fault, words in zip(caught.value.faults, faults, strict=True):
        assert words in fault


def test_hidden_files_are_no_volumes(study: Path, tmp_path: Path) -> None:
    """Such as what a killed run leaves under its temporary name."""
    whole = find_sources(study)
    volume = (study / "one" / "t2w_ax.nii.gz").read_bytes()
    (study / "one" / ".t2w_ax.nii.gz.mrisr-tmp-1-00000000-ab.nii.gz").write_bytes(volume)
    (study / ".t2w.nii.gz").write_bytes(volume)
    for folder in (study / ".hidden", study / "one" / ".series.mrisr-tmp-1-00000000-ab"):
        folder.mkdir()
        (folder / "t2w.nii.gz").write_bytes(volume)
        (folder / "0001.dcm").write_bytes(b"")
    assert find_sources(study) == whole


def test_dicom_by_any_name(tmp_path: Path) -> None:
    for name, ending in (("a", ".dcm"), ("b", ""), ("c", ".IMA")):
        folder = hospital_series(tmp_path / "data" / name / "exam" / "t2", size=8, slices=3)
        for path in folder.iterdir():
            path.rename(path.with_suffix(ending))
    damaged = tmp_path / "data" / "e" / "1.dcm"
    damaged.parent.mkdir()
    damaged.write_bytes(b"damage")
    found = [(e.case, e.series, e.path.name) for e in find_sources(tmp_path / "data")]
    assert found == [(name, "t2", "t2") for name in "abc"] + [("e", "e", "e")]


def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    volume = phantom((24, 20, 6), noise=0)
    write(data / "sub-1" / "anat" / "sub-1_T2w.nii.gz", volume)
    write(data / "sub-1" / "anat" / "zones.nii.gz", phantom((12, 20, 6), noise=0))
    write(data / "sourcedata" / "sub-1" / "t2w.nii.gz", volume)
    for name in ("sub-1/anat/sub-1_acq-cor_T2w.nii.gz", "sub-1/anat/zones_2.nii.gz", "sub-2"):
        (data / name).symlink_to("nowhere")
    said: list[str] = []
    assert prepare(data, tmp_path / "cache", report=said.append) == []
    assert [s.case for s in cache.read_stacks(tmp_path / "cache")] == ["sub-1"]
    told = [line for line in said if line.startswith("left out: ")]
    for words in (
        "sourcedata, ",
        "cor_T2w.nii.gz, a link",
        "zones_2.nii.gz, a link",
        "sub-2, a link",
    ):
        assert sum(words in line for line in told) == 1, words
    assert any("zones.nii.gz: expected labels on the grid" in line for line in told)
    assert len(told) == 5


def test_names_of_pi_cai_and_names_that_are_no_utf8(tmp_path: Path) -> None:
    volume = phantom((24, 20, 6), noise=0)
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    for name in ("7_1_t2w", "7_1_cor", "7_1_adc", "dwi_cor"):
        folder.mkdir(exist_ok=True)
        write_volume(volume, folder / f"{name}.mha")
    prepare(tmp_path, tmp_path / "cache")
    found = [(s.case, s.series) for s in cache.read_stacks(tmp_path / "cache")]
    assert found == [("M\\udcfcller", "7_1_cor"), ("M\\udcfcller", "7_1_t2w")]


# --- whose volumes they are, and what is said of the others ----------------------------------------


def cases(data: Path, said: list[str]) -> list[tuple[str, str]]:
    return [(e.case, e.series) for e in find_sources(data, said.append)]


def test_folders_of_several_patients_are_refused_by_name(tmp_path: Path) -> None:
    """As of TCIA and of BIDS one level too high; beside others they are left out."""
    root = tmp_path / "download"
    place = root / "manifest-1" / "PROSTATEx"
    for name in ("one", "two"):
        hospital_series(place / name / "study" / "t2", size=8, slices=3, patient=name)
        write(root / "rawdata" / f"sub-{name}" / "anat" / "t2w.nii.gz", phantom((12, 12, 4)))
    with pytest.raises(InputError) as caught:
        find_sources(root)
    advised = f"give the folder {place} or give the folder {root / 'rawdata'}"
    assert caught.value.found == f"several patients; {advised}"
    assert cases(place, []) == [("one", "t2"), ("two", "t2")]
    write(root / "three" / "t2w.nii.gz", phantom((12, 12, 4)))
    said: list[str] = []
    assert cases(root, said) == [("three", "t2w")]
    assert [line.split(", ")[1] for line in said] == [
        f"which holds several patients; give the folder {folder}"
        for folder in (place, root / "rawdata")
    ]
    dump = tmp_path / "flat" / "dump"
    for name in ("one", "two"):
        for path in hospital_series(tmp_path / name, size=8, slices=3, patient=name).iterdir():
            dump.mkdir(parents=True, exist_ok=True)
            path.rename(dump / f"{name}-{path.name}")
    with pytest.raises(InputError, match="several patients; put those of each into a folder"):
        find_sources(dump.parent)


@pytest.mark.parametrize("folder", ["fold0/{}", "imagesTr", "."])
def test_numbers_of_pi_cai_are_patients(tmp_path: Path, folder: str) -> None:
    studies = [("10000", "1000000_t2w"), ("10000", "1000000_cor"), ("10001", "1000001_t2w")]
    for patient, name in studies:
        path = tmp_path / folder.format(patient) / f"{patient}_{name}.mha"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(phantom((12, 12, 4)), path)
    said: list[str] = []
    assert cases(tmp_path, said) == sorted((p, f"{p}_{name}") for p, name in studies)
    assert said == []


def test_one_folder_only_may_be_several_patients(tmp_path: Path) -> None:
    """DICOM without a patient goes by its folders; of other volumes it is said."""
    for n, name in enumerate(("one", "two")):
        edits = {"PatientID": "", "StudyInstanceUID": f"1.2.{n}", "SeriesInstanceUID": f"1.2.{n}.1"}
        hospital_series(tmp_path / "a" / "all" / name / "t2", size=8, slices=3, **edits)
        write(tmp_path / "b" / "all" / name / "t2w.nii.gz", phantom((12, 12, 4)))
        write(tmp_path / "c" / "sub-1" / name / "t2w.nii.gz", phantom((12, 12, 4)))
    said: list[str] = []
    assert cases(tmp_path / "a", said) == [("one", "t2"), ("two", "t2")]
    assert cases(tmp_path / "b", said) == [("all", "t2w"), ("all", "t2w-2")]
    assert cases(tmp_path / "c", said) == [("sub-1", "t2w"), ("sub-1", "t2w-2")]
    a, b = (tmp_path / name / "all" for name in "ab")
    assert said == [
        f"note: no image in {a} has a PatientID; each folder in {a} counts as a patient",
        f"note: all of {b} counts as one patient; if it is several, give the folder {b}",
    ]


def test_series_that_share_a_folder_or_lie_in_two(tmp_path: Path) -> None:
    made = [
        ("spread", 5, {"slices": 6}),
        ("shared", 6, {"slices": 4}),
        ("shared", 7, {"slices": 4, "plane": "coronal"}),
        ("shared", 8, {"slices": 4, "SeriesDescription": "ep2d_diff"}),
    ]
    for case, number, options in made:
        for path in hospital_series(tmp_path / "s", size=16, number=number, **options).iterdir():
            part = f"part-{int(path.name[-1]) % 2}" if case == "spread" else "exam"
            target = tmp_path / "data" / case / part / f"{number}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    said: list[str] = []
    assert prepare(tmp_path / "data", tmp_path / "cache", report=said.append) == []
    found = [(s.case, s.plane, len(s.levels)) for s in cache.read_stacks(tmp_path / "cache")]
    assert found == [("shared", "axial", 4), ("shared", "coronal", 4), ("spread", "axial", 6)]
    (line,) = (line for line in said if line.startswith("left out"))
    assert line.endswith("exam, series 8 (ep2d_diff), no T2w stack")


def test_what_is_not_taken_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a" / "T2W_AX.NII.GZ", phantom((12, 12, 4)))
    write(tmp_path / "b" / "tra.nii.gz", phantom((12, 12, 4)))
    for name in ("c/1.dcm.gz", "c/2.dcm.gz", "d/T2.zip", "e.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "f").mkdir()
    for name in ("a/T2cor", "g/T2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to("nowhere")
    said: list[str] = []
    assert cases(tmp_path, said) == [("a", "T2W_AX")]
    none, dead = (
        "which holds no volume *t2* and no DICOM image",
        "a link that leads nowhere (datalad get?)",
    )
    assert [line.removeprefix(f"left out: {tmp_path}/") for line in said] == [
        "e.zip, in no patient's folder",
        f"a/T2cor, {dead}",
        f"b, {none}: tra.nii.gz",
        f"c, {none}: 1.dcm.gz and 1 more",
        f"d, {none}: T2.zip",
        f"f, {none}",
        f"g/T2, {dead}",
    ]
