"""The manifest: what it may say, how its faults are told, that it comes back, and how one is made."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mrisr.batch.discover import find_studies
from mrisr.batch.manifest import StackSource, Study, read_manifest, write_manifest
from mrisr.core.errors import InputError, OutputError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.io import write_volume
from mrisr.io.tables import ManifestError
from tests.dicom.synthetic import SECRETS, hospital_series


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
        (
            "subject,axial\na,~nobody-4711/x\n",
            ["line 2: axial: expected a path, found '~nobody-4711/x'"],
        ),
        ("subject,\u200b axial x\n", ["no column axial", r"unknown column 'axial x'"]),
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


# --- found in folders -----------------------------------------------------------------------------


def stack(path: Path, plane: str = "axial") -> Path:
    """A stack of a plane, so small that only its geometry counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = phantom((6, 6, 3), plane=plane, spacing=(1.0, 1.0, 4.0))
    array = np.arange(volume.array.size, dtype=volume.array.dtype).reshape(volume.shape)
    return write_volume(Volume(array, volume.affine, volume.storage), path)


def test_folder_of_patients(tmp_path: Path) -> None:
    for name in ("t2w_ax", "zones", "gland", "t2w_ax_rep"):
        stack(tmp_path / "one" / f"{name}.nii.gz")
    stack(tmp_path / "one" / "t2w_cor.mha")
    for name in ("J. Doe", "J-Doe", "a b", "a+b"):
        stack(tmp_path / name / "t2w_ax.nii.gz")
    stack(tmp_path / "no axial" / "t2w_cor.nii.gz")
    stack(tmp_path / "loose.nii.gz")
    (tmp_path / "README.md").write_text("no study")
    said: list[str] = []
    found = {s.subject: s for s in find_studies(tmp_path, said.append)}
    assert list(found) == ["J-Doe", "J.-Doe", "a-b", "a-b-2", "one"]
    assert {r: s.path.name for r, s in found["one"].sources.items()} == {
        "axial": "t2w_ax.nii.gz",
        "coronal": "t2w_cor.mha",
        "labels": "zones.nii.gz",
    }
    left_out = ("gland", "t2w_ax_rep", "no axial", "loose.nii.gz")
    for word in left_out:
        assert any(line.startswith("left out: ") and word in line for line in said), word
    assert any("'J. Doe' is called J.-Doe" in line for line in said)


def test_bids_tree(tmp_path: Path) -> None:
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    stack(anat / "sub-01_ses-a_acq-axial_run-1_T2w.nii.gz")
    stack(anat / "sub-01_ses-a_acq-axial_run-2_T2w.nii.gz")
    stack(anat / "sub-01_ses-a_acq-cor_T2w.nii.gz", "coronal")
    stack(anat / "sub-01_ses-a_T1w.nii.gz")
    stack(tmp_path / "sub-01" / "ses-b" / "anat" / "sub-01_ses-b_T2w.nii.gz", "sagittal")
    stack(tmp_path / "sub-02" / "anat" / "sub-02_T2w.nii.gz")
    stack(tmp_path / "sub-02" / "anat" / "sub-02_acq-tse_run-2_T2w.nii.gz", "sagittal")
    stack(tmp_path / "derivatives" / "readers" / "sub-02" / "anat" / "sub-02_dseg.nii.gz")
    said: list[str] = []
    first, second = find_studies(tmp_path, said.append)
    assert (first.subject, first.session) == ("01", "a")
    assert first.sources["axial"].path.name.endswith("run-1_T2w.nii.gz")
    assert set(first.sources) == {"axial", "coronal"}
    assert (second.subject, second.session) == ("02", "")
    assert set(second.sources) == {"axial", "sagittal", "labels"}
    assert any("run-2" in line and "a second axial" in line for line in said)
    assert any("sub-01 b" in line and "no axial" in line for line in said)


def test_dicom_studies(tmp_path: Path) -> None:
    """Subjects are folders: not a word of a patient gets into names, paths or messages."""
    data = tmp_path / "data"
    exam = data / "p7" / "exam"
    small = {"size": 8, "slices": 3}
    hospital_series(exam / "a", **small, SeriesDescription="t2_tse_tra")
    hospital_series(exam / "c", plane="coronal", number=6, **small, SeriesDescription="t2_tse_cor")
    hospital_series(exam / "d", number=7, **small, SeriesDescription="ep2d_diff_tra")
    for path in hospital_series(tmp_path / "s", plane="sagittal", number=8, **small).iterdir():
        shutil.copy(path, exam / "c" / f"sag-{path.name}")
    later = {"StudyInstanceUID": "1.2.3.9", "SeriesInstanceUID": "1.2.3.10"}
    later["StudyDate"] = "20991231"
    hospital_series(data / "p7" / "next", **small, **later, SeriesDescription="t2 ax")
    (data / "empty").mkdir()
    said: list[str] = []
    first, second = find_studies(data, said.append)
    assert [s.folder for s in (first, second)] == ["sub-p7/ses-1", "sub-p7/ses-2"]
    assert first.sources["axial"].path == exam / "a"
    assert first.sources["axial"].series is None
    assert first.sources["coronal"].path == exam / "c"
    assert first.sources["coronal"].series is not None, "two series lie in that folder"
    assert second.sources["axial"].path == data / "p7" / "next"
    assert any("ep2d_diff_tra" in line for line in said)
    assert any("empty" in line for line in said)
    assert not any(secret in line for secret in SECRETS for line in said)


