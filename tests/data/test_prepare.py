"""Volumes and labels of zones to a cache: orientation, what is found, and what is left out."""

import os
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.data.phantom import label_volume, phantom, phantom_affine
from mrisr.data.prepare import Entry, canonical_stack, find_sources, make_stack, prepare
from mrisr.io import read_volume, write_volume
from mrisr.io.tables import ManifestError
from tests.dicom.synthetic import hospital_series

WORLD = {"sagittal": 0, "coronal": 1, "axial": 2}
#: World axes (0 R, 1 A, 2 S) along which rows and columns run, both downwards.
RUNS = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}


def oriented(plane: str, order: tuple[int, ...], signs: tuple[int, ...], tilt: float) -> np.ndarray:
    """An affine whose array axes run along ``order`` with ``signs``; 4 mm slices of the plane."""
    size = np.array([0.5, 0.5, 0.5])
    size[WORLD[plane]] = 4.0
    turn = Rotation.from_euler("xyz", [tilt, -tilt, tilt / 2], degrees=True).as_matrix()
    affine = np.eye(4)
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[:3, axis] = turn[:, world] * sign * size[world]
    affine[:3, 3] = [10, -20, 30]
    return affine


@pytest.mark.parametrize("plane", WORLD)
@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_rows_run_down_and_columns_from_right_to_left(
    plane: str, order: tuple[int, ...], tilt: float
) -> None:
    shape = (5, 6, 7)
    for signs in product((1, -1), repeat=3):
        affine = oriented(plane, order, signs, tilt)
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        world = index @ affine[:3, :3].T + affine[:3, 3]
        stacks = []
        for axis in range(3):
            stack, spacing = canonical_stack(Volume(world[..., axis], affine))
            stacks.append(stack)
        assert spacing == pytest.approx((4.0, 0.5, 0.5))
        positions = np.stack(stacks, -1)
        down, across = RUNS[plane]
        cosine = 0.5 * np.cos(np.radians(25))
        assert (np.diff(positions[..., down], axis=1) < -cosine).all()
        assert (np.diff(positions[..., across], axis=2) < -cosine).all()


