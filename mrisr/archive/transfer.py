"""Series from a DICOMweb archive and back to it (PS3.18: QIDO-RS, WADO-RS, STOW-RS).

Credentials come from the environment and nowhere else: ``MRISR_DICOMWEB_USER`` with
``MRISR_DICOMWEB_PASSWORD``, or ``MRISR_DICOMWEB_TOKEN``. TLS certificates are always verified.
A URL (the root of the service) or a StudyInstanceUID that is none, or half of the credentials, is a
UsageError.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from os import PathLike
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.pixels.utils import get_expected_length

from mrisr.archive.client import Archive, connect
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.io.atomic import atomic_folder
from mrisr.io.dicom_scan import File, Named, find_series, pick_series, printable, quiet
from mrisr.io.paths import check_output_folder

Progress = Callable[[int, int], None]

#: Seconds between looks at an archive's listing, which some bring up to date with a delay.
LISTING_WAITS = (0.5, 1.0, 2.0, 4.0)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True)
class RemoteSeries(Named):
    """A series as an archive lists it; ``instances`` is `None` where it does not count them."""

    modality: str
    instances: int | None

    def __str__(self) -> str:
        count = "?" if self.instances is None else self.instances
        return f"{self.uid} (number {self.number}, {self.description!r}, {count} instances)"


def list_series(url: str, study_uid: str) -> list[RemoteSeries]:
    """The series of a study, in the order of their numbers.

    Raises:
        InputError: the archive does not answer as it should, or knows no such study.
    """
    with connect(url, _unreadable) as archive:
        return _series(archive, study_uid)


def fetch_series(
    url: str,
    study_uid: str,
    series: str | None,
    output: str | PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Retrieve a series into a folder, whole or not at all, and return the folder.

    Files keep the transfer syntax of the archive and are called ``0001.dcm`` and so on in the order
    of their InstanceNumber. Each must be the instance that was asked for, whole, and there must be as
    many as the archive counts, before the folder takes its place.

    Args:
        url, study_uid: the archive and the study in it.
        series: UID, number or description; None where the study has one series.
        output: folder to write.
        force: replace a folder that holds nothing but numbered DICOM files.
        progress: called with the instances done and their number.

    Raises:
        InputError: the archive does not answer as it should, has no such series, or sends something
            else than it listed.
        OutputError: the folder exists, or cannot be written.
    """
    path = check_output_folder(output, force=force)
    for entry in path.iterdir() if path.is_dir() else ():
        if not (re.fullmatch(r"\d{4,}\.dcm", entry.name) and entry.is_file()):
            raise OutputError(f"{path}: holds other files than a fetched series; nothing replaced")
    with connect(url, _unreadable) as archive:
        chosen = pick_series(_series(archive, study_uid), series, archive.where)
        uids = _instances(archive, study_uid, chosen)
        with atomic_folder(path, overwrite=force) as temporary:
            for number, uid in enumerate(uids, 1):
                data = _retrieve(archive, study_uid, chosen.uid, uid)
                (temporary / f"{number:04d}.dcm").write_bytes(data)
                if progress is not None:
                    progress(number, len(uids))
    return path


