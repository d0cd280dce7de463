"""Volumes and labels of zones to a cache: orientation, what is found, and what is left out."""

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.data.phantom import label_volume, phantom, phantom_affine
from mrisr.data.prepare import canonical_stack, make_stack, prepare
from mrisr.data.sources import Entry, find_sources
from mrisr.io import read_volume, write_volume

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
