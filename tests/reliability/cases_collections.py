"""Files of others: pydicom's test files, and real odd series where they are at hand."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.reliability.case import Case, Skipped
from tests.reliability.expect import assert_line, done, refused, said, same, snapshot, upsample
from tests.reliability.runner import run_cli

GROUP = "Files of others"
#: Development data beside the checkout, which are no part of the repository.
AWKWARD = Path(__file__).resolve().parents[3] / "shared" / "dicom" / "awkward"


def _need(name: str) -> Path:
    path = AWKWARD / name
    if not path.exists():
        raise Skipped("needs real series that are no part of the repository")
    return path


def _pydicom_files() -> list[Path]:
    import pydicom.data

    folder = Path(pydicom.data.__file__).parent / "test_files"
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".py")


def _no_crash(folder: Path, source: Path) -> str:
    """Run on a file of unknown content: a result, or one line and nothing written."""
    work = folder / "work"
    outcome = upsample(folder, source, "--output", "out.nii.gz", "--quiet", seconds=60)
    left = sorted(p.name for p in work.iterdir())
    if outcome.code == 0:
        assert left == ["out.json", "out.nii.gz"], left
        assert np.isfinite(nib.load(work / "out.nii.gz").get_fdata()).all()
        for name in left:
            (work / name).unlink()
        return "read"
    assert_line(outcome, 2, source)
    assert left == [], left
    return "refused"


def _all_of_pydicom(folder: Path) -> str:
    files = _pydicom_files()
    assert len(files) > 100, f"only {len(files)} files"
    counts: Counter[str] = Counter()
    for path in files:
        try:
            counts[_no_crash(folder, path)] += 1
        except AssertionError as error:
            raise AssertionError(f"{path.name}: {error}") from error
    assert counts["read"] > 10, counts
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))


def _folder_of_pydicom(folder: Path) -> str:
    source = _pydicom_files()[0].parent
    outcome = run_cli(["info", source], folder, seconds=100)
    assert outcome.code in (0, 2), outcome.stderr[-300:]
    assert "Traceback" not in outcome.stderr, outcome.stderr[-300:]
    return f"{len(outcome.stdout.splitlines())} lines"


def _syntaxes(folder: Path) -> str:
    """Nine files of one slice in seven transfer syntaxes."""
    source = _need("dcm_qa_ts/In")
    results = {}
    for path in sorted(source.glob("*.dcm")):
        part = folder / path.stem
        part.mkdir()
        results[path.name] = done(part, upsample(part, path))
    clean = results.pop("1.dcm")
    for name, result in results.items():
        try:
            same(result, clean)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return f"{len(results)} files equal the first, bit for bit"


def _missing(folder: Path) -> str:
    return refused(folder, _need("dwi_missing_slice"), "missing slice")


def _packed(folder: Path) -> str:
    for path in sorted(_need("dcm_qa_philips_enh/In").rglob("*.dcm.gz")):
        before = snapshot(folder)
        line = refused(folder, path, "gzip")
        assert snapshot(folder).keys() - before.keys() <= {"work"}
    return line


def _unpacked(folder: Path) -> str:
    """Philips enhanced MR and raw data objects, unpacked."""
    counts: Counter[str] = Counter()
    for path in sorted(_need("dcm_qa_philips_enh/In").rglob("*.dcm.gz")):
        file = folder / path.stem
        file.write_bytes(gzip.decompress(path.read_bytes()))
        try:
            counts[_no_crash(folder, file)] += 1
        except AssertionError as error:
            raise AssertionError(f"{file.name}: {error}") from error
        file.unlink()
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))


def _mixed(folder: Path) -> str:
    outcome = upsample(folder, _need("dcm_qa_enh/In/Philips/IM_0027_fMAP.dcm"))
    assert_line(outcome, 2, None, "2 volumes")
    return said(outcome, folder)


def _siemens(folder: Path) -> str:
    lines = []
    for path in sorted(_need("dcm_qa_enh/In/Siemens/XA10").glob("*.dcm")):
        lines.append(_no_crash(folder, path))
    return ", ".join(lines)


CASES = [
    Case(
        GROUP,
        "each of pydicom's test files",
        "a result, or refused in one line; no crash",
        _all_of_pydicom,
        slow=True,
    ),
    Case(GROUP, "mrisr info on pydicom's test files", "no crash", _folder_of_pydicom, slow=True),
    Case(
        GROUP,
        "one real slice in seven transfer syntaxes",
        "the same result, bit for bit",
        _syntaxes,
        slow=True,
    ),
    Case(GROUP, "a real diffusion series with a slice missing", "refused", _missing),
    Case(GROUP, "real enhanced MR with two volumes mixed", "refused, naming both", _mixed),
    Case(
        GROUP,
        "real enhanced MR of single volumes",
        "a result, or refused in one line",
        _siemens,
        slow=True,
    ),
    Case(GROUP, "real .dcm.gz files", "refused", _packed),
    Case(
        GROUP,
        "real enhanced MR and raw data objects",
        "a result, or refused in one line",
        _unpacked,
        slow=True,
    ),
]
