"""Names and endings of files, and what may be written where."""

import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Literal

from mrisr.core.errors import OutputError
from mrisr.io import metaheader

Format = Literal["nifti", "itk"]

#: Endings of volume files and the reader behind each.
ENDINGS: dict[str, Format] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".mha": "itk",
    ".mhd": "itk",
    ".nrrd": "itk",
}

#: Bytes in the name of an output; file systems allow 255.
_LONGEST_NAME = 200
SUPPORTED = ", ".join(ENDINGS)


def ending(path: str | PathLike[str]) -> str | None:
    """The supported ending of a path, in lower case, or None."""
    name = Path(path).name.lower()
    return next((e for e in ENDINGS if name.endswith(e) and name != e), None)


def stem(path: str | PathLike[str]) -> str:
    """The name without its ending: ``t2w`` for ``t2w.nii.gz``; a folder's name whole.

    >>> stem("study/t2w.nii.gz")
    't2w'
    """
    path = Path(path)
    found = ending(path)
    if found is not None:
        return path.name[: -len(found)]
    plain = path.stem if path.suffix.lower() in (".dcm", ".ima") else path.name
    return plain or "volume"


#: What is said of a link to content of git-annex that has not been fetched.
NOWHERE = "a link that leads nowhere (datalad get?)"


def leads_nowhere(path: Path) -> bool:
    """True for a link to what is not there."""
    return path.is_symlink() and not path.exists()


def as_text(name: str) -> str:
    """A name that may be no UTF-8, with such bytes written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def subject_folders(data: Path) -> tuple[list[Path], list[Path]]:
    """The folders of subjects in a folder, and other folders beside them.

    In a BIDS tree (``dataset_description.json``, or any ``sub-*``) only ``sub-*`` are subjects.
    """
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
    subjects = [p for p in folders if p.name.startswith("sub-")]
    if not subjects and not (data / "dataset_description.json").is_file():
        return folders, []
    return subjects, [p for p in folders if p not in subjects]


def output_format(path: str | PathLike[str]) -> Format:
    """Name the writer that makes this file. Raises OutputError for an ending that none makes."""
    found = ending(path)
    if found is None:
        raise OutputError(f"{path}: expected a name ending in {SUPPORTED}")
    return ENDINGS[found]


def check_output(
    path: str | PathLike[str],
    *,
    inputs: Iterable[str | PathLike[str] | None] = (),
    force: bool = False,
) -> Path:
    """Make sure that writing ``path`` would destroy nothing that it should not.

    Args:
        inputs: files and folders read by the same call; they are never overwritten.
        force: allow an existing file that is no input to be replaced.

    Raises:
        OutputError: the path exists (without ``force``), is an input (also by another name), is
            not a file, or its folder is missing or cannot be written.
    """
    path = Path(path)
    written = [path, path.with_suffix(".raw")] if ending(path) == ".mhd" else [path]
    read = [Path(source) for source in inputs if source is not None]
    headers = [metaheader.data_file(source) for source in read if ending(source) == ".mhd"]
    read += [voxels for voxels in headers if voxels is not None]
    for target in written:
        _check_name(target)
        for source in read:
            same = os.path.realpath(target) == os.path.realpath(source)
            if same or (target.exists() and source.exists() and target.samefile(source)):
                raise OutputError(f"{target}: is an input of this run and is never overwritten")
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: expected a file to write, found something else there")
        if os.path.lexists(target) and not force:
            raise OutputError(f"{target}: exists already (--force replaces)")
    _check_parent(path)
    return path


def check_output_folder(
    path: str | PathLike[str],
    *,
    inputs: Iterable[str | PathLike[str] | None] = (),
    force: bool = False,
) -> Path:
    """Make sure that a folder to be written would take the place of nothing that matters.

    Args, returns and raises: as ``check_output``. Besides, a folder inside an input folder is
    refused, because the next run would take it for input; so is one that holds an input.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    for source in inputs:
        if source is None:
            continue
        read = Path(os.path.realpath(source))
        if target == read or target in read.parents:
            raise OutputError(f"{path}: holds an input of this run and is never overwritten")
        if read.is_dir() and read in target.parents:
            raise OutputError(f"{path}: lies in the input folder {source}; choose another place")
    check_replaceable(path)
    if path.is_dir() and any(path.iterdir()) and not force:
        raise OutputError(f"{path}: exists already (--force replaces)")
    _check_parent(path)
    return path


def check_replaceable(path: Path) -> None:
    """Refuse what no folder can replace. Raises OutputError."""
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise OutputError(f"{path}: expected a folder to write, found something else there")
    if path.is_dir() and (path.is_mount() or Path.cwd().is_relative_to(path.resolve())):
        found = "the working folder or a mounted one cannot be replaced in one step"
        raise OutputError(f"{path}: {found}; name a folder in it")


def _check_parent(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: its folder {folder} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: its folder {folder} cannot be written")


def _check_name(target: Path) -> None:
    """A file is written under a longer, temporary name first, which must fit as well."""
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise OutputError(f"{target}: expected a name of at most {_LONGEST_NAME} bytes")
    try:
        target.parent.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # which is said of the folder, later
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(f"{target}: its folder {target.parent}: {cause}") from error
