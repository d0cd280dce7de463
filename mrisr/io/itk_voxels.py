"""The voxels behind a MetaImage or NRRD header: all of them, intact, and nothing after them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mrisr.core.errors import InputError
from mrisr.io import checks
from mrisr.io.digest import file_sha256
from mrisr.io.itk_header import Layout
from mrisr.io.metaheader import data_file

_CHUNK = 1 << 20
#: zlib or gzip, whichever the stream starts with.
_EITHER = 47


def read_voxels(layout: Layout, path: Path) -> NDArray[np.generic]:
    """Stored numbers ``(i, j, k)`` in native byte order.

    Raises:
        InputError: they are truncated, damaged, or followed by something other than zeros.
    """
    size = int(np.prod(layout.shape, dtype=np.int64)) * layout.dtype.itemsize
    held = layout.data.stat().st_size - layout.start
    if layout.packed:
        checks.check_compression(held, size, path)
    elif held < size:
        found = f"{max(held, 0)} (truncated)"
        raise InputError(path, expected=f"{size} bytes of voxels", found=found)
    buffer = np.empty(size, dtype=np.uint8)
    with layout.data.open("rb") as handle:
        handle.seek(layout.start)
        _fill(buffer, _inflated(handle) if layout.packed else _raw(handle, size), path)
        taken = handle.tell() - layout.start
        if layout.held is not None and layout.held != taken:
            found = f"{taken} bytes of compressed voxels"
            raise InputError(path, expected=f"CompressedDataSize {layout.held}", found=found)
        _check_rest(handle, size, path)
    stored = buffer.view(layout.dtype).reshape(layout.shape, order="F")
    return stored.astype(layout.dtype.newbyteorder("="), copy=False)


def sha256(path: Path) -> str:
    """SHA-256 of the file and, for a ``.mhd``, of its voxel file after it."""
    voxels = data_file(path)
    return file_sha256(path, *([voxels] if voxels is not None else []))


def _raw(handle: IO[bytes], left: int) -> Iterator[bytes]:
    while left and (block := handle.read(min(_CHUNK, left))):
        left -= len(block)
        yield block


def _inflated(handle: IO[bytes]) -> Iterator[bytes]:
    """Inflate in pieces, to the end of the stream and its checksum, and leave the handle there."""
    inflate = zlib.decompressobj(wbits=_EITHER)
    while not inflate.eof:
        pending = inflate.unconsumed_tail or handle.read(_CHUNK)
        if not pending:
            raise EOFError("ends early")
        yield inflate.decompress(pending, _CHUNK)
    handle.seek(-len(inflate.unused_data), os.SEEK_CUR)


def _fill(buffer: NDArray[np.uint8], pieces: Iterator[bytes], path: Path) -> None:
    done = 0
    try:
        for piece in pieces:
            if len(piece) > buffer.size - done:
                found = "more"
                raise InputError(path, expected=f"{buffer.size} bytes of voxels", found=found)
            buffer[done : done + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
            done += len(piece)
    except (EOFError, zlib.error) as error:
        found = f"damage or truncation ({error})"
        raise InputError(path, expected="whole compressed voxels", found=found) from error
    if done != buffer.size:
        found = f"{done} (truncated)"
        raise InputError(path, expected=f"{buffer.size} bytes of voxels", found=found)


def _check_rest(handle: IO[bytes], size: int, path: Path) -> None:
    """Refuse anything but zeros after the voxels: the header's sizes would be too small."""
    while block := handle.read(_CHUNK):
        if block.strip(b"\0"):
            found = "more bytes after them"
            raise InputError(path, expected=f"{size} bytes of voxels by its header", found=found)