def send_series(
    url: str,
    folder: str | PathLike[str],
    *,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> int:
    """Store the DICOM images of a folder, all of one study, and look whether they are there.

    Sending the same series again is harmless: the archive knows its UIDs.

    Args:
        url: the archive.
        folder: what to send; files that are no DICOM images are passed over.
        progress: called with the instances done and their number.
        report: called with a line for each instance that the archive stored with a change.

    Returns:
        Number of instances that the archive lists.

    Raises:
        InputError: no images, more than one study, or a file that is damaged; nothing is sent.
        OutputError: the archive does not answer as it should, or refuses or does not list an
            instance. What it took before stays there.
    """
    with connect(url, lambda where, reason: OutputError(f"{where}: {reason}")) as archive:
        files = _files_of_one_study(Path(folder))
        for file in files:
            _check_whole(file.path.read_bytes(), file.path)
        for number, file in enumerate(files, 1):
            named = _naming(archive, f"{file.path.name} ({file.sop_uid})")
            for warning in named.store(file.path.read_bytes()):
                if report is not None:
                    report(f"{file.path.name}: stored, but {warning}")
            if progress is not None:
                progress(number, len(files))
        _check_listed(archive, files)
    return len(files)


def _unreadable(where: str, reason: str) -> InputError:
    return InputError(where, expected="the answer of a DICOMweb archive", found=reason)


def _naming(archive: Archive, what: str) -> Archive:
    """The same archive, whose errors name an instance."""
    return replace(archive, fail=lambda reason: archive.fail(f"{what}: {reason}"))


def _series(archive: Archive, study_uid: str) -> list[RemoteSeries]:
    if not _is_uid(study_uid):
        raise UsageError("the study: expected a StudyInstanceUID, digits and dots")
    found = [_remote(item) for item in archive.series(study_uid)]
    if not all(_is_uid(series.uid) for series in found):
        raise archive.fail("a SeriesInstanceUID that is none")
    if not found:
        raise InputError(archive.where, expected="a study with series", found="none of that UID")
    return sorted(found, key=lambda s: (_number(s.number, -1), s.uid))


def _remote(item: Dataset) -> RemoteSeries:
    with quiet():
        count = printable(item.get("NumberOfSeriesRelatedInstances"))
        return RemoteSeries(
            uid=printable(item.get("SeriesInstanceUID")),
            number=printable(item.get("SeriesNumber")),
            description=printable(item.get("SeriesDescription")),
            modality=printable(item.get("Modality")),
            instances=int(count) if count.isdecimal() else None,
        )


def _number(value: object, unknown: int) -> int:
    text = printable(value)
    return int(text) if text.isdecimal() else unknown


def _is_uid(value: str) -> bool:
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def _instances(archive: Archive, study_uid: str, series: RemoteSeries) -> list[str]:
    """SOPInstanceUIDs of a series in the order of InstanceNumber, as many as the archive counts."""
    listed = archive.instances(study_uid, series.uid)
    if not listed or series.instances not in (None, len(listed)):
        counted = "some" if series.instances is None else series.instances
        raise archive.fail(f"{len(listed)} instances listed where it counts {counted}")
    numbered = [(_number(i.get("InstanceNumber"), 0), str(i.SOPInstanceUID)) for i in listed]
    return [uid for _, uid in sorted(numbered)]


def _retrieve(archive: Archive, study: str, series: str, instance: str) -> bytes:
    """The file of one instance, which must be whole and what was asked for."""
    archive = _naming(archive, f"instance {instance}")
    if not _is_uid(instance):
        raise archive.fail("not a UID")
    data = archive.retrieve(study, series, instance)
    try:
        dataset = _check_whole(data, instance)
    except InputError as error:
        raise archive.fail(f"not one whole DICOM object: {error.found}") from None
    wanted = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": instance}
    for name, uid in wanted.items():
        if str(dataset.get(name, "")) != uid:
            raise archive.fail(f"another {name} than was asked for")
    return data


def _check_whole(data: bytes, named: str | Path) -> Dataset:
    """A DICOM file's dataset. Raises InputError if anything is missing, pixels too."""
    with quiet():
        try:
            dataset = pydicom.dcmread(BytesIO(data))
            missing = "Rows" in dataset and not _has_pixels(dataset)
        except Exception as error:  # pydicom raises almost anything on damaged files
            found = f"damage ({type(error).__name__})"
            raise InputError(named, expected="a DICOM file", found=found) from None
    if missing:
        raise InputError(named, expected="whole pixel data", found="truncated pixel data")
    return dataset


def _has_pixels(dataset: Dataset) -> bool:
    """Tell whether pixel data are there; native ones of the length that the other attributes tell."""
    if "PixelData" not in dataset:
        return "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
    encapsulated = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    return len(dataset.PixelData) >= (1 if encapsulated else get_expected_length(dataset))


def _files_of_one_study(folder: Path) -> list[File]:
    """The images to send, each instance once. Raises InputError."""
    if not folder.exists():
        raise InputError(folder, expected="a folder of DICOM images", found="nothing at that path")
    found = find_series(folder)
    for series in found:
        if series.broken:
            raise series.broken[0]
    files = [file for series in found for file in series.files]
    studies = {str(file.header.get("StudyInstanceUID", "")) for file in files}
    if len(studies) != 1:
        raise InputError(folder, expected="images of one study", found=f"{len(studies)} studies")
    if len({file.sop_uid for file in files}) != len(files):
        raise InputError(folder, expected="each SOPInstanceUID once", found="one of them twice")
    return files


def _check_listed(archive: Archive, files: Sequence[File]) -> None:
    """Look for every instance in the archive. Raises OutputError."""
    study = str(files[0].header.StudyInstanceUID)
    for wait in (*LISTING_WAITS, None):
        listed: set[str] = set()
        for uid in {file.series_uid for file in files}:
            listed |= {str(item.SOPInstanceUID) for item in archive.instances(study, uid)}
        missing = [file for file in files if file.sop_uid not in listed]
        if not missing:
            return
        if wait is not None:
            time.sleep(wait)
    raise OutputError(
        f"{archive.where}: {len(missing)} of {len(files)} instances sent are not listed, "
        f"first {missing[0].path.name} ({missing[0].sop_uid})"
    )
