"""Files and folders that appear whole or not at all.

A writer gets a temporary path beside the target; when it is done everything is flushed to the disk
and renamed over the target. A failure, or a kill at any moment, leaves the old output as it was.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from mrisr.core.errors import OutputError
from mrisr.io import files
from mrisr.io.paths import check_replaceable

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def atomic_path(
    path: str | PathLike[str], *, overwrite: bool = True, size: int = 0
) -> AbstractContextManager[Path]:
    """A temporary path beside ``path`` that becomes ``path`` when the block ends well.

    It is removed when the block raises. What killed runs left for the same target is removed first.

    Args:
        path: the target. A symbolic link is replaced, never followed.
        overwrite: False makes the final step fail if the target has appeared meanwhile.
        size: bytes about to be written; a disk with less room is refused at once.

    Raises:
        OutputError: for every OSError (no space, no permission, no folder), naming the path.
    """
    return _in_the_making(Path(path), overwrite, size, folder=False)


def atomic_folder(
    path: str | PathLike[str], *, overwrite: bool = True, size: int = 0
) -> AbstractContextManager[Path]:
    """A temporary sibling folder that becomes ``path`` in one step when the block ends well.

    Every file in it is flushed to the disk before that. The temporary folder is removed when the
    block raises; an old folder goes once the new one has its place, with everything in it, so the
    caller checks beforehand what may be replaced.

    Args and errors: as ``atomic_path``, of a target that is nothing, an empty folder or, with
    ``overwrite``, any folder.
    """
    return _in_the_making(Path(path), overwrite, size, folder=True)


@contextmanager
def _in_the_making(path: Path, overwrite: bool, size: int, *, folder: bool) -> Iterator[Path]:
    with as_output_error(path, size):
        if folder:
            check_replaceable(path)
        elif path.exists() and not path.is_file():
            raise OutputError(f"{path}: expected a file to write, found something else there")
        temporary = ready_to_write(path, size)
        if folder and not overwrite and path.is_dir() and any(path.iterdir()):
            raise OutputError(f"{path}: exists already (--force replaces)")
        try:
            with as_output_error(path, size, temporary):
                temporary.mkdir() if folder else temporary.touch(exist_ok=False)
                yield temporary
                (files.flush_tree if folder else files.flush)(temporary)
                move = files.move_folder if folder else files.move_file
                move(temporary, path, overwrite=overwrite)
                files.flush_folder(path.parent)
        finally:
            files.remove(temporary)


def write_bytes(path: str | PathLike[str], data: bytes, *, overwrite: bool = True) -> Path:
    """Write ``data`` to ``path`` in one step. Raises OutputError."""
    with atomic_path(path, overwrite=overwrite, size=len(data)) as temporary:
        temporary.write_bytes(data)
    return Path(path)


@contextmanager
def staged(contents: Mapping[Path, bytes], *, overwrite: bool = True) -> Iterator[None]:
    """Have files whole on the disk before the block, and in their places when it has ended well.

    A record that goes with a larger output then neither lacks room when the output is there nor lies
    about one that failed. Raises OutputError.
    """
    with ExitStack() as stack:
        for path, data in contents.items():
            part = stack.enter_context(atomic_path(path, overwrite=overwrite, size=len(data)))
            part.write_bytes(data)
        yield


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files: all are whole on the disk before the first takes its place.

    A full disk then leaves all the old ones; only a kill within the renames leaves some old and some
    new, each whole. Raises OutputError.
    """
    with staged(contents):
        pass


def write_json(path: str | PathLike[str], obj: Any, *, overwrite: bool = True) -> Path:
    """Write ``obj`` as indented JSON (NaN is not JSON: ValueError). Raises OutputError."""
    return write_bytes(path, json_bytes(obj), overwrite=overwrite)


def json_bytes(obj: Any) -> bytes:
    """The bytes that ``write_json`` writes: indented, with lists of numbers on one line each."""
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Strings hold no newline as such, so that these are the lists' own.
    return re.sub(r"\[\n([^][{}\"]*)\n *\]", lambda m: f"[{' '.join(m[1].split())}]", text).encode()


def make_folder(path: str | PathLike[str]) -> Path:
    """The folder ``path``, made with its parents where it is missing. Raises OutputError."""
    path = Path(path)
    with as_output_error(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def ready_to_write(path: Path, size: int = 0) -> Path:
    """A temporary path for ``path``, after what killed runs left is gone, if there is room."""
    files.remove_stale(path)
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return files.temporary_path(path)


@contextmanager
def as_output_error(path: Path, size: int = 0, written: Path | None = None) -> Iterator[None]:
    """Turn every OSError into an OutputError that names the path, the cause and the bytes needed.

    Where ``size`` is not known, what lies at ``written`` tells what at least is needed.
    """
    try:
        yield
    except OSError as error:
        cause = _cause(error)
        needs = f" ({size} bytes needed)" if size else ""
        if not size and written is not None and cause.errno in _NO_ROOM:
            parts = [file for file in (written, *written.rglob("*")) if file.is_file()]
            needs = f" (more than {sum(file.stat().st_size for file in parts)} bytes needed)"
        why = cause.strerror or " ".join(str(error).split())[:200]
        raise OutputError(f"{path}: cannot be written: {why}{needs}") from error


def _cause(error: OSError) -> OSError:
    """The system's own error, on top of which libraries put theirs with pages of text."""
    found: BaseException | None = error
    while found is not None and not (isinstance(found, OSError) and found.strerror):
        found = found.__cause__ or found.__context__
    return found if isinstance(found, OSError) else error
