"""What the adapters to foreign models share: their failures in one line, their labels on our grid."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError, out_of_memory
from mrisr.core.volume import Storage, Volume
from mrisr.zones.labels import LabelTable

_BLOCK = 1 << 20


def check_axial(volume: Volume) -> None:
    """Refuse a coronal or sagittal stack of thick slices; thin ones of any plane are as good as axial ones.

    Raises:
        InputError: models of the zones have learned from axial slices.
    """
    if volume.plane != "axial" and volume.is_stack:
        slices = volume.spacing[volume.slice_axis]
        raise InputError(
            volume.name,
            expected="axial slices, or voxels of about the same size along all axes",
            found=f"a {volume.plane} stack with {slices:.3g} mm between slices",
        )


def labels_on(volume: Volume, array: NDArray[np.uint8]) -> Volume:
    """Labels of the zones as a volume on the grid of another."""
    return replace(volume, array=np.ascontiguousarray(array), storage=Storage(np.dtype(np.uint8)))


def towards(volume: Volume, codes: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How to turn a volume's array so that its axes run towards ``codes``, to the nearest right angle.

    Returns:
        The order of the axes, for ``transpose``, and which of the new axes are to be flipped.

    >>> coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    >>> towards(Volume(np.zeros((2, 3, 4)), coronal), "LPS")
    ((0, 2, 1), (1, 2))
    """
    world = list(geometry.world_axes(volume.affine))
    order = tuple(world.index(axis) for axis in range(3))
    found = [geometry.axis_codes(volume.affine)[axis] for axis in order]
    return order, tuple(a for a in range(3) if found[a] != codes[a])


def turned(volume: Volume, codes: str) -> Volume:
    """The same voxels in the same places, stored along other axes; see :func:`towards`."""
    order, flips = towards(volume, codes)
    array = np.ascontiguousarray(np.flip(volume.array.transpose(order), flips))
    affine = volume.affine[:, [*order, 3]].copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    stacked = order.index(volume.slice_axis)
    return replace(volume, array=array, affine=affine, stacked_along=stacked)


def turned_back(array: NDArray[Any], volume: Volume, codes: str) -> NDArray[Any]:
    """An array on the grid of ``turned(volume, codes)`` on that of ``volume``."""
    order, flips = towards(volume, codes)
    return np.ascontiguousarray(np.flip(array, flips).transpose(np.argsort(order)))


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON file that holds an object. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(path, expected=what, found=why) from error
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(path, expected=what, found=in_a_line(error)) from error
    if not isinstance(found, dict):
        raise InputError(path, expected=what, found=type(found).__name__)
    return found


def digest(root: Path, files: Iterable[Path], table: LabelTable) -> str:
    """SHA-256 over all that decides an answer: files by their place below ``root``, and the table.

    Raises:
        InputError: a file cannot be read.
    """
    told = hashlib.sha256(str(table).encode())
    for path in sorted(set(files)):
        told.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        try:
            with path.open("rb") as handle:
                while block := handle.read(_BLOCK):
                    told.update(block)
        except OSError as error:
            why = error.strerror or str(error)
            raise InputError(path, expected="a file of the model", found=why) from error
    return told.hexdigest()


@contextlib.contextmanager
def foreign(path: Path, doing: str) -> Iterator[None]:
    """Run another program's code: what it prints and warns of is dropped, its errors become one line.

    Standard output belongs to the caller's JSON, standard error to progress. Out of memory stays what it is.

    Raises:
        InputError: for whatever goes wrong, naming ``path`` and what was being done.
    """
    silent, logged = io.StringIO(), logging.root.manager.disable
    logging.disable(max(logging.WARNING, logged))
    try:
        with contextlib.redirect_stdout(silent), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MrisrError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise InputError(path, expected=f"a model that {doing}", found=_cause(error)) from error
    finally:
        logging.disable(logged)


def in_a_line(error: BaseException) -> str:
    """An error's kind and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _cause(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors, with the package to install if one is missing."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    for link in reversed(chain):
        text = str(link).lower()
        if isinstance(link, ModuleNotFoundError) and link.name:
            return f"{link.name} is not installed (pip install {link.name})"
        if "skimage.measure required" in text:
            return "scikit-image is not installed (pip install scikit-image)"
    return in_a_line(chain[-1])
