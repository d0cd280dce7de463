"""MetaImage as a pair of files: a text header ``.mhd`` and its voxels in ``.raw``."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from mrisr.core.errors import OutputError
from mrisr.core.volume import Volume
from mrisr.io import metaheader, verify
from mrisr.io.atomic import as_output_error, ready_to_write
from mrisr.io.files import flush, flush_folder, locked, move_file
from mrisr.io.itk import meta_header, stored_numbers
from mrisr.io.temporary import is_temporary, remove, remove_stale, temporary_path


def save_mhd(volume: Volume, path: Path, *, force: bool = False) -> None:
    """Write ``path`` and ``<stem>.raw`` beside it; raises OutputError.

    No system renames two files in one step, so the header decides. The new voxels are on the disk
    under a temporary name when the new header, which names them there, replaces the old one: from
    then on the new pair counts. Then the voxels take their final name, and a second header says so.
    A kill at any moment leaves the old pair or the new one; the next writing tidies the names.
    """
    stored = stored_numbers(volume)
    voxels = path.with_suffix(".raw")
    with as_output_error(path, stored.nbytes):
        with locked(path.parent):
            _tidy(path, voxels)
            remove_stale(path)
            part = ready_to_write(voxels, stored.nbytes)
        first, last = temporary_path(path), temporary_path(path)
        try:
            part.write_bytes(stored.tobytes(order="F"))
            first.write_text(meta_header(volume, stored.dtype, part.name))
            last.write_text(meta_header(volume, stored.dtype, voxels.name))
            for file in (part, first, last):
                flush(file)
            verify.verify(first, volume, path)
            with locked(path.parent):
                for file in () if force else (path, voxels):
                    if os.path.lexists(file):
                        raise OutputError(f"{file}: exists already (--force replaces)")
                move_file(first, path, overwrite=force)
                flush_folder(path.parent)
                with suppress(OSError):  # it counts already; the next writing tries again
                    _settle(path, voxels, part, last)
        finally:
            if metaheader.data_file(path) != part:
                remove(part)
            remove(first)
            remove(last)


def _settle(path: Path, voxels: Path, part: Path, header: Path) -> None:
    """Give the voxels ``part`` their final name and the header that says so; both names hold meanwhile."""
    copy = temporary_path(voxels)
    try:
        try:
            os.link(part, copy)
        except OSError:  # file systems without hard links
            shutil.copyfile(part, copy)
            flush(copy)
        os.replace(copy, voxels)
    finally:
        remove(copy)
    flush_folder(path.parent)
    os.replace(header, path)
    flush_folder(path.parent)
    remove(part)


def _tidy(path: Path, voxels: Path) -> None:
    """Finish what a killed run began: its header names voxels that still have their temporary name."""
    part = metaheader.data_file(path)
    if part is None or not is_temporary(part, voxels) or not part.is_file():
        return
    header = temporary_path(path)
    try:
        header.write_bytes(path.read_bytes().replace(part.name.encode(), voxels.name.encode()))
        flush(header)
        _settle(path, voxels, part, header)
    finally:
        remove(header)
