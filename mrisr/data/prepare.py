"""Volumes or pictures to one compact training cache (:mod:`mrisr.data.cache`): ``mrisr prepare``."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError, OutputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data import cache, pictures
from mrisr.data.sources import Entry, find_picture_sources, find_sources, read_labels
from mrisr.io import read_file
from mrisr.io.atomic import as_output_error, atomic_folder, json_bytes


def canonical_stack(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Voxels as ``(slices, rows, columns)`` with rows superior to inferior (or anterior to posterior in
    axial stacks) and columns right to left (anterior to posterior in sagittal ones), and their spacing.
    Slices run towards superior, posterior or right."""
    world = geometry.world_axes(volume.affine)
    through = volume.slice_axis
    rows, columns = sorted((a for a in range(3) if a != through), key=lambda a: -world[a])
    order = (through, rows, columns)
    array = volume.array.transpose(order)
    codes = geometry.axis_codes(volume.affine)
    against = ("ILA", "SAR", "SAR")  # what each dimension does not run towards
    flips = [i for i, a in enumerate(order) if codes[a] in against[i]]
    s = volume.spacing
    return np.flip(array, tuple(flips)), (
        float(s[order[0]]),
        float(s[order[1]]),
        float(s[order[2]]),
    )


def _cropped(array: NDArray[np.generic], size: int | None) -> NDArray[np.generic]:
    if size is None:
        return array
    starts = [max(0, (n - size) // 2) for n in array.shape[1:]]
    return array[:, starts[0] : starts[0] + size, starts[1] : starts[1] + size]


def make_stack(
    source: Entry,
    volume: Volume,
    crop: int | None = None,
    labels: Sequence[Volume] = (),
) -> cache.Stack:
    """The cache's stack of one volume and its labels, which lie on its grid; intensities are scaled before
    the crop."""
    array, spacing = canonical_stack(volume)
    levels = np.ascontiguousarray(_cropped(cache.quantise(array), crop))
    readers = None
    if labels:
        stacks = [canonical_stack(volume.with_array(v.array))[0] for v in labels]
        readers = np.stack([_cropped(s, crop) for s in stacks]).astype(np.uint8)
    return cache.Stack(source.case, source.series, volume.plane, spacing, levels, readers)


def _packed(stack: cache.Stack) -> bytes:
    packed = io.BytesIO()
    if stack.labels is None:
        np.savez_compressed(packed, levels=stack.levels)
    else:
        np.savez_compressed(packed, levels=stack.levels, labels=stack.labels)
    return packed.getvalue()


#: Where a line for each volume goes.
Report = Callable[[str], None]
#: A volume or picture as a stack, and the SHA-256 of its file. Raises MrisrError.
Reader = Callable[[Entry], tuple[cache.Stack, str | None]]


def prepare(
    data: Path,
    output: Path,
    *,
    crop: int | None = None,
    force: bool = False,
    report: Report = lambda line: None,
) -> list[str]:
    """Write the cache of all volumes under ``data`` to the folder ``output``, whole or not at all.

    A volume that cannot be used is named through ``report`` and left out; its error is returned.
    An old cache stays until the new one is whole.

    Raises:
        InputError: no volume could be used.
        UsageError: the cache exists and ``force`` is not given.
        OutputError: it cannot be written, or the folder holds something else than a cache.
    """
    taken: set[Path] = set()  # a repeated scan on the same grid is not what was labelled

    def read(source: Entry) -> tuple[cache.Stack, str | None]:
        file = read_file(source.path)
        free = [path for path in source.labels if path not in taken]
        labels = read_labels(free, file.volume, strict=data.is_file())
        taken.update(labels)
        return make_stack(source, file.volume, crop, [*labels.values()]), file.sha256

    _check_output(output, force)
    return _write(find_sources(data), read, data, output, report)


def prepare_pictures(
    data: Path,
    output: Path,
    *,
    edge: int | None = None,
    crop: int | None = None,
    force: bool = False,
    report: Report = lambda line: None,
) -> list[str]:
    """Write the cache of all pictures in the folder ``data``, as :func:`prepare` that of volumes.

    Args:
        edge: pixels that each picture's shorter edge is reduced to; shorter ones are left out.
        crop: pixels of the central square that is kept, after that.
    """

    def read(source: Entry) -> tuple[cache.Stack, str | None]:
        picture = pictures.read_picture(source.path, edge=edge, crop=crop)
        levels = cache.picture_levels(picture.rgb)
        return cache.Stack(source.case, source.series, cache.PICTURE, None, levels), picture.sha256

    _check_output(output, force)
    return _write(find_picture_sources(data), read, data, output, report)


def _check_output(output: Path, force: bool) -> None:
    if (output / "index.json").exists() and not force:
        raise UsageError(f"{output}: a cache exists; --force makes it anew")
    _check_replaceable(output)


def _write(
    sources: list[Entry], read: Reader, data: Path, output: Path, report: Report
) -> list[str]:
    """The cache of ``sources`` in place of an old one; returns the errors of those left out."""
    with as_output_error(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as folder:
        return _write_cache(sources, read, data, folder, report)


def _write_cache(
    sources: list[Entry], read: Reader, data: Path, folder: Path, report: Report
) -> list[str]:
    """Stacks and index of the cache; returns the errors of those left out."""
    (folder / "volumes").mkdir()
    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    for source in sources:
        try:
            stack, sha256 = read(source)
        except MrisrError as error:
            errors.append(str(error))
            report(f"left out: {error}")
            continue
        name = f"volumes/{len(entries):04d}.npz"  # a manifest's names may repeat or hold a path
        (folder / name).write_bytes(_packed(stack))
        entries.append(cache.index_entry(stack, name, source_sha256=sha256))
        readers = "" if stack.labels is None else f", zones by {len(stack.labels)}"
        report(f"{source.case} {source.series}: {stack.plane} {stack.levels.shape}{readers}")
    if not entries:
        raise InputError(
            data, expected="at least one that is usable", found=f"{len(errors)} refused"
        )
    of_pictures = any(entry["plane"] == cache.PICTURE for entry in entries)
    number = cache.FORMAT_PICTURES if of_pictures else cache.FORMAT
    content = {"format": number, "levels": cache.LEVELS, "series": entries}
    (folder / "index.json").write_bytes(json_bytes(content))
    return errors


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds something else than a cache. Raises OutputError."""
    if not folder.is_dir():
        return
    found = [p for p in folder.iterdir() if p.name not in ("index.json", "volumes")]
    found += [p for p in folder.glob("volumes/*") if p.suffix != ".npz"]
    if found:
        raise OutputError(f"{folder}: expected nothing or a cache to replace, found {found[0]}")
