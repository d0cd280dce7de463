"""Volumes to one compact training cache (:mod:`mrisr.data.cache`): ``mrisr prepare``."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError, OutputError, UsageError
from mrisr.core.labels import Misplaced
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.data.labels import read_labels
from mrisr.data.sources import Entry, Report, find_sources
from mrisr.io import read_file
from mrisr.io.atomic import as_output_error, atomic_folder


def labels_of(
    paths: Sequence[Path], volume: Volume, *, strict: bool, others: dict[Path, InputError]
) -> dict[Path, Volume]:
    """Read the label volumes among ``paths`` that lie on the voxels of ``volume``, by their paths.

    Args:
        strict: makes those that do not an error instead of leaving them out.
        others: gets the errors of those left out.

    Raises:
        InputError: a file cannot be read, holds other labels than 0, 1 and 2, or lies on another grid.
    """
    found = {}
    for path in paths:
        try:
            found[path] = read_labels(path, volume).volume
        except Misplaced as error:
            if strict:
                raise
            others[path] = error
    return found


def canonical_stack(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Voxels as ``(slices, rows, columns)`` with rows superior to inferior (or anterior to posterior in
    axial stacks) and columns right to left (anterior to posterior in sagittal ones), and their spacing.
    Slices run towards superior, posterior or right."""
    turned = volume.reoriented(geometry.DISPLAYED[volume.plane])
    slices_mm, rows_mm, columns_mm = turned.spacing.tolist()
    return turned.array, (slices_mm, rows_mm, columns_mm)


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
    levels = np.ascontiguousarray(_cropped(cache.quantise(array), crop), dtype=np.int16)
    readers = None
    if labels:
        stacks = [canonical_stack(volume.with_array(v.array))[0] for v in labels]
        readers = np.stack([_cropped(s, crop) for s in stacks]).astype(np.uint8)
    return cache.Stack(source.case, source.series, volume.plane, spacing, levels, readers)


#: Reads a source as a stack, with the SHA-256 of its file. Raises MrisrError.
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
    others: dict[Path, InputError] = {}

    def read(source: Entry) -> tuple[cache.Stack, str | None]:
        file = read_file(source.path, series=source.uid)
        free = [path for path in source.labels if path not in taken]
        labels = labels_of(free, file.volume, strict=data.is_file(), others=others)
        taken.update(labels)
        return make_stack(source, file.volume, crop, [*labels.values()]), file.sha256

    check_replaceable(output, force)
    errors = write_cache(find_sources(data, report), read, data, output, report)
    for path in others.keys() - taken:
        report(f"left out: {others[path]}")
    return errors


def check_replaceable(output: Path, force: bool) -> None:
    """Refuse to replace what is no cache, or, without ``force``, one. Raises UsageError, OutputError."""
    if (output / "index.json").exists() and not force:
        raise UsageError(f"{output}: a cache exists; --force makes it anew")
    if not output.is_dir():
        return
    found = [p for p in output.iterdir() if p.name not in ("index.json", "volumes")]
    found += [p for p in output.glob("volumes/*") if p.suffix != ".npz"]
    if found:
        raise OutputError(f"{output}: expected nothing or a cache to replace, found {found[0]}")


def write_cache(
    sources: Sequence[Entry], read: Reader, data: Path, output: Path, report: Report
) -> list[str]:
    """Write the cache of ``sources`` in place of an old one; returns the errors of those left out.

    Raises:
        InputError: none could be used.
        OutputError: the cache cannot be written.
    """
    entries: list[cache.IndexEntry] = []
    errors: list[str] = []
    with as_output_error(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as folder:
        for source in sources:
            try:
                stack, sha256 = read(source)
            except MrisrError as error:
                errors.append(str(error))
                report(f"left out: {error}")
                continue
            entry = cache.write_stack(folder, stack, len(entries))
            entries.append({**entry, "source_sha256": sha256})
            readers = "" if stack.labels is None else f", zones by {len(stack.labels)}"
            report(f"{source.case} {source.series}: {stack.plane} {stack.levels.shape}{readers}")
        if not entries:
            found = f"{len(errors)} refused"
            raise InputError(data, expected="at least one that is usable", found=found)
        cache.write_index(folder, entries)
    return errors
