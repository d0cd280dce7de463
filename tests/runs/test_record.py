"""The provenance record holds what is needed to repeat a run, and nobody's name."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

import mrisr
from mrisr.data.phantom import phantom
from mrisr.io import write_volume
from mrisr.runs.record import Record

KEYS = {
    "format",
    "mrisr",
    "job",
    "created",
    "use",
    "model",
    "parameters",
    "input",
    "output",
    "residual",
    "device",
    "precision",
    "seconds",
    "peak_memory_gib",
    "software",
    "notes",
}
GRID = {"shape", "spacing_mm", "orientation", "plane", "dtype", "affine_ras_mm"}
SHARED = {"degradation", "steps", "sampler", "seed", "consistency"}
THROUGH = {"factor", "slice_thickness_mm", "slice_thickness_from", "reformats"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    volume = phantom((24, 20, 4), spacing=(0.8, 0.8, 3.0))
    return write_volume(volume, tmp_path / "Jane-Doe.nii.gz", description="Jane Doe")


def record_of(path: Path) -> dict[str, Any]:
    return json.loads(path.with_name(f"{path.name.partition('.')[0]}.json").read_text())


def test_in_plane(study: Path, models: Path, tmp_path: Path) -> None:
    options: Any = {"seed": 11, "steps": 2, "eta": 0.5, "consistency": 1, "device": "cpu"}
    path = mrisr.inplane(study, scale=2.5, output=tmp_path / "out.nii.gz", **options)
    record = record_of(path)
    assert record.keys() == KEYS
    assert record["parameters"].keys() == {"scale", "eta"} | SHARED
    expected = {"scale": 2.5, "seed": 11, "steps": 2, "eta": 0.5, "degradation": "bicubic"}
    assert expected.items() <= record["parameters"].items()
    weights = (models / "partdiff-inplane.safetensors").read_bytes()
    assert record["model"]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert record["model"]["name"] == "partdiff-inplane"
    assert record["input"].keys() == {"sha256"} | GRID
    assert record["input"]["sha256"] == hashlib.sha256(study.read_bytes()).hexdigest()
    assert record["output"].keys() == GRID
    assert record["output"]["shape"] == [60, 50, 4]
    assert record["output"]["spacing_mm"] == [0.32, 0.32, 3.0]
    assert record["output"]["dtype"] == record["input"]["dtype"] == "uint16"
    residual = {"rms", "max", "intensity_range", "rms_of_range", "rms_of_noise"}
    assert record["residual"].keys() == residual
    assert record["residual"]["rms_of_range"] <= 1e-3
    assert record["seconds"] > 0
    assert record["peak_memory_gib"]["process"] > 0.05
    assert record["device"].startswith("cpu")
    assert record["precision"] in ("fp32", "bf16")
    assert record["mrisr"] == mrisr.__version__
    assert "research" in record["use"]
    assert record["notes"] == []


def test_through_plane(study: Path, models: Path, tmp_path: Path) -> None:
    path = mrisr.throughplane(study, factor=3, slice_thickness=2.4, output=tmp_path / "out.mha")
    record = record_of(path)
    assert record.keys() == KEYS
    assert record["parameters"].keys() == THROUGH | {"noise"} | SHARED - {"consistency"}
    assert record["parameters"]["slice_thickness_mm"] == 2.4
    assert record["parameters"]["slice_thickness_from"] == "option"
    assert record["parameters"]["reformats"] == 2
    assert record["job"] == "throughplane"


def test_no_name_in_record_and_header(study: Path, models: Path, tmp_path: Path) -> None:
    path = mrisr.inplane(study, scale=2, output=tmp_path / "out.nii")
    for written in (path, path.with_name("out.json")):
        assert not re.search(rb"jane|doe", written.read_bytes(), re.IGNORECASE)
    assert str(tmp_path).encode() not in path.with_name("out.json").read_bytes()


def test_the_line_in_the_header(study: Path, models: Path, tmp_path: Path) -> None:
    for run, size in ((mrisr.inplane, {"scale": 2}), (mrisr.throughplane, {"factor": 2.7182818})):
        path = run(study, output=tmp_path / "out.nii.gz", force=True, **size)
        line = Record.model_validate(record_of(path)).line()
        assert len(line.encode()) <= 79
        header = nib.load(path).header
        assert bytes(header["descrip"].item()).decode() == line
        assert line.endswith("research use")


def test_the_record_repeats_the_run(study: Path, models: Path, tmp_path: Path) -> None:
    first = mrisr.inplane(study, scale=2, steps=3, eta=1, seed=5, output=tmp_path / "a.nii.gz")
    p = record_of(first)["parameters"]
    again = mrisr.inplane(study, **p, output=tmp_path / "b.nii.gz")
    assert first.read_bytes() == again.read_bytes()


def test_an_option_without_effect_stands_in_no_record(
    study: Path, models: Path, tmp_path: Path
) -> None:
    path = mrisr.inplane(study, scale=2, model="bicubic", output=tmp_path / "out.nii.gz")
    assert record_of(path)["parameters"].keys() == {"scale", "degradation", "consistency"}
    assert record_of(path)["precision"] == "fp32"


def test_a_run_in_memory_gives_image_record_and_notes(study: Path, models: Path) -> None:
    image = nib.load(study)
    result = mrisr.run(image, mrisr.InPlane(scale=2, seed=3))
    assert isinstance(result.image, nib.Nifti1Image)
    assert result.image.shape == (48, 40, 4)
    assert result.path is None
    assert result.record.parameters["seed"] == 3
    assert result.record.input.sha256 is None
    assert result.record.notes == result.notes == ()
    assert result.picture().startswith(b"\x89PNG")
    thin = mrisr.run(study, mrisr.ThroughPlane(factor=2), output=study.parent / "thin.nii.gz")
    assert thin.path == study.parent / "thin.nii.gz"
    assert thin.record.as_dict() == record_of(thin.path)
