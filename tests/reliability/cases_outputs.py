"""Where results go: nothing that exists is lost, and a refusal comes before the work."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.reliability.dicom_files import series
from tests.reliability.expect import (
    Cases,
    assert_line,
    done,
    refusal,
    said,
    snapshot,
    unchanged,
    upsample,
)
from tests.reliability.volume_files import late, meta, nifti

CASES = Cases("Outputs")
_OLD = b"an older result"

#: Lays out the folder and returns the options to run with; the input is ``t2w.nii`` in it.
Prepare = Callable[[Path], Sequence[object]]


def kept(name: str, prepare: Prepare, *words: str, code: int = 3, **run: object) -> None:
    """A case of an output that is refused, with everything as it was before."""

    def check(folder: Path) -> str:
        source = nifti(folder)
        (folder / "work").mkdir()
        options = prepare(folder)
        with unchanged(folder):
            outcome = upsample(folder, source, *options, seconds=20, **run)
            assert_line(outcome, code, None, *words)
            assert "slices" not in outcome.stderr, "refused after the work"
        return said(outcome, folder)

    CASES.add(name, refusal(*words, start="refused, everything as it was"), check)


def written(name: str, prepare: Prepare, should: str, output: str = "out.nii.gz") -> None:
    """A case of an output that is written after all, whole."""

    def check(folder: Path) -> str:
        source = nifti(folder)
        (folder / "work").mkdir()
        result = done(folder, upsample(folder, source, *prepare(folder)), output)
        assert (folder / "work" / output).is_file()
        return f"{output} written, {'x'.join(map(str, result.voxels.shape))} voxels"

    CASES.add(name, should, check)


def given(*options: object) -> Prepare:
    """The options as they are; ``INPUT`` stands for the input."""
    return lambda folder: [folder / "t2w.nii" if o == "INPUT" else o for o in options]


@late
def linked(folder: Path, how: Callable[[Path, Path], object]) -> Sequence[object]:
    how(folder / "t2w.nii", folder / "other.nii")
    return ["--output", folder / "other.nii", "--force"]


@late
def exists(folder: Path, *names: str, options: Sequence[object] = ()) -> Sequence[object]:
    for name in names:
        (folder / "work" / name).write_bytes(_OLD)
    return options


@late
def into(folder: Path, make: Callable[[Path], object], *options: object) -> Sequence[object]:
    """Makes something of the path ``work/out.nii.gz``."""
    make(folder / "work" / "out.nii.gz")
    return options


def _link_is_replaced(folder: Path) -> str:
    source = nifti(folder)
    (folder / "work").mkdir()
    (folder / "precious.nii.gz").write_bytes(_OLD)
    (folder / "work" / "out.nii.gz").symlink_to(folder / "precious.nii.gz")
    done(folder, upsample(folder, source, "--force"))
    assert not (folder / "work" / "out.nii.gz").is_symlink(), "still a link"
    assert (folder / "precious.nii.gz").read_bytes() == _OLD, "the link was followed"
    return "the link was replaced, its target is as it was"


def _closed(folder: Path) -> Sequence[object]:
    (folder / "work").chmod(0o555)
    return ["--output", folder / "work" / "out.nii.gz"]


def _dicom_untouched(folder: Path) -> str:
    """An output inside the folder of the series it comes from is one file more, and nothing else."""
    source = series(folder)
    before = snapshot(source)
    outcome = upsample(folder, source, "--output", source / "out.nii.gz")
    assert outcome.code == 0, outcome.stderr
    after = snapshot(source)
    assert sorted(after.keys() - before.keys()) == ["out.json", "out.nii.gz"], sorted(after)
    assert before.items() <= after.items(), "a slice was changed"
    again = upsample(folder, source, "--output", folder / "work" / "again.nii.gz")
    assert again.code == 0, again.stderr
    return "written beside the slices; the series is read as before"


def _voxels_of_input(folder: Path) -> str:
    """The .raw of a .mhd is an input too."""
    source = meta(folder, "t2w.mhd")
    with unchanged(folder, "work"):
        outcome = upsample(folder, source, "--output", source, "--force")
        assert_line(outcome, 3, source, "never overwritten")
    return said(outcome, folder)


_NEVER = "never overwritten"
kept("the output is the input", given("--output", "INPUT"), _NEVER)
kept("the output is the input, --force", given("--output", "INPUT", "--force"), _NEVER)
spelt = given("--output", "./.././t2w.nii", "--force")
kept("the output is the input by another spelling, --force", spelt, _NEVER)
symbolic = linked(lambda source, link: link.symlink_to(source))
kept("the output is a link to the input, --force", symbolic, _NEVER)
kept("the output is a hard link to the input, --force", linked(os.link), _NEVER)
kept("--qc is the input, --force", given("--qc", "INPUT", "--force"), _NEVER)
kept("--qc is the output", given("--qc", "out.nii.gz"), "different names")
CASES.add("the output is a .mhd that is the input, --force", "refused", _voxels_of_input)
kept("the output exists", exists("out.nii.gz"), "exists already", "--force")
kept("the record exists", exists("out.json"), "out.json", "exists already")
kept("the picture exists", exists("qc.png", options=["--qc", "qc.png"]), "qc.png", "exists already")
both = exists("out.nii.gz", "out.json", options=["--force"])
written("the output and the record exist, --force", both, "both are replaced")
kept("the output is a folder, --force", into(Path.mkdir, "--force"), "out.nii.gz")
kept("the output is a FIFO, --force", into(os.mkfifo, "--force"), "out.nii.gz")
kept("the output is a link that leads nowhere", into(lambda p: p.symlink_to("no")), "exists")
target = "the link is replaced; the other file is as it was"
CASES.add("the output is a link to another file, --force", target, _link_is_replaced)
kept("no such folder", given("--output", "none/out.nii.gz"), "none", "does not exist")
kept("a folder that may not be written", _closed, "work", "cannot be written", unprivileged=True)
kept("a file taken for a folder", lambda f: ["--output", f / "t2w.nii" / "out.nii"], "t2w.nii")
kept("an ending that mrisr does not write", given("--output", "out.png"), ".nii.gz")
kept("no ending", given("--output", "out"), ".nii.gz")
kept("/dev/null", given("--output", "/dev/null", "--force"), "/dev/null")
kept("a name of 300 letters", given("--output", f"{'x' * 300}.nii"))
kept("a name of 250 letters", given("--output", f"{'x' * 245}.nii"))
for ending in (".nii", ".nii.gz"):
    written(
        f"an output ending in {ending}",
        given("--output", f"out{ending}"),
        "written whole, and read back before it appears",
        f"out{ending}",
    )
untouched = "the series is as it was"
CASES.add("an output in the folder of the input series", untouched, _dicom_untouched)
