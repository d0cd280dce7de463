"""Files of others: pydicom's test files, and real odd series where they are at hand."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom.data

from tests.reliability.expect import Cases, assert_line, done, refused, said, same, upsample
from tests.reliability.runner import Skipped, run_cli

CASES = Cases("Files of others")
#: Development data beside the checkout, which are no part of the repository.
AWKWARD = Path(__file__).resolve().parents[3] / "shared" / "dicom" / "awkward"
_PYDICOM = Path(pydicom.data.__file__).parent / "test_files"


def _need(name: str) -> Path:
    path = AWKWARD / name
    if not path.exists():
        raise Skipped("needs real series that are no part of the repository")
    return path


def _no_crash(folder: Path, sources: Iterable[Path]) -> Counter[str]:
    """Run on files of unknown content: a result, or one line and nothing written."""
    work, counts = folder / "work", Counter[str]()
    for source in sources:
        path = source
        if source.suffix == ".gz":
            path = folder / source.stem
            path.write_bytes(gzip.decompress(source.read_bytes()))
        outcome = upsample(folder, path, "--output", "out.nii.gz", "--quiet", seconds=60)
        left = sorted(p.name for p in work.iterdir())
        try:
            if outcome.code == 0:
                assert left == ["out.json", "out.nii.gz"], left
                assert np.isfinite(nib.load(work / "out.nii.gz").get_fdata()).all()
            else:
                assert_line(outcome, 2, path)
                assert left == [], left
        except AssertionError as error:
            raise AssertionError(f"{source.name}: {error}") from error
        for name in left:
            (work / name).unlink()
        counts["refused" if outcome.code else "read"] += 1
    return counts


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))


def _all_of_pydicom(folder: Path) -> str:
    files = sorted(p for p in _PYDICOM.rglob("*") if p.is_file() and p.suffix != ".py")
    assert len(files) > 100, f"only {len(files)} files"
    counts = _no_crash(folder, files)
    assert counts["read"] > 10, counts
    return _told(counts)


def _folder_of_pydicom(folder: Path) -> str:
    outcome = run_cli(["info", _PYDICOM], folder, seconds=100)
    assert outcome.code in (0, 2), outcome.stderr[-300:]
    assert "Traceback" not in outcome.stderr, outcome.stderr[-300:]
    return f"{len(outcome.stdout.splitlines())} lines"


def _syntaxes(folder: Path) -> str:
    """Nine files of one slice in seven transfer syntaxes."""
    results = {}
    for path in sorted(_need("dcm_qa_ts/In").glob("*.dcm")):
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
        line = refused(folder, path, "gzip")
    return line


def _unpacked(folder: Path) -> str:
    """Philips enhanced MR and raw data objects, unpacked."""
    return _told(_no_crash(folder, sorted(_need("dcm_qa_philips_enh/In").rglob("*.dcm.gz"))))


def _mixed(folder: Path) -> str:
    outcome = upsample(folder, _need("dcm_qa_enh/In/Philips/IM_0027_fMAP.dcm"))
    assert_line(outcome, 2, None, "2 volumes")
    return said(outcome, folder)


def _siemens(folder: Path) -> str:
    return _told(_no_crash(folder, sorted(_need("dcm_qa_enh/In/Siemens/XA10").glob("*.dcm"))))


_READ_OR_REFUSED = "a result, or refused in one line"
_BIT_FOR_BIT = "the same result, bit for bit"
CASES.add(
    "each of pydicom's test files", f"{_READ_OR_REFUSED}; no crash", _all_of_pydicom, slow=True
)
CASES.add("mrisr info on pydicom's test files", "no crash", _folder_of_pydicom, slow=True)
CASES.add("one real slice in seven transfer syntaxes", _BIT_FOR_BIT, _syntaxes, slow=True)
CASES.add("a real diffusion series with a slice missing", "refused", _missing)
CASES.add("real enhanced MR with two volumes mixed", "refused, naming both", _mixed)
CASES.add("real enhanced MR of single volumes", _READ_OR_REFUSED, _siemens, slow=True)
CASES.add("real .dcm.gz files", "refused", _packed)
CASES.add("real enhanced MR and raw data objects", _READ_OR_REFUSED, _unpacked, slow=True)