def test_only_subjects_of_a_bids_tree(tmp_path: Path) -> None:
    """Its sourcedata hold the same patients once more."""
    stack(tmp_path / "sub-01" / "anat" / "sub-01_acq-corrected_T2w.nii.gz")
    stack(tmp_path / "sub-01" / "anat" / "sub-01_acq-axillary_T2w.nii.gz", "sagittal")
    stack(tmp_path / "derivatives" / "sr" / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    hospital_series(tmp_path / "sourcedata" / "sub-01", size=8, slices=3)
    said: list[str] = []
    (study,) = find_studies(tmp_path, said.append)
    assert set(study.sources) == {"axial", "sagittal"}, "by their voxels, not by half a word"
    told = "which is no subject's folder (sub-*) of this BIDS tree"
    assert said == [f"left out: {name}, {told}" for name in ("derivatives", "sourcedata")]


def test_studies_of_several_patients_are_no_subject(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / "download" / f"p{number}" / "study"
        hospital_series(folder, size=8, slices=3, patient=f"SECRET-{number}")
    hospital_series(tmp_path / "one", size=8, slices=3)
    said: list[str] = []
    assert [s.folder for s in find_studies(tmp_path, said.append)] == ["sub-one"]
    (line,) = said
    told = "left out: download, which holds studies of 3 patients; give the folder"
    assert line == f"{told} {tmp_path / 'download'}"
    found = find_studies(tmp_path / "download", said.append)
    assert [s.folder for s in found] == ["sub-p0", "sub-p1", "sub-p2"]


@pytest.mark.parametrize("patient", ["", "ANON", None])
def test_studies_without_a_patient_go_by_their_folders(tmp_path: Path, patient: str | None) -> None:
    """Where the only folder may be one patient's or hold one for each; of several each is a patient's."""
    for cohort in ("all", "more"):
        for number in range(3):
            folder = tmp_path / cohort / f"p{number}" / "study"
            uid = f"1.2.3.{number}"
            edits = {"PatientID": patient, "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1"}
            hospital_series(folder, size=8, slices=3, **edits)
        said: list[str] = []
        found = [study.folder for study in find_studies(tmp_path, said.append)]
        if cohort == "all":
            assert found == ["sub-p0", "sub-p1", "sub-p2"]
            assert said == [
                "note: all: no image has a PatientID; 3 studies count as those of 3 subjects"
            ]
    assert found == [f"sub-{name}/ses-{n}" for name in ("all", "more") for n in (1, 2, 3)]
    assert [line.endswith("3 studies count as those of 1 subjects") for line in said] == [True] * 2


@pytest.mark.parametrize("patients", [("p1", "P1 "), ("p1", "")])
def test_one_patient_spelt_in_two_ways(tmp_path: Path, patients: tuple[str, str]) -> None:
    for number, name in enumerate(patients):
        edits = {"PatientID": name, "StudyInstanceUID": f"1.2.3.{number}"}
        hospital_series(tmp_path / "s" / str(number), size=8, slices=3, number=number, **edits)
    assert [s.folder for s in find_studies(tmp_path)] == ["sub-s/ses-1", "sub-s/ses-2"]


def test_one_level_too_high(tmp_path: Path) -> None:
    for name in ("rawdata/sub-1/anat/sub-1_T2w", "rawdata/sub-2/anat/sub-2_T2w"):
        stack(tmp_path / f"{name}.nii.gz")
    for name in ("10000/10000_1000000_t2w", "10001/10001_1000001_t2w"):
        stack(tmp_path / "fold" / f"{name}.mha")
    said: list[str] = []
    with pytest.raises(InputError):
        find_studies(tmp_path, said.append)
    why = "which holds volumes of several patients; give the folder"
    assert said == [f"left out: {n}, {why} {tmp_path / n}" for n in ("fold", "rawdata")]


def test_voxels_and_not_names_tell_a_plane(tmp_path: Path) -> None:
    """A name tells that of cubes, and that of a file which cannot be read."""
    anats = [tmp_path / f"sub-{n}" / "anat" for n in range(4)]
    stack(anats[0] / "sub-0_acq-cor_T2w.nii.gz")
    stack(anats[1] / "sub-1_acq-ax_T2w.nii.gz", "coronal")
    stack(anats[1] / "sub-1_run-2_T2w.nii.gz")
    for acq in ("ax", "cor"):
        cubes = phantom((12, 12, 12), spacing=(1.0, 1.0, 1.0))
        anats[2].mkdir(parents=True, exist_ok=True)
        write_volume(cubes, anats[2] / f"sub-2_acq-{acq}_T2w.nii.gz")
    stack(anats[3] / "sub-3_run-2_T2w.nii.gz")
    for name in ("acq-ax", "acq-cor", "run-1"):
        (anats[3] / f"sub-3_{name}_T2w.nii.gz").write_text("version https://git-lfs\n")
    said: list[str] = []
    found = [
        {role: source.path.name for role, source in study.sources.items()}
        for study in find_studies(tmp_path, said.append)
    ]
    names = [{r: n.split("_", 1)[1].split("_T2w")[0] for r, n in s.items()} for s in found]
    assert names == [
        {"axial": "acq-cor"},
        {"axial": "run-2", "coronal": "acq-ax"},
        {"axial": "acq-ax", "coronal": "acq-cor"},
        {"axial": "run-2", "coronal": "acq-cor"},
    ]
    assert (
        sum("cannot be read (expected a NIfTI header, found something" in line for line in said)
        == 3
    )


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    """As git-annex leaves them whose content nobody has fetched."""
    anat, patient = tmp_path / "bids" / "sub-01" / "anat", tmp_path / "plain" / "p1"
    stack(anat / "sub-01_acq-ax_T2w.nii.gz")
    stack(patient / "t2w_ax.nii.gz")
    dead = [anat / f"sub-01_{name}.nii.gz" for name in ("acq-cor_T2w", "dseg")]
    dead += [patient / f"{name}.nii.gz" for name in ("t2w_cor", "zones")]
    dead += [tmp_path / "plain" / "p2", tmp_path / "plain" / "p3" / "t2w_ax.nii.gz"]
    dead += [tmp_path / "plain" / "p4" / "exam" / "IM0001"]
    for path in dead:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to("nowhere")
    said: list[str] = []
    found = [*find_studies(tmp_path / "bids", said.append)]
    found += find_studies(tmp_path / "plain", said.append)
    assert [set(study.sources) for study in found] == [{"axial"}, {"axial"}]
    series = hospital_series(tmp_path / "dicom" / "p1" / "T2", size=8, slices=3)
    dead += [series.with_name("T2cor"), tmp_path / "bids" / "sub-01" / "ses-2"]
    for path in dead[-2:]:
        path.symlink_to("nowhere")
    find_studies(tmp_path / "dicom", said.append)
    find_studies(tmp_path / "bids", said.append)
    for path in dead:
        assert any(path.name in line and "a link that leads nowhere" in line for line in said), path
    assert not any("no volume" in line or "has no axial" in line for line in said), said


def test_a_name_that_is_no_utf8_costs_one_study(tmp_path: Path) -> None:
    stack(tmp_path / "a" / "t2w_ax.nii.gz")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    shutil.copytree(tmp_path / "a", odd)
    said: list[str] = []
    studies = find_studies(tmp_path, said.append)
    write_manifest(tmp_path / "m.csv", studies)
    assert [s.folder for s in read_manifest(tmp_path / "m.csv")] == ["sub-a"]
    assert said == ["left out: M\\udcfcller, in whose path a name is no UTF-8"]
    with pytest.raises(OutputError, match="no UTF-8"):
        write_manifest(tmp_path / "n.csv", [Study("x", "", {"axial": StackSource(odd)})])


def test_names_of_pi_cai(tmp_path: Path) -> None:
    for study, names in (("10_7", ("t2w", "cor", "sag", "adc")), ("10_8", ("t2w",))):
        for name in names:
            stack(tmp_path / "10" / f"{study}_{name}.mha")
    stack(tmp_path / "11" / "11_9_t2w.mha")
    said: list[str] = []
    studies = find_studies(tmp_path, said.append)
    found = {s.folder: {r: p.path.name for r, p in s.sources.items()} for s in studies}
    planes = {"axial": "10_7_t2w.mha", "coronal": "10_7_cor.mha", "sagittal": "10_7_sag.mha"}
    assert found == {
        "sub-10/ses-7": planes,
        "sub-10/ses-8": {"axial": "10_8_t2w.mha"},
        "sub-11": {"axial": "11_9_t2w.mha"},
    }
    assert said == ["left out: 10/10_7_adc.mha"]


def test_names_of_several_patients_in_one_folder(tmp_path: Path) -> None:
    for name in (
        "10000_1000000_t2w",
        "10000_1000000_COR",
        "10001_1000001_T2W",
        "10001_1000002_t2w",
    ):
        stack(tmp_path / "imagesTr" / f"{name}.mha", "coronal" if "COR" in name else "axial")
    found = {s.folder: set(s.sources) for s in find_studies(tmp_path)}
    assert found == {
        "sub-10000/ses-1000000": {"axial", "coronal"},
        "sub-10001/ses-1000001": {"axial"},
        "sub-10001/ses-1000002": {"axial"},
    }


def test_what_is_packed_is_named(tmp_path: Path) -> None:
    stack(tmp_path / "a" / "T2W_AX.NII.GZ")
    (tmp_path / "b.zip").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.dcm.gz").touch()
    said: list[str] = []
    assert [s.folder for s in find_studies(tmp_path, said.append)] == ["sub-a"]
    assert said == [
        "left out: b.zip, which lies in no subject's folder",
        "left out: c, which holds no volume and no DICOM; 1.dcm.gz: unpack it first",
    ]


def test_without_a_study(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            find_studies(path)
