"""A written volume is read back before it replaces anything."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mrisr.core.errors import OutputError
from mrisr.core.volume import Storage, Volume
from mrisr.io import read_file, read_volume, verify, write_volume
from mrisr.io.nifti import write_nifti


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_a_short_file_is_noticed(tmp_path, make_volume, monkeypatch, ending):
    path = write_volume(make_volume(), tmp_path / f"v{ending}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    real = verify

    def shortened(written, volume, target):
        data = written.read_bytes()
        written.write_bytes(data[: len(data) * 2 // 3])
        real(written, volume, target)

    monkeypatch.setattr("mrisr.io.verify", shortened)
    with pytest.raises(OutputError, match="did not read back"):
        write_volume(make_volume(np.float32), path, force=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("what", ["voxels", "affine", "int32"])
def test_what_is_compared(tmp_path, make_volume, what):
    volume = make_volume(np.int16)
    array, affine = volume.array.copy(), volume.affine.copy()
    array[1, 2, 3] += what == "voxels"
    affine[0, 3] += 0.01 * (what == "affine")
    other = make_volume(np.int32) if what == "int32" else volume.with_array(array, affine)
    write_nifti(other, tmp_path / "v.nii")
    with pytest.raises(OutputError, match=rf"target.nii.*{what}"):
        verify(tmp_path / "v.nii", volume, tmp_path / "target.nii")


def test_nan_is_not_written(tmp_path, make_volume):
    volume = make_volume(np.float32)
    bad = volume.array.copy()
    bad[0, 0, 0] = np.nan
    with pytest.raises(OutputError, match="1 voxels are NaN"):
        write_volume(volume.with_array(bad), tmp_path / "v.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_files_are_opened_once(tmp_path, make_volume, monkeypatch, ending):
    """To be read, and to be read back: checks, voxels and digest come from the same open file."""
    opened: list[str] = []
    real = Path.open

    def counting(path, mode="r", *more, **options):
        if mode == "rb":
            opened.append(path.suffix)
        return real(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", counting)
    path = write_volume(make_volume(), tmp_path / f"v{ending}")
    files = [".mhd", ".raw"] if ending == ".mhd" else [path.suffix]
    assert opened.count(files[-1]) == 1
    opened.clear()
    read_file(path)
    assert opened == files


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_voxels_are_held_once(tmp_path, affine, ending):
    noise = np.random.default_rng(0).integers(0, 60000, (256, 256, 64)).astype(np.uint16)
    path = write_volume(Volume(noise, affine, Storage(noise.dtype)), tmp_path / f"v{ending}")
    tracemalloc.start()
    read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.7 * noise.nbytes
