"""The patient: what is in a DICOM header stays there."""

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import pydicom

from tests.reliability.dicom_files import SECRETS, enhanced, repeated, series, setting
from tests.reliability.expect import Cases, assert_discreet, upsample
from tests.reliability.runner import run_cli
from tests.reliability.volume_files import Make, late, nifti

CASES = Cases("Patient data")


def written(folder: Path, source: Path, output: str, *options: object, **run: Any) -> list[Path]:
    """All files of a run that worked and printed nothing of the patient."""
    outcome = upsample(folder, source, "--output", output, *options, **run)
    assert outcome.code == 0, outcome.stderr[-300:]
    assert_discreet(outcome)
    files = [p for p in sorted((folder / "work").rglob("*")) if p.is_file()]
    assert files
    return files


def assert_clean(path: Path) -> None:
    """Assert that a file holds nothing of the patient, in any spelling that a header might use."""
    data = path.read_bytes()
    data += gzip.decompress(data) if data[:2] == b"\x1f\x8b" else b""
    for secret in SECRETS:
        for code in ("utf-8", "utf-16-le", "utf-16-be"):
            assert secret.encode(code) not in data.lower(), f"{secret!r} in {path.name}"


@late
def outputs(folder: Path, make: Make, ending: str, *, job: str = "inplane") -> str:
    """A run of all outputs, none of which may hold anything of the patient."""
    options = ("--qc", "qc.png", "--json", "--force")
    files = written(folder, make(folder), f"out{ending}", *options, job=job)
    names = [p.name for p in files]
    assert {"out.json", "qc.png", f"out{ending}"} <= set(names), names
    for path in files:
        assert_clean(path)
    return f"nothing in {', '.join(names)} nor in what was printed"


@late
def info(folder: Path, make: Make, *arguments: str) -> str:
    """``mrisr info``, which may print nothing of the patient."""
    outcome = run_cli(["info", make(folder), *arguments], folder)
    assert outcome.code in (0, 2), outcome.stderr
    assert_discreet(outcome)
    return f"nothing in {len(outcome.stdout.splitlines())} lines"


def _extended(image: Any) -> None:
    import nibabel as nib

    image.header["descrip"], image.header["db_name"] = b"secret description", b"secret db"
    image.header["aux_file"], image.header["intent_name"] = b"secret aux", b"secret intent"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"secret comment"))


def _derived_dicom(folder: Path) -> str:
    written(folder, series(folder), "derived")
    for path in (folder / "work" / "derived").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.PatientID == "SECRET-0042", "the patient is kept in DICOM"
        for element in dataset.iterall():
            assert not element.tag.is_private, f"private {element.tag}"
            assert not 0x6000 <= element.tag.group <= 0x60FF, f"overlay {element.tag}"
        assert "IconImageSequence" not in dataset
    return "patient kept, private groups and overlays dropped"


def _deidentified(folder: Path) -> str:
    files = written(folder, series(folder), "derived", "--deidentify")
    for path in files:
        assert_clean(path)
    return f"nothing in {len(files)} files"


_INFO = {
    "a series": series,
    "a series with a broken file": partial(series, edit=setting(2, PixelSpacing=None)),
    "a series of two volumes": partial(repeated, DiffusionBValue=(50.0, 800.0)),
}
for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"):
    CASES.add(
        f"a DICOM series, to {ending}",
        "nothing of its patient, places, times, private elements or overlay in the output",
        outputs(series, ending),
    )
CASES.add("a DICOM series, through-plane", "the same", outputs(series, ".nii", job="throughplane"))
CASES.add("an enhanced file", "the same", outputs(enhanced, ".nii"))
texts = outputs(partial(nifti, edit=_extended), ".nii")
name = "a NIfTI with texts in its header and extensions"
CASES.add(name, "none of them in the output", texts)
for what, make in _INFO.items():
    for how, given in {"": (), ", --json": ("--json",)}.items():
        CASES.add(f"mrisr info on {what}{how}", "nothing of the patient", info(make, *given))
kept = "the patient is kept; private groups and overlays are dropped"
CASES.add("a DICOM series, to DICOM", kept, _derived_dicom)
dropped = "nothing of its patient in any file"
CASES.add("a DICOM series, to DICOM, --deidentify", dropped, _deidentified)
