"""Survey of a file, a DICOM study or a folder of volumes: its content, and what would be refused."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.core.volume import VolumeFile
from mrisr.io import input_format, read_file
from mrisr.io.paths import ending, stem


@dataclass(frozen=True)
class SeriesInfo:
    """One volume or series; of one that is refused the fields from ``plane`` on are empty.

    Holds no patient attributes.
    """

    name: str  #: file name without its ending, or the DICOM series number
    kind: Literal["nifti", "itk", "dicom"]  #: which reader takes it
    uid: str | None = None  #: SeriesInstanceUID, DICOM only
    description: str = ""  #: SeriesDescription on one line, DICOM only
    files: int = 1  #: how many it consists of
    ending: str = ""  #: of a volume's file, which the name leaves out
    plane: str | None = None  #: ``"axial"``, ``"coronal"`` or ``"sagittal"``
    shape: tuple[int, int, int] | None = None  #: voxels along the array axes
    spacing: tuple[float, float, float] | None = None  #: mm along the array axes
    slice_thickness: float | None = None  #: nominal, in mm, where the source states one
    orientation: str | None = None  #: axis codes such as ``"LPS"``
    dtype: str | None = None  #: of the storage
    noise: float | None = None  #: estimated level, a share of the intensity range
    notes: tuple[str, ...] = ()  #: what the reader had to decide
    problems: tuple[str, ...] = ()  #: one line for each reason why it is refused


def survey(path: str | PathLike[str]) -> list[SeriesInfo]:
    """Everything at ``path``, each read in full so that ``problems`` is what a run would say.

    Args:
        path: a volume file, a DICOM file, or a folder with any number of DICOM series and volume
            files at any depth.

    Returns:
        DICOM series by number, then volume files by path. Nothing is raised for a bad one.

    Raises:
        InputError: the path is missing or holds nothing that could be read.
    """
    path = Path(path)
    kind = input_format(path)
    if kind != "dicom":
        return [_volume_file(path, path.parent)]
    found = _dicom_series(path)
    if path.is_dir():
        volumes = sorted(p for p in path.rglob("*") if ending(p) and not p.name.startswith("."))
        found += [_volume_file(p, path) for p in volumes if p.is_file()]
    if not found:
        raise InputError(path, expected="volumes or DICOM series", found="none")
    return found


def _volume_file(path: Path, root: Path) -> SeriesInfo:
    name = (path.parent.relative_to(root) / stem(path)).as_posix()
    known = SeriesInfo(name, input_format(path), ending=path.name.removeprefix(stem(path)))
    return _describe(known, lambda: read_file(path))


def _dicom_series(path: Path) -> list[SeriesInfo]:
    from mrisr.io import dicom, dicom_scan

    try:
        found = dicom_scan.find_series(path)
    except InputError as error:
        if path.is_dir() and "no DICOM image" in error.found:
            return []
        return [SeriesInfo(stem(path), "dicom", problems=(str(error),))]
    return [
        _describe(
            SeriesInfo(s.number or s.uid, "dicom", s.uid, s.description, len(s.files)),
            lambda s=s: dicom.read_dicom(path, series=s),  # type: ignore[misc]
        )
        for s in found
    ]


def _describe(known: SeriesInfo, read: Callable[[], VolumeFile]) -> SeriesInfo:
    """``known`` with what reading tells: the grid, or the reason of the refusal."""
    try:
        found = read()
    except InputError as error:
        return replace(known, problems=(str(error),))
    from mrisr.physics.measurement import noise_level

    volume = found.volume
    i, j, k = (float(s) for s in volume.spacing)
    return replace(
        known,
        plane=volume.plane,
        shape=volume.shape,
        spacing=(i, j, k),
        slice_thickness=volume.slice_thickness,
        orientation=geometry.axis_codes(volume.affine),
        dtype=volume.storage.dtype.name,
        noise=noise_level(volume),
        notes=found.notes,
    )
