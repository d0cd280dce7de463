"""Promises as experiments: an input that is refused, and one that gives the clean result."""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.reliability.dicom_files import SECRETS
from tests.reliability.runner import Outcome, run_all, run_cli
from tests.reliability.volume_files import Make, nifti

#: What a claim may cost: "refused in 1 s, under 500 MB", and room for a busy machine.
SECONDS, MEBIBYTES = 2.0, 500.0

#: An experiment: gets an empty folder and returns in a few words what happened.
Run = Callable[[Path], str]


@dataclass(frozen=True)
class Case:
    """One row of the reliability table: a promise and the experiment that checks it.

    Attributes:
        group: heading of the table it stands under.
        name: what is fed to mrisr, or what hits it; unique within the group.
        should: what mrisr promises to do then.
        run: raises AssertionError, with the few words of what happened, where that is not what
            should happen, and Skipped.
        slow: takes more than about ten seconds, or repeats what another case tries; left out of
            the gate.
    """

    group: str
    name: str
    should: str
    run: Run
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


class Cases(list[Case]):
    """The cases of a module, under one heading or several."""

    def __init__(self, group: str) -> None:
        super().__init__()
        self.group = group

    def add(self, name: str, should: str, run: Run, *, slow: bool = False) -> None:
        self.append(Case(self.group, name, should, run, slow))

    def case(self, name: str, should: str, *, slow: bool = False) -> Callable[[Run], Run]:
        """A case of the function that this decorates."""

        def register(run: Run) -> Run:
            self.add(name, should, run, slow=slow)
            return run

        return register

    def refuse(self, name: str, make: Make, *words: str, **options: Any) -> None:
        """A case of an input that is refused; ``words`` stand in the line, options as in ``refused``."""
        should = refusal(*words) + ("; in 1 s, under 500 MB" if options.get("cheap") else "")
        self.add(name, should, lambda folder: refused(folder, make(folder), *words, **options))

    def handle(self, name: str, make: Make, *notes: str, should: str = "", **options: Any) -> None:
        """A case of an input that is as good as the clean one; ``notes`` stand in the record."""
        should = should or ("exact" if "like" in options else "the clean result")
        should += f", noted in the record: `{', '.join(notes)}`" if notes else ""
        self.add(name, should, lambda folder: handled(folder, make(folder), *notes, **options))

    def each(self, name: str, makes: Mapping[str, Make], *words: str) -> None:
        """A case of several inputs that are all refused."""

        def run(folder: Path) -> str:
            sources = {}
            for number, (title, make) in enumerate(makes.items()):
                (part := folder / f"part{number}").mkdir()
                sources[title] = make(part)
            with unchanged(folder, "work"):
                commands = [_arguments(source) for source in sources.values()]
                ended = run_all([*commands, ["info", *list(sources.values())[:1]]], _work(folder))
            for (title, source), outcome in zip(sources.items(), ended, strict=False):
                try:
                    assert_line(outcome, 2, source, *words)
                except AssertionError as error:
                    raise AssertionError(f"{title}: {error}") from error
            assert_info(ended[len(sources)])
            return f"{len(sources)} times refused, e.g. {said(outcome, folder)}"

        self.add(name, refusal(*words), run)


def refusal(*words: str, start: str = "refused") -> str:
    """The promise of a refusal whose line says the words, UIDs left out."""
    short = [f"`{word}`" for word in words if len(word) < 40]
    return f"{start}; the line says {', '.join(short)}" if short else start


@dataclass(frozen=True)
class Result:
    """What a run wrote: stored numbers, affine and record."""

    voxels: np.ndarray
    affine: np.ndarray
    record: dict[str, Any]
    outcome: Outcome


def upsample(
    folder: Path, source: Path, *options: object, job: str = "inplane", **run: Any
) -> Outcome:
    """Run an upsampler by the factor 2 in ``folder/work``, where it writes ``out.nii.gz``."""
    return run_cli(_arguments(source, *options, job=job), _work(folder), **run)


def _work(folder: Path) -> Path:
    (folder / "work").mkdir(exist_ok=True)
    return folder / "work"


def _arguments(source: Path, *options: object, job: str = "inplane") -> list[object]:
    size = ("--scale", 2) if job == "inplane" else ("--factor", 2)
    given = {"inplane": "--input", "throughplane": "--axial"}[job]
    arguments: list[object] = [job, given, source, *size]
    if "--model" not in options:
        arguments += ["--model", f"zero-{job}"]
    if "--output" not in options:
        arguments += ["--output", "out.nii.gz"]
    return [*arguments, *options]


def refused(
    folder: Path,
    source: Path,
    *words: str,
    code: int = 2,
    cheap: bool = False,
    info: bool = True,
    options: Sequence[object] = (),
    **run: Any,
) -> str:
    """Assert a refusal: its exit code, one line that names the file and says the words, nothing written.

    ``cheap`` bounds its time and memory; ``info`` asks ``mrisr info`` about the same input; the rest as
    in ``upsample``. Returns the line, without the folder.
    """
    command = _arguments(source, *options, job=run.pop("job", "inplane"))
    with unchanged(folder, "work"):
        ended = run_all([command, ["info", source]][: 1 + info], _work(folder), **run)
    outcome = ended[0]
    assert_line(outcome, code, source, *words)
    if cheap:
        spent = f"{outcome.cpu_seconds:.1f} s and {outcome.peak_mib:.0f} MiB spent"
        assert outcome.cpu_seconds < SECONDS, spent
        assert outcome.peak_mib < MEBIBYTES, spent
    if info:
        assert_info(ended[1])
    return said(outcome, folder)


