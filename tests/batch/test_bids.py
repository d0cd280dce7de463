"""A BIDS data set in, a BIDS derivative out."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mrisr.batch.bids import Dataset
from mrisr.batch.settings import BatchSettings
from mrisr.io import read_volume, write_json
from tests.batch.conftest import SETTINGS
from tests.batch.test_manifest import stack

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two subjects: one with a session of two axial runs and a coronal stack, one without sessions."""
    root = tmp_path / "raw"
    anat = root / "sub-01" / "ses-a" / "anat"
    for name in ("acq-axial_run-1", "acq-axial_run-2", "acq-cor"):
        stack(anat / f"sub-01_ses-a_{name}_T2w.nii.gz", "coronal" if "cor" in name else "axial")
    stack(root / "sub-02" / "anat" / "sub-02_T2w.nii.gz")
    stack(root / "sourcedata" / "sub-03" / "anat" / "sub-03_T2w.nii.gz")
    write_json(
        root / "dataset_description.json",
        {"Name": "Raw", "BIDSVersion": "1.10.0", "Authors": ["A", "B"]},
    )
    return root


def test_every_axial_stack_is_a_study(raw: Path) -> None:
    """Runs and sessions; not the source data, nor zones that mrisr itself has derived."""
    ours = raw / "derivatives" / "mrisr"
    stack(ours / "sub-02" / "anat" / "sub-02_desc-zones_dseg.nii.gz")
    write_json(ours / "dataset_description.json", {"GeneratedBy": [{"Name": "mrisr"}]})
    studies = Dataset(raw).studies(BatchSettings())
    assert [s.folder for s in studies] == [
        "sub-01/ses-a",
        "sub-01/ses-a_acq-axial_run-2",
        "sub-02",
    ]
    second = studies[1].sources
    assert [second[p].path.name.split("_T2w")[0] for p in ("axial", "coronal")] == [
        "sub-01_ses-a_acq-axial_run-2",
        "sub-01_ses-a_acq-cor",
    ]
    assert set(studies[2].sources) == {"axial"}
    assert [s.subject for s in Dataset(raw, None, ("02",)).studies(BatchSettings())] == ["02"]


def test_refusals(raw: Path, tmp_path: Path, run: Run) -> None:
    """The source is never described anew; one line for each fault."""
    asked = ("batch", "--bids", raw)
    for more, words in (
        (("--output", raw), "holds a data set that is not by mrisr"),
        (("--subject", "9"), f"{raw}: expected a subject sub-9, found none"),
        (("--manifest", "m.csv"), "give --manifest or --bids, not both"),
    ):
        code, _, said = run(*asked, *more)
        assert code in (1, 2, 3)
        assert words in said
        assert said.count("\n") == 1
    assert json.loads((raw / "dataset_description.json").read_bytes())["Name"] == "Raw"
    (tmp_path / "empty").mkdir()
    assert "expected a BIDS data set" in run("batch", "--bids", tmp_path / "empty")[2]


@pytest.mark.slow
def test_a_derivative(raw: Path, tmp_path: Path, run: Run, models: Path, zones_model: str) -> None:
    """Names by entities, sidecars with sources; silence of the BIDS validator where there is one."""
    pytest.importorskip("snakemake", reason="Snakemake 9 needs Python 3.11")
    config = tmp_path / "batch.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | {"zones": {"model": zones_model}}))
    out = tmp_path / "derived"
    code, _, said = run("batch", "--bids", raw, "-o", out, "-c", config, "--jobs", 1, "-q")
    assert code == 0, said
    made = {p.relative_to(out).as_posix() for p in out.glob("sub-*/**/*.nii.gz")}
    anats = ("sub-01/ses-a/anat/sub-01_ses-a_acq-axial_run-1", "sub-02/anat/sub-02")
    ends = ("desc-zones_dseg", *(f"res-inplanex2_desc-{d}" for d in ("sr_T2w", "zones_dseg")))
    assert {f"{anat}_{end}.nii.gz" for anat in anats for end in ends} <= made
    assert len(made) == 3 * 5
    sr = out / "sub-02" / "anat" / "sub-02_res-throughplane_desc-sr_T2w.nii.gz"
    assert read_volume(sr).shape == (6, 6, 6)
    told = json.loads(sr.with_name("sub-02_res-throughplane_desc-sr_T2w.json").read_bytes())
    assert told["Sources"] == ["bids:raw:sub-02/anat/sub-02_T2w.nii.gz"]
    assert told["Record"]["job"] == "throughplane"
    described = json.loads((out / "dataset_description.json").read_bytes())
    assert (out / described["DatasetLinks"]["raw"]).resolve() == raw.resolve()
    validator = shutil.which("bids-validator-deno")
    if validator is not None:
        asked = [validator, "--json", str(out)]
        issues = json.loads(subprocess.run(asked, capture_output=True, check=False).stdout)
        assert issues["issues"]["issues"] == []
    # A study that fails later has no volume in the derivative any more.
    run_2 = "sub-01/ses-a/anat/sub-01_ses-a_acq-axial_run-2"
    (raw / f"{run_2}_T2w.nii.gz").write_bytes(b"\x1f\x8b and no more")
    assert run("batch", "--bids", raw, "-o", out, "-c", config, "--jobs", 1, "-q")[0] == 8
    assert not list(out.glob(f"{run_2}_*"))
    assert len(list(out.glob("sub-*/**/*.nii.gz"))) == 2 * 5
