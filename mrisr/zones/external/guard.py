"""Segmenters that run another program, whose output is dropped and whose failures become one line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mrisr.core.errors import InputError, MrisrError, one_line, out_of_memory
from mrisr.core.volume import Volume
from mrisr.zones.labels import LabelTable
from mrisr.zones.score import check_same_grid
from mrisr.zones.segmenter import Segmenter

#: A volume to the model's own labels on their own grid, and notes.
Run: TypeAlias = Callable[[Volume], tuple[Volume, tuple[str, ...]]]

#: Output and warnings are redirected for the whole process, so only one model runs at a time.
_LOCK = threading.RLock()


@dataclass(frozen=True, eq=False, kw_only=True)
class ExternalSegmenter(Segmenter):
    """A model of another program: the folder that messages name, and what runs it."""

    table: LabelTable
    root: Path
    run: Run = field(repr=False)

    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Run the model on a volume and translate its labels.

        Raises:
            InputError: the model fails, or its result is no labels of the table on the volume's grid.
        """
        with guarded(self.root, "segments this image"), torch.no_grad():
            found, notes = self.run(volume)
        check_same_grid(replace(found, name=str(self.root)), volume)
        return self.table.apply(found.array, self.root), notes


def digest(root: Path, files: Iterable[Path], table: LabelTable) -> str:
    """SHA-256 of everything that decides a model's labels: files by their place below ``root``, the table.
    Raises InputError where a file cannot be read."""
    total = hashlib.sha256(str(table).encode())
    for path in sorted(set(files)):
        total.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        try:
            total.update(path.read_bytes())
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(path, expected="a file of the model", found=why) from error
    return total.hexdigest()


@contextlib.contextmanager
def guarded(path: Path, task: str) -> Iterator[None]:
    """Run another program's code: its output is dropped, its errors become one line.

    Standard output belongs to the caller's JSON, standard error to progress. Out of memory stays what it is.
    One thread at a time may be here; the output of others is dropped meanwhile, their log is not.

    Raises:
        InputError: for whatever goes wrong, naming ``path`` and the task.
    """
    with _LOCK, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), _unlogged():
        warnings.simplefilter("ignore")
        try:
            yield
        except MrisrError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise InputError(path, expected=f"a model that {task}", found=_cause(error)) from error


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep this thread's log off standard error, where it goes unless the caller has set up logging."""
    thread, handler = threading.get_ident(), logging.lastResort or logging.NullHandler()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    handler.addFilter(of_others)
    try:
        yield
    finally:
        handler.removeFilter(of_others)


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