def assert_info(told: Outcome) -> None:
    """Assert that ``mrisr info`` came to an end, and kept the patient to itself."""
    assert told.code in (0, 2), f"mrisr info ended with {told.code}: {told.stderr[-300:]}"
    assert_discreet(told)


@contextmanager
def unchanged(folder: Path, *aside: str) -> Iterator[None]:
    """Assert that what lies in the folder is the same afterwards; some names in it do not count."""

    def found() -> set[tuple[str, str]]:
        return {known for known in snapshot(folder).items() if known[0] not in aside}

    before = found()
    yield
    changed = sorted(found() ^ before)
    assert not changed, f"changed or left behind: {changed[:3]}"


def assert_line(outcome: Outcome, code: int, source: Path | None, *words: str) -> None:
    """Assert that a run failed with one line on standard error, and nothing else to see."""
    line = outcome.stderr
    assert not outcome.timed_out, f"no end after {outcome.seconds:.0f} s"
    assert outcome.code == code, f"exit {outcome.code}: {line[-300:] or outcome.stdout[-300:]}"
    assert "Traceback" not in line, f"a traceback: {line[-300:]}"
    assert line.count("\n") == 1, f"{line.count(chr(10))} lines: {line[:300]}"
    assert line.endswith("\n"), line
    assert line.startswith("mrisr: "), line
    assert line.rstrip("\n").isprintable(), f"control characters: {line!r}"
    assert outcome.stdout == "", f"on standard output: {outcome.stdout[:300]}"
    if source is not None:
        assert _one_line(source) in line, f"the file is not named: {line}"
    if code == 2:
        assert "expected " in line, line
        assert ", found " in line, line
    for word in words:
        assert word in line, f"{word!r} is not in: {line}"
    assert_discreet(outcome)


def assert_discreet(outcome: Outcome) -> None:
    """Assert that nothing of the patient was printed, and no traceback."""
    text = (outcome.stdout + outcome.stderr).lower()
    assert "traceback" not in text, f"a traceback: {outcome.stderr[-300:]}"
    for secret in SECRETS:
        assert secret not in text, f"the patient's {secret!r} was printed"


def said(outcome: Outcome, folder: Path) -> str:
    """The exit code and the line on standard error, without the folder's name."""
    line = outcome.stderr.strip().removeprefix("mrisr: ").replace(f"{_one_line(folder)}/", "")
    return f"exit {outcome.code}: {line}"


def done(folder: Path, outcome: Outcome, output: str = "out.nii.gz") -> Result:
    """Assert that a run worked and left its volume and record only; read them."""
    assert outcome.code == 0, f"exit {outcome.code}: {outcome.stderr[-400:]}"
    assert_discreet(outcome)
    path = folder / "work" / output
    left = sorted(p.name for p in path.parent.iterdir())
    record = path.parent / f"{path.name.split('.')[0]}.json"
    assert left == sorted([path.name, record.name]), f"in the output's folder: {left}"
    image = nib.load(path)
    stored = image.dataobj.get_unscaled()
    scaling = np.array([image.dataobj.slope, image.dataobj.inter])
    values = stored if (scaling == [1, 0]).all() else stored * scaling[0] + scaling[1]
    return Result(values, image.affine, json.loads(record.read_text()), outcome)


def same(result: Result, expected: Result) -> None:
    """Assert equal voxels, and affines equal within the rounding of float32 headers."""
    assert result.voxels.dtype == expected.voxels.dtype, f"dtype {result.voxels.dtype}"
    assert result.voxels.shape == expected.voxels.shape, f"shape {result.voxels.shape}"
    different = int(np.count_nonzero(result.voxels != expected.voxels))
    assert different == 0, f"{different} of {result.voxels.size} voxels differ"
    off = float(np.abs(result.affine - expected.affine).max())
    assert off <= 1e-5, f"the affine is {off:.2g} mm off"


def handled(
    folder: Path,
    source: Path,
    *notes: str,
    options: Sequence[object] = (),
    like: Make = nifti,
    job: str = "inplane",
    **run: Any,
) -> str:
    """Assert that an input gives exactly what the NIfTI that ``like`` makes gives, and that the record
    says ``notes``, or nothing."""
    result = done(folder, upsample(folder, source, *options, job=job, **run))
    same(result, _expected(like, job))
    noted = result.record["notes"]
    for note in notes:
        assert any(note in n for n in noted), f"the record does not note {note!r}: {noted}"
    assert notes or not noted, f"the record notes {noted}"
    return "the clean result" + (f", noted: {'; '.join(noted)}" if noted else "")


@cache
def _expected(make: Make, job: str) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return done(folder, upsample(folder, make(folder), job=job))


def snapshot(folder: Path) -> dict[str, str]:
    """What lies below a folder: kind, size and digest of everything, links not followed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            mode = path.lstat().st_mode
            known = f"{stat.S_IFMT(mode):o}"
            if stat.S_ISREG(mode) and os.access(path, os.R_OK):
                known += f" {hashlib.sha256(path.read_bytes()).hexdigest()}"
            found[str(path.relative_to(folder))] = known
    return found


def _one_line(path: Path) -> str:
    """A path as the command line prints it."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(path)).split())
