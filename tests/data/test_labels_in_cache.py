"""Labels of zones beside the images: which are found, where they go, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.data.phantom import label_volume, phantom_affine
from mrisr.data.prepare import prepare
from mrisr.io import read_volume, write_volume

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
    assert "zones.nii.gz: expected labels 0, 1 and 2, found" in told[0]


def test_damaged_labels_of_a_cache(patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    stacks(patient.parent, out)
    entry = next(e for e in cache.read_index(out) if e.get("readers"))
    levels = np.zeros(entry["shape"], np.int16)
    np.savez(out / entry["file"], levels=levels, labels=np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="labels uint8"):
        cache.read_stacks(out)
