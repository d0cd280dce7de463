"""The patient: what is in a DICOM header stays there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom

from tests.reliability.case import Case
from tests.reliability.dicom_files import SECRETS, enhanced, repeated, series, set_one
from tests.reliability.expect import Make, assert_discreet, upsample
from tests.reliability.runner import run_cli
from tests.reliability.volume_files import nifti

GROUP = "Patient data"


def clean(data: bytes, name: str) -> None:
    """Assert that bytes hold nothing of the patient, in any spelling that a header might use."""
    low = data.lower()
    for secret in SECRETS:
        for code in ("utf-8", "utf-16-le", "utf-16-be"):
            assert secret.encode(code) not in low, f"{secret!r} in {name}"


def outputs(make: Make, ending: str, *, job: str = "inplane") -> Callable[[Path], str]:
    """A run of all outputs, none of which may hold anything of the patient."""

    def check(folder: Path) -> str:
        source = make(folder)
        name = f"out{ending}"
        outcome = upsample(
            folder, source, "--output", name, "--qc", "qc.png", "--json", "--force", job=job
        )
        assert outcome.code == 0, outcome.stderr[-300:]
        assert_discreet(outcome)
        written = sorted((folder / "work").iterdir())
        assert {"out.json", "qc.png", name} <= {p.name for p in written}, written
        for path in written:
            clean(_unpacked(path), path.name)
        return f"nothing in {', '.join(p.name for p in written)} nor in what was printed"

    return check


def _unpacked(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return data + gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _extension(folder: Path) -> Path:
    """A NIfTI full of text that others wrote into it."""
    import nibabel as nib

    def edit(image: nib.Nifti1Image) -> None:
        image.header["descrip"], image.header["db_name"] = b"secret description", b"secret db"
        image.header["aux_file"], image.header["intent_name"] = b"secret aux", b"secret intent"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"secret comment"))

    return nifti(folder, edit=edit)


def _info(make: Make, *arguments: str) -> Callable[[Path], str]:
    def check(folder: Path) -> str:
        outcome = run_cli(["info", make(folder), *arguments], folder)
        assert outcome.code in (0, 2), outcome.stderr
        assert_discreet(outcome)
        return f"nothing in {len(outcome.stdout.splitlines())} lines"

    return check


def _broken(folder: Path) -> Path:
    """A series one of whose files cannot be used."""
    return series(folder, edit=set_one(2, PixelSpacing=None))


def _derived(folder: Path) -> list[pydicom.Dataset]:
    outcome = upsample(folder, series(folder), "--output", folder / "work" / "derived")
    assert outcome.code == 0, outcome.stderr[-300:]
    assert_discreet(outcome)
    files = sorted((folder / "work" / "derived").glob("*.dcm"))
    assert files
    return [pydicom.dcmread(path) for path in files]


def _derived_dicom(folder: Path) -> str:
    for dataset in _derived(folder):
        assert dataset.PatientID == "SECRET-0042", "the patient is kept in DICOM"
        for element in dataset.iterall():
            assert not element.tag.is_private, f"private {element.tag}"
            assert not 0x6000 <= element.tag.group <= 0x60FF, f"overlay {element.tag}"
        assert "IconImageSequence" not in dataset
    return "patient kept, private groups and overlays dropped"


def _deidentified(folder: Path) -> str:
    outcome = upsample(
        folder, series(folder), "--output", folder / "work" / "derived", "--deidentify"
    )
    assert outcome.code == 0, outcome.stderr[-300:]
    assert_discreet(outcome)
    files = [p for p in (folder / "work").rglob("*") if p.is_file()]
    assert files
    for path in files:
        clean(path.read_bytes(), path.name)
    return f"nothing in {len(files)} files"


CASES = [
    *[
        Case(
            GROUP,
            f"a DICOM series, to {ending}",
            "nothing of its patient, places, times, private elements or overlay in the output",
            outputs(series, ending),
        )
        for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
    ],
    Case(
        GROUP,
        "a DICOM series, through-plane",
        "the same",
        outputs(series, ".nii", job="throughplane"),
    ),
    Case(GROUP, "an enhanced file", "the same", outputs(enhanced, ".nii")),
    Case(
        GROUP,
        "a NIfTI with texts in its header and extensions",
        "none of them in the output",
        outputs(_extension, ".nii"),
    ),
    *[
        Case(GROUP, f"mrisr info on {what}{how}", "nothing of the patient", _info(make, *given))
        for what, make in {
            "a series": series,
            "a series with a broken file": _broken,
            "a series of two volumes": lambda f: repeated(f, DiffusionBValue=(50.0, 800.0)),
        }.items()
        for how, given in {"": (), ", --json": ("--json",)}.items()
    ],
    Case(
        GROUP,
        "a DICOM series, to DICOM",
        "the patient is kept; private groups and overlays are dropped",
        _derived_dicom,
    ),
    Case(
        GROUP,
        "a DICOM series, to DICOM, --deidentify",
        "nothing of its patient in any file",
        _deidentified,
    ),
]