def write(path: Path, volume: Volume) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.asarray(volume.array, np.int16), volume.affine)
    nib.save(image, path)
    return path


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two patients, three volumes, and files that are none."""
    folder = tmp_path / "data"
    small = (24, 20, 6)
    write(folder / "one" / "t2w_ax.nii.gz", phantom(small, noise=0))
    write(folder / "one" / "t2w_cor.nii.gz", phantom(small, plane="coronal", noise=0))
    write(folder / "two" / "scan_T2w.nii.gz", phantom(small, noise=0, seed=1))
    write(folder / "two" / "dwi.nii.gz", phantom(small))
    (folder / "two" / "t2w_notes.txt").write_text("not an image")
    return folder


def test_prepare_a_folder(study: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    assert prepare(study, tmp_path / "cache", report=lines.append) == []
    stacks = cache.read_stacks(tmp_path / "cache")
    assert [(s.case, s.series, s.plane) for s in stacks] == [
        ("one", "t2w_ax", "axial"),
        ("one", "t2w_cor", "coronal"),
        ("two", "scan_T2w", "axial"),
    ]
    assert len(lines) == 3
    assert all(s.levels.shape == (6, 20, 24) for s in stacks)


def test_prepare_a_manifest(study: Path, tmp_path: Path) -> None:
    manifest = study / "manifest.csv"
    manifest.write_text("case,path,series\np1,one/t2w_ax.nii.gz,a\np2,two/dwi.nii.gz,\n")
    prepare(manifest, tmp_path / "cache")
    found = [(s.case, s.series) for s in cache.read_stacks(tmp_path / "cache")]
    assert found == [("p1", "a"), ("p2", "dwi")]
    manifest.write_text("patient,file\n")
    with pytest.raises(InputError, match="case, path"):
        find_sources(manifest)


def test_an_old_cache_stays_until_the_new_one_is_whole(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    prepare(study, folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in ("t2w_ax", "t2w_cor"):
        (study / "one" / f"{name}.nii.gz").write_bytes(b"not a volume")
    (study / "two" / "scan_T2w.nii.gz").write_bytes(b"not a volume")
    with pytest.raises(InputError, match="3 refused"):
        prepare(study, folder, force=True)
    with pytest.raises(UsageError, match="--force"):
        prepare(study, folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.glob(".cache*"))


def test_what_is_no_cache_is_not_replaced(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    prepare(study, folder)
    for name in ("thesis.txt", "volumes/thesis.txt"):
        (folder / name).write_text("precious")
        with pytest.raises(OutputError, match=r"a cache to replace, found .*thesis.txt"):
            prepare(study, folder, force=True)
        (folder / name).unlink()
    (folder / "index.json").unlink()
    prepare(study, folder)  # the rest of one that was cut short


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


def test_unusable_volumes_are_named_and_left_out(study: Path, tmp_path: Path) -> None:
    (study / "one" / "t2w_ax.nii.gz").write_bytes(b"not a volume")
    errors = prepare(study, tmp_path / "cache")
    assert len(errors) == 1
    assert str(study / "one" / "t2w_ax.nii.gz") in errors[0]
    assert len(cache.read_stacks(tmp_path / "cache")) == 2


def test_nothing_to_prepare_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="found none"):
            prepare(folder, tmp_path / "cache")


def test_intensities_are_scaled_before_the_crop() -> None:
    volume = phantom((40, 36, 4))
    whole = make_stack(Entry("a", "b", Path("c")), volume)
    crop = make_stack(Entry("a", "b", Path("c")), volume, crop=20)
    assert whole.levels.shape == (4, 36, 40)
    np.testing.assert_array_equal(crop.levels, whole.levels[:, 8:28, 10:30])


SHAPE = (40, 36, 6)


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """A patient with an axial scan, its repetition on the same grid, and zones by two readers."""
    folder = tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    affine = phantom_affine(SHAPE, spacing=(2.0, 2.0, 4.0))
    rng = np.random.default_rng(1)
    for name in ("t2w_ax", "t2w_ax_rep"):
        array = rng.integers(0, 900, SHAPE).astype(np.uint16)
        write_volume(Volume(array, affine), folder / f"{name}.nii.gz")
    zones = label_volume(SHAPE, affine)
    assert set(np.unique(zones.array)) == {0, 1, 2}
    write_volume(zones, folder / "zones.nii.gz")
    other = zones.with_array(np.where(zones.array == 1, 0, zones.array))
    write_volume(other, folder / "zones_alt.nii.gz")
    return folder


def stacks(data: Path, out: Path) -> dict[str, cache.Stack]:
    assert prepare(data, out) == []
    return {s.series: s for s in cache.read_stacks(out)}


def test_labels_go_with_the_first_scan_on_their_grid(patient: Path, tmp_path: Path) -> None:
    found = stacks(patient.parent, tmp_path / "cache")
    assert found["t2w_ax_rep"].labels is None
    labels = found["t2w_ax"].labels
    assert labels is not None
    assert labels.dtype == np.uint8
    assert labels.shape == (2, *found["t2w_ax"].levels.shape)
    assert (labels[0] == 1).any()
    assert not (labels[1] == 1).any()
    assert np.array_equal(labels[0] == 2, labels[1] == 2)


def test_labels_are_turned_with_the_image(patient: Path, tmp_path: Path) -> None:
    """Stored upside down and mirrored, the cache is the same: towards superior, posterior, left."""
    first = stacks(patient.parent, tmp_path / "first")["t2w_ax"]
    for path in patient.iterdir():
        turned = read_volume(path).reoriented("RAI")
        path.unlink()
        write_volume(turned, path)
    second = stacks(patient.parent, tmp_path / "second")["t2w_ax"]
    assert np.array_equal(first.levels, second.levels)
    assert first.labels is not None
    assert second.labels is not None
    assert np.array_equal(first.labels, second.labels)


def test_labels_elsewhere_are_left_out_unless_they_were_named(
    patient: Path, tmp_path: Path
) -> None:
    zones = patient / "zones.nii.gz"
    zones.unlink()
    moved = phantom_affine(SHAPE, spacing=(2.0, 2.0, 4.0))
    moved[0, 3] += 5
    write_volume(label_volume(SHAPE, moved), zones)
    (patient / "zones_alt.nii.gz").unlink()
    assert stacks(patient.parent, tmp_path / "cache")["t2w_ax"].labels is None
    manifest = patient.parent / "manifest.csv"
    manifest.write_text("case,path,labels\none,one/t2w_ax.nii.gz,one/zones.nii.gz\n")
    with pytest.raises(InputError, match="1 refused"):
        prepare(manifest, tmp_path / "other")


def test_strange_labels_are_refused(patient: Path, tmp_path: Path) -> None:
    affine = phantom_affine(SHAPE, spacing=(2.0, 2.0, 4.0))
    array = label_volume(SHAPE, affine).array + np.uint8(4)
    (patient / "zones.nii.gz").unlink()
    write_volume(Volume(array, affine), patient / "zones.nii.gz")
    (patient / "t2w_ax_rep.nii.gz").unlink()
    told: list[str] = []
    with pytest.raises(InputError, match="1 refused"):
        prepare(patient.parent, tmp_path / "cache", report=told.append)
    assert "zones.nii.gz: expected the labels 0, 1, 2, found 4, 5, 6" in told[0]


def test_damaged_labels_of_a_cache(patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    stacks(patient.parent, out)
    entry = next(e for e in cache.read_index(out) if e.get("readers"))
    levels = np.zeros(entry["shape"], np.int16)
    np.savez(out / entry["file"], levels=levels, labels=np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="labels uint8"):
        cache.read_stacks(out)


# --- what spreadsheets, archives and annexes leave behind ------------------------------------------


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
