"""Access to the files and the code of other programs, whose failures become one line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from mrisr.core.errors import InputError, MrisrError, one_line, out_of_memory
from mrisr.zones.labels import LabelTable

#: Output and warnings are redirected for the whole process, so only one model runs at a time.
_LOCK = threading.RLock()


def digest(root: Path, files: Iterable[Path], table: LabelTable) -> str:
    """SHA-256 over everything that decides a model's labels: files by their place below ``root``, and the table.

    Raises:
        InputError: a file cannot be read.
    """
    total = hashlib.sha256(str(table).encode())
    for path in sorted(set(files)):
        total.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        try:
            with path.open("rb") as handle:
                while block := handle.read(1 << 20):
                    total.update(block)
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(path, expected="a file of the model", found=why) from error
    return total.hexdigest()


@contextlib.contextmanager
def guarded(path: Path, task: str) -> Iterator[None]:
    """Run another program's code, one at a time: its output and warnings are dropped, its errors become one line.

    Standard output belongs to the caller's JSON, standard error to progress. Out of memory stays what it is.

    Raises:
        InputError: for whatever goes wrong, naming ``path`` and the task.
    """
    with _LOCK, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except MrisrError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise InputError(path, expected=f"a model that {task}", found=_cause(error)) from error


def _cause(error: BaseException) -> str:
    """The first error of a chain, or the package to install if one is missing."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    for link in reversed(chain):
        if isinstance(link, ModuleNotFoundError) and link.name:
            return f"{link.name} is not installed (pip install {link.name})"
        if "skimage.measure required" in str(link).lower():
            return "scikit-image is not installed (pip install scikit-image)"
    return one_line(chain[-1])[:300]
