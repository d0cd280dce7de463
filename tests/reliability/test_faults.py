"""The experiments notice writers that are careless and readers that misbehave."""

import gzip
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from tests.reliability.damage import FORMATS, Sample, Tally, cut, flip
from tests.reliability.faults import full_and_read_only, limited_and_forbidden
from tests.reliability.kills import kill_at_random, kill_at_steps
from tests.reliability.runner import Skipped
from tests.reliability.worker import Answer, Worker, reader
from tests.reliability.writers import CARELESS

GOOD = Volume(np.arange(24.0).reshape(2, 3, 4), np.eye(4))
_FLAT = np.diag([1.0, 0.0, 1.0, 1.0])


def misbehave(path: Path) -> Volume:
    """Does what the file says; called in the worker."""
    deed, _, _ = _DEEDS[path.read_text()]
    return deed(path) or GOOD


def _refuse(path: Path, name: str = "") -> None:
    raise InputError(name or path, expected="something", found="else")


def _mention(path: Path, text: str) -> None:
    raise InputError(path, expected="one line", found=text)


def _exhaust(path: Path) -> None:
    try:
        np.ones(1 << 31, dtype=np.uint8)
    except MemoryError as error:
        raise InputError(path, expected="a small file", found="a large one") from error


def _sheared(path: Path) -> Volume:
    return Volume(GOOD.array, np.eye(4) + np.eye(4, k=1) * [[1], [0], [0], [0]])


#: What a reader does, and the kind and the words of the answer to it.
_DEEDS: dict[str, tuple[Callable[[Path], Volume | None], str, str]] = {
    "read": (lambda path: GOOD, "read", "2x3x4"),
    "refuse": (_refuse, "refused", "expected something"),
    "refuse nameless": (lambda path: _refuse(path, "a file"), "failed", "names no file"),
    "refuse in lines": (lambda path: _mention(path, "a\nb"), "failed", "2 lines"),
    "raise": (lambda path: {}[path], "failed", "KeyError"),
    "abort": (lambda path: os.abort(), "failed", "crashed SIGABRT"),
    "hang": (lambda path: time.sleep(60), "failed", "hung for 2 s"),
    "print": (lambda path: print("hello"), "failed", "printed 'hello"),
    "whisper": (lambda path: os.write(2, b"warning\n") and None, "failed", "printed 'warning"),
    "exhaust": (_exhaust, "failed", "MemoryError"),
    "exit": (lambda path: sys.exit(3), "failed", "SystemExit: 3"),
    "vanish": (lambda path: os._exit(4), "failed", "exit 4"),
    "shear": (_sheared, "failed", "sheared"),
    "flatten": (lambda path: Volume(GOOD.array, _FLAT), "failed", "an affine of"),
    "nan": (lambda path: Volume(GOOD.array * np.nan, np.eye(4)), "failed", "NaN"),
}
IN_PLACE, OLD_FIRST, UNTIDY = CARELESS


@pytest.mark.parametrize(
    ("experiment", "writer", "words"),
    [
        (partial(kill_at_random, kills=30), IN_PLACE, "corrupt"),
        (kill_at_steps, OLD_FIRST, "the old output is gone"),
        (kill_at_steps, UNTIDY, "left behind"),
        *((limited_and_forbidden, w, r"exit 1|not as it was|corrupt") for w in CARELESS),
    ],
)
def test_experiments_show_carelessness(experiment, writer, words: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=words):
        experiment(writer, tmp_path)


def test_full_disks_show_carelessness(tmp_path: Path) -> None:
    try:
        with pytest.raises(AssertionError, match="the path is not named"):
            full_and_read_only(UNTIDY, tmp_path)
    except Skipped as reason:
        pytest.skip(str(reason))


SHARED = Path(__file__).resolve().parents[3] / "shared" / "dicom"


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Answers of a worker that does what it is told."""
    try:
        worker = Worker("tests.reliability.test_faults:misbehave", seconds=2.0, mebibytes=512)
    except Skipped as reason:
        pytest.skip(str(reason))
    path = tmp_path_factory.mktemp("deeds") / "deed"

    def ask(deed: str) -> Answer:
        path.write_text(deed)
        return worker(path)

    yield ask
    worker.close()


@pytest.mark.parametrize("deed", _DEEDS)
def test_the_worker_notices(judge, deed):
    _, kind, words = _DEEDS[deed]
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


@pytest.mark.slow
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
    """Cut, bits turned over, bytes overwritten, a piece left out: refused or read, nothing else."""
    tally = Tally("files")
    rng = np.random.default_rng(11)
    path = tmp_path / "foreign.dcm"
    for source in _foreign():
        whole = source.read_bytes()
        whole = gzip.decompress(whole) if source.suffix == ".gz" else whole
        for number in range(100):
            damaged = bytearray(whole)
            early = min(len(whole), 4096) if number % 2 else len(whole)
            place = int(rng.integers(early))
            if number % 5 == 0:
                for bit in rng.integers(early, size=int(rng.integers(1, 6))):
                    damaged[bit] ^= 1 << int(rng.integers(8))
            elif number % 5 == 1:
                damaged[place] ^= 1 << int(rng.integers(8))
            elif number % 5 == 2:
                damaged[place : place + 4] = rng.bytes(4)
            elif number % 5 == 3:
                del damaged[place : place + int(rng.integers(1, 200))]
            else:
                del damaged[place:]
            path.write_bytes(bytes(damaged))
            tally(reader()(path), f"{source.name}, deed {number}, byte {place}")
    assert "0 failed" in str(tally)
