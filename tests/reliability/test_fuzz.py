"""The worker that reads hostile files, and damage to files that were not made here.

The promises themselves are cases (``cases_damage.py``), and run with all others.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.reliability.damage import FORMATS, Sample, Tally, cut, flip
from tests.reliability.runner import Skipped
from tests.reliability.worker import Answer, Worker, reader

SHARED = Path(__file__).resolve().parents[3] / "shared" / "dicom"


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Answers of a worker that does what it is told."""
    try:
        worker = Worker("tests.reliability.misbehave:misbehave", seconds=2.0, mebibytes=512)
    except Skipped as reason:
        pytest.skip(str(reason))
    path = tmp_path_factory.mktemp("deeds") / "deed"

    def ask(deed: str) -> Answer:
        path.write_text(deed)
        return worker(path)

    yield ask
    worker.close()


@pytest.mark.parametrize(
    ("deed", "kind", "words"),
    [
        ("read", "read", "2x3x4"),
        ("refuse", "refused", "expected something"),
        ("refuse nameless", "failed", "names no file"),
        ("refuse in lines", "failed", "2 lines"),
        ("unknown", "failed", "KeyError"),
        ("abort", "failed", "crashed SIGABRT"),
        ("hang", "failed", "hung for 2 s"),
        ("print", "failed", "printed 'hello"),
        ("whisper", "failed", "printed 'warning"),
        ("exhaust", "failed", "MemoryError"),
        ("exit", "failed", "SystemExit: 3"),
        ("vanish", "failed", "exit 4"),
        ("shear", "failed", "sheared"),
        ("flatten", "failed", "an affine of"),
        ("nan", "failed", "NaN"),
    ],
)
def test_the_worker_notices(judge, deed, kind, words):
    answer = judge(deed)
    assert answer.kind == kind
    assert words in answer.detail
    assert judge("read").kind == "read", "the worker goes on after each"


def test_the_tally_fails_with_the_place():
    tally = Tally("files")
    tally(Answer("refused", "no"), "here")
    assert str(tally) == "1 files: 1 refused, 0 read, 0 failed"
    with pytest.raises(AssertionError, match="there: failed: crashed"):
        tally(Answer("failed", "crashed SIGSEGV"), "there")
    with pytest.raises(AssertionError, match="there: read"):
        tally(Answer("read", "2x3x4"), "there", wrong=True)


def test_damage_that_passes_is_noticed(tmp_path):
    """A file may not be cut where nothing is lost but voxels: the promise of ``cut`` can fail."""
    sample = FORMATS[".nii"](tmp_path)
    padded = Sample(sample.path, sample.target, sample.whole + b"\0" * 8, sample.header)
    with pytest.raises(AssertionError, match="read"):
        cut(padded)
    covered = Sample(sample.path, sample.target, sample.whole, sample.header, checked=True)
    with pytest.raises(AssertionError, match="bit"):
        flip(covered, 20)


def _foreign() -> list[Path]:
    """DICOM of many makers: pydicom's own test files, and real series where they are at hand."""
    files = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    files += sorted(SHARED.glob("awkward/**/*.dcm")) + sorted(SHARED.glob("awkward/**/*.dcm.gz"))
    return [f for f in files if f.stat().st_size < 1 << 21]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_files_of_many_makers(tmp_path):
    """Cut, a bit turned over, a byte overwritten, a piece left out: refused or read, nothing else."""
    tally = Tally("files")
    rng = np.random.default_rng(11)
    for source in _foreign():
        whole = source.read_bytes()
        whole = gzip.decompress(whole) if source.suffix == ".gz" else whole
        path = tmp_path / "foreign.dcm"
        for number in range(60):
            damaged = bytearray(whole)
            early = min(len(whole), 4096) if number % 2 else len(whole)
            place = int(rng.integers(early))
            if number % 4 == 0:
                damaged[place] ^= 1 << int(rng.integers(8))
            elif number % 4 == 1:
                damaged[place : place + 4] = rng.bytes(4)
            elif number % 4 == 2:
                del damaged[place : place + int(rng.integers(1, 200))]
            else:
                del damaged[place:]
            path.write_bytes(bytes(damaged))
            tally(reader()(path), f"{source.name}, deed {number}, byte {place}")
    assert "0 failed" in str(tally)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"real series are not here ({SHARED})")
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_real_slice_in_every_syntax(tmp_path):
    """No slice of real size, whatever its transfer syntax, ends the process when bits turn over."""
    tally = Tally("files")
    rng = np.random.default_rng(12)
    for source in sorted((SHARED / "awkward" / "dcm_qa_ts" / "In").glob("*.dcm")):
        whole = source.read_bytes()
        for _ in range(200):
            damaged = bytearray(whole)
            for place in rng.integers(len(whole), size=int(rng.integers(1, 6))):
                damaged[place] ^= 1 << int(rng.integers(8))
            path = tmp_path / "real.dcm"
            path.write_bytes(bytes(damaged))
            tally(reader()(path), source.name)
    assert "0 failed" in str(tally)
