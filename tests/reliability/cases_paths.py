"""What a path may be: missing, odd, special, or not for us to read."""

import gzip
import os
import socket
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.reliability.dicom_files import enhanced, series
from tests.reliability.expect import Cases, assert_discreet, assert_line, said, upsample
from tests.reliability.runner import run_cli
from tests.reliability.volume_files import Make, late, meta, nifti, written

CASES = Cases("Input paths")
refuse, handle = CASES.refuse, CASES.handle
#: For what no run may wait; one that waits for a FIFO takes for ever.
at_once = partial(CASES.refuse, seconds=20)
forbidden = partial(CASES.refuse, unprivileged=True)
_DENIED = "Permission denied"

#: Raw bytes in a name would be written in another spelling; the code and the line count there.
_ODD = {
    "spaces": "my study, part 2",
    "letters beyond ASCII": "Studie größe 前列腺 🧲",
    "a newline": "two\nlines",
    "quotes and wildcards": 'it\'s [a] "*?" $HOME',
    "a leading dash": "-rf",
    "control characters": "red\x1b[31m\x07",
}


@late
def inside(folder: Path, name: str, make: Make = nifti) -> Path:
    target = folder / name
    target.mkdir(parents=True)
    return make(target)


@late
def linked(folder: Path, make: Make) -> Path:
    source = make(folder)
    link = folder / f"link{source.suffix}"
    link.symlink_to(source)
    return link


@late
def special(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    make(folder / name)
    return folder / name


@late
def closed(folder: Path, make: Make, *, parent: bool = False) -> Path:
    """Makes an input and takes away the right to read it, or to enter its folder."""
    path = make(folder)
    (path.parent if parent else path).chmod(0)
    return path


def _nothing(name: str, folder: Path) -> Path:
    return folder / name / "t2w.nii"


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may be a hundred characters long
        try:
            s.bind(path.name)
        finally:
            os.chdir(here)


def _gzipped_dicom(folder: Path) -> Path:
    return written("enhanced.dcm.gz", gzip.compress(enhanced(folder).read_bytes()))(folder)


def _zip(folder: Path) -> Path:
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in series(folder).iterdir():
            archive.write(part, part.name)
    return path


def _not_utf8(folder: Path) -> Path:
    path = folder / os.fsdecode(b"t2w_\xff\xfe.nii")
    try:
        return nifti(folder).rename(path)
    except OSError:  # a file system that knows only UTF-8
        return folder / "t2w.nii"


def _odd_output(folder: Path) -> str:
    """The default name of an output is the input's stem, whatever that is."""
    source = nifti(folder).rename(folder / "a b\tc.nii")
    work = folder / "work"
    work.mkdir()
    outcome = run_cli(["inplane", "--input", source, "--scale", 2, "--model", "zero-inplane"], work)
    assert outcome.code == 0, outcome.stderr
    names = sorted(p.name for p in work.iterdir())
    assert names == ["a b\tc_inplane-x2.json", "a b\tc_inplane-x2.nii.gz"], names
    return f"written: {', '.join(names)!r}"


def _nothing_given(folder: Path) -> str:
    outcome = upsample(folder, Path())
    assert outcome.code in (1, 2), outcome
    assert_discreet(outcome)
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    return said(outcome, folder)


def _empty_info(folder: Path) -> str:
    outcome = run_cli(["info", folder], folder)
    assert_line(outcome, 2, folder, "none")
    return said(outcome, folder)


refuse("nothing at the path", lambda f: f / "none.nii.gz", "nothing at that path")
picture = written("t2w.png", b"\x89PNG\r\n\x1a\n" + bytes(500))
refuse("an ending that mrisr does not read", picture, ".png")
refuse("a folder called .nii.gz", special("t2w.nii.gz", Path.mkdir), "no DICOM image")
for name in ("t2w.nii.gz", "t2w.dcm"):
    at_once(f"a FIFO called {name}", special(name, os.mkfifo))
at_once("a socket", special("t2w.nii", _socket))
at_once("/dev/null", lambda f: Path("/dev/null"))
at_once("/dev/zero", lambda f: Path("/dev/zero"))
at_once("a link to /dev/zero", special("t2w.nii", lambda p: p.symlink_to("/dev/zero")))
refuse("a link to itself", special("t2w.nii", lambda p: p.symlink_to(p)))
refuse("a link that leads nowhere", special("t2w.nii", lambda p: p.symlink_to("no")))
handle("a link to a file", linked(nifti))
handle("a link to a folder of slices", linked(series))
refuse("a name of 300 letters", lambda f: f / f"{'x' * 300}.nii")
refuse("a path of 5000 letters", lambda f: f / "/".join(["x" * 99] * 50) / "t.nii")
refuse("a file taken for a folder", lambda f: nifti(f) / "t2w.nii", "nothing")
for name, make in {
    ".nii": nifti,
    ".nii.gz": partial(nifti, name="t2w.nii.gz"),
    ".mha": meta,
    "DICOM file": enhanced,
    "folder": series,
}.items():
    forbidden(f"a {name} that may not be read", closed(make), _DENIED)
forbidden(
    "a file in a folder that may not be entered", closed(inside("closed"), parent=True), _DENIED
)
refuse("a gzipped DICOM file", _gzipped_dicom, "gzip")
refuse("a zip archive", _zip, ".zip")
for what, name in _ODD.items():
    handle(f"{what} in the path", inside(name))
for what, name in _ODD.items():
    handle(f"{what} in the path of a DICOM series", inside(name, series))
for what, name in _ODD.items():
    nothing = partial(_nothing, name)
    refuse(f"nothing at a path with {what}", nothing, "nothing at that path")
handle("bytes in the name that are no UTF-8", _not_utf8)
CASES.add("an odd name and no --output", "the output is named after it", _odd_output)
CASES.add("an empty path", "refused", _nothing_given)
CASES.add("mrisr info on an empty folder", "refused", _empty_info)
