"""Volumes to one compact training cache (:mod:`mrisr.data.cache`): ``mrisr prepare``."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError, OutputError, UsageError
from mrisr.core.labels import Misplaced
from mrisr.core.volume import Volume
from mrisr.data import cache
from mrisr.data.labels import read_labels
from mrisr.io import read_file, stem
from mrisr.io.atomic import as_output_error, atomic_folder
from mrisr.io.paths import NOWHERE, as_text, ending, leads_nowhere, subject_folders
from mrisr.io.tables import ManifestError, read_rows

IMAGE_NAMES = ("*t2*", "*T2*")
#: Labels of the zones beside an image: of one reader or, numbered or named further, of several.
LABEL_NAMES = "zones*"
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


#: Receives a line for each volume.
Report = Callable[[str], None]


class Entry(NamedTuple):
    """A file to prepare: patient, name of the series, path, and the volumes of labels that may belong to
    it."""

    case: str
    series: str
    path: Path
    labels: tuple[Path, ...] = ()


def find_sources(data: Path, report: Report = lambda line: None) -> list[Entry]:
    """Find the volumes of a manifest or of a folder.

    A manifest is a CSV with the columns ``case`` and ``path`` (relative to the manifest) and
    optionally ``series`` and ``labels`` (paths parted by ``;``). A folder holds one folder per patient with
    image files (``*t2*`` or ``*T2*``, and PI-CAI's ``_cor`` and ``_sag`` beside a ``_t2w``) or DICOM series
    folders inside, or such files directly; of a BIDS tree only ``sub-*`` are patients. Files
    ``zones*`` beside an image are its labels if they lie on its grid. What is left out is reported.

    Raises:
        ManifestError: a manifest's column or cell is missing, or a volume stands there twice.
        InputError: nothing is found.
    """
    told: dict[str, None] = {}  # once each
    found = _from_manifest(data) if data.is_file() else _from_folder(data, told.setdefault)
    sources = [e._replace(case=as_text(e.case), series=as_text(e.series)) for e in found]
    for line in told:
        report(as_text(line))
    if not sources:
        raise InputError(
            data, expected="a folder per patient with T2w volumes, or a manifest", found="none"
        )
    return sources


def _from_manifest(path: Path) -> list[Entry]:
    def check(names: Sequence[str]) -> list[str]:
        if {"case", "path"} <= set(names):
            return []
        found = ", ".join(map(repr, names)) or "none"
        return [f"expected the columns case, path, found {found}"]

    entries: list[Entry] = []
    faults: list[str] = []
    lines: dict[tuple[str, str], int] = {}
    for line, row in read_rows(path, check, "volumes"):
        if None in row or None in row.values():
            faults.append(f"line {line}: expected as many cells as columns")
            continue
        faults += [
            f"line {line}: {n}: expected one, found none" for n in ("case", "path") if not row[n]
        ]
        volume = path.parent / row["path"]
        named = [p for p in row.get("labels", "").split(";") if p.strip()]
        labels = tuple(path.parent / p.strip() for p in named)
        series = row.get("series") or stem(volume)
        first = lines.setdefault((row["case"], series), line)
        if first != line:
            told = f"{row['case']} {series} stands in line {first} already"
            faults.append(f"line {line}: {told}; a column series tells volumes apart")
        entries.append(Entry(row["case"], series, volume, labels))
    if faults:
        raise ManifestError(path, faults, "volumes")
    return entries


def _from_folder(folder: Path, report: Report) -> Iterator[Entry]:
    """Entries of a folder per patient; volumes that lie in ``folder`` itself are a patient each."""
    if not folder.is_dir():
        return
    for path in sorted(p for p in _images(folder.glob, report) if not _hidden(p, folder)):
        yield Entry(stem(path), stem(path), path)
    cases, others = subject_folders(folder)
    for path in (
        *others,
        *(p for p in sorted(folder.iterdir()) if leads_nowhere(p) and not ending(p)),
    ):
        why = NOWHERE if leads_nowhere(path) else "which is no subject's folder of this BIDS tree"
        report(f"left out: {path}, {why}")
    for case in cases:
        taken: Counter[str] = Counter()
        found = _images(case.rglob, report) | _series_folders(case)
        for path in sorted(p for p in found if not _hidden(p, case)):
            name = stem(path)
            taken[name] += 1
            series = name if taken[name] == 1 else f"{name}-{taken[name]}"
            labels = _images(path.parent.glob, report, [LABEL_NAMES])
            plainest_first = sorted(labels, key=lambda p: (len(p.name), p.name))
            yield Entry(case.name, series, path, tuple(plainest_first))


def _series_folders(case: Path) -> set[Path]:
    """Folders that hold DICOM images, whatever these are called, and damaged or missing ones."""
    from mrisr.io.dicom_scan import find_series

    try:
        found = find_series(case)
    except InputError as error:
        return set() if "no DICOM image" in error.found else {Path(error.source).parent}
    images = {file.path.parent for series in found for file in series.files}
    return images | {Path(error.source).parent for error in found[0].broken}


def _images(
    search: Callable[[str], Iterable[Path]], report: Report, names: Sequence[str] = IMAGE_NAMES
) -> set[Path]:
    found = {path for name in names for path in search(name) if path.name.endswith(ENDINGS)}
    for path in [p for p in found if stem(p).endswith("_t2w")]:
        beside = stem(path).removesuffix("t2w")
        siblings = (p for plane in ("cor", "sag") for p in path.parent.glob(f"{beside}{plane}.*"))
        found |= {p for p in siblings if p.name.endswith(ENDINGS)}
    for path in sorted(p for p in found if leads_nowhere(p)):
        report(f"left out: {path}, {NOWHERE}")
    return {path for path in found if path.is_file()}


def _hidden(path: Path, root: Path) -> bool:
    """True where a name below ``root`` starts with a dot, as those of unfinished outputs do."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


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
        file = read_file(source.path)
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
