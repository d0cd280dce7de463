"""Volumes or pictures to one compact training cache (:mod:`mrisr.cache`): ``mrisr prepare``."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr import cache, geometry, pictures
from mrisr.errors import InputError, MrisrError, OutputError, UsageError
from mrisr.io import read_volume, stem
from mrisr.io.atomic import as_output_error, atomic_folder, json_bytes
from mrisr.volume import Volume

IMAGE_NAMES = ("*t2*", "*T2*")
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


class Entry(NamedTuple):
    """A volume or picture to prepare: patient (or folder), name of the series, path."""

    case: str
    series: str
    path: Path


def find_sources(data: Path) -> list[Entry]:
    """Volumes of a manifest or of a folder.

    A manifest is a CSV with the columns ``case`` and ``path`` (relative to the manifest) and
    optionally ``series``. A folder holds one folder per patient with image files (``*t2*``
    or ``*T2*``) or DICOM series folders inside, or such files directly.

    Raises:
        InputError: nothing is found, or a column is missing.
    """
    sources = list(_from_manifest(data) if data.is_file() else _from_folder(data))
    if not sources:
        raise InputError(
            data, expected="a folder per patient with T2w volumes, or a manifest", found="none"
        )
    return sources


def _from_manifest(path: Path) -> Iterator[Entry]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"case", "path"} <= set(rows.fieldnames or ()):
            raise InputError(
                path, expected="the columns case, path", found=", ".join(rows.fieldnames or ())
            )
        for row in rows:
            volume = path.parent / row["path"]
            yield Entry(row["case"], row.get("series") or stem(volume), volume)


def _from_folder(folder: Path) -> Iterator[Entry]:
    """A folder per patient; volumes that lie in ``folder`` itself are a patient each."""
    if not folder.is_dir():
        return
    for path in sorted(p for p in _images(folder.glob) if not _hidden(p, folder)):
        yield Entry(stem(path), stem(path), path)
    for case in sorted(p for p in folder.iterdir() if p.is_dir() and not _hidden(p, folder)):
        taken: Counter[str] = Counter()
        found = _images(case.rglob) | {p.parent for p in case.rglob("*.dcm")}
        for path in sorted(p for p in found if not _hidden(p, case)):
            name = stem(path)
            taken[name] += 1
            yield Entry(case.name, name if taken[name] == 1 else f"{name}-{taken[name]}", path)


def find_picture_sources(data: Path) -> list[Entry]:
    """Pictures of a folder. Those in a folder inside it, at any depth, make one case of that folder's
    name; those that lie in it directly are a case each.

    Raises:
        InputError: nothing is found.
    """
    sources = []
    taken: Counter[tuple[str, str]] = Counter()
    for path in pictures.find_pictures(data):
        inner = path.relative_to(data)
        case = inner.parts[0] if len(inner.parts) > 1 else path.stem
        taken[case, path.stem] += 1
        n = taken[case, path.stem]
        sources.append(Entry(case, path.stem if n == 1 else f"{path.stem}-{n}", path))
    if not sources:
        endings = ", ".join(pictures.ENDINGS)
        raise InputError(data, expected=f"a folder with pictures ({endings})", found="none")
    return sources


def _images(search: Callable[[str], Iterable[Path]]) -> set[Path]:
    found = {path for pattern in IMAGE_NAMES for path in search(pattern)}
    return {path for path in found if path.is_file() and path.name.endswith(ENDINGS)}


def _hidden(path: Path, root: Path) -> bool:
    """Whether a name below ``root`` starts with a dot, as those of unfinished outputs do."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def canonical_stack(volume: Volume) -> tuple[NDArray[np.generic], tuple[float, float, float]]:
    """Voxels as ``(slices, rows, columns)`` with rows superior to inferior (or anterior to posterior in
    axial stacks) and columns right to left (anterior to posterior in sagittal ones), and their spacing."""
    world = geometry.world_axes(volume.affine)
    through = volume.slice_axis
    rows, columns = sorted((a for a in range(3) if a != through), key=lambda a: -world[a])
    order = (through, rows, columns)
    array = volume.array.transpose(order)
    codes = geometry.axis_codes(volume.affine)
    flips = [i for i, a in enumerate(order) if i and codes[a] in "SAR"]
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


def make_stack(source: Entry, volume: Volume, crop: int | None = None) -> cache.Stack:
    """The cache's stack of one volume; intensities are scaled before the crop."""
    array, spacing = canonical_stack(volume)
    levels = _cropped(cache.quantise(array), crop)
    return cache.Stack(
        source.case, source.series, volume.plane, spacing, np.ascontiguousarray(levels)
    )


def _packed(stack: cache.Stack) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, levels=stack.levels)
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

    def read(source: Entry) -> tuple[cache.Stack, str | None]:
        volume = read_volume(source.path)
        return make_stack(source, volume, crop), volume.source_sha256

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
        report(f"{source.case} {source.series}: {stack.plane} {stack.levels.shape}")
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
