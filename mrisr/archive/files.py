"""The files that go to an archive or come from it: whole, and of one study."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.pixels.utils import get_expected_length

from mrisr.core.errors import InputError
from mrisr.io.dicom_scan import File, find_series, quiet


def read_whole(path: Path) -> Dataset:
    """A DICOM file with all its pixels. Raises InputError."""
    with quiet():
        try:
            dataset = pydicom.dcmread(path)
            missing = "Rows" in dataset and not _has_pixels(dataset)
        except Exception as error:  # pydicom raises almost anything on damaged files
            found = f"damage ({type(error).__name__})"
            raise InputError(path, expected="a DICOM file", found=found) from None
    if missing:
        raise InputError(path, expected="whole pixel data", found="truncated pixel data")
    return dataset


def _has_pixels(dataset: Dataset) -> bool:
    """Pixel data are there; native ones have the length that the other attributes tell."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        return True
    if "PixelData" not in dataset:
        return False
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return len(dataset.PixelData) > 0
    return len(dataset.PixelData) >= get_expected_length(dataset)


def files_of_one_study(folder: Path) -> list[File]:
    """What to send, each instance once."""
    if not folder.exists():
        raise InputError(folder, expected="a folder of DICOM images", found="nothing at that path")
    found = find_series(folder)
    for series in found:
        if series.broken:
            raise series.broken[0].error
    files = [file for series in found for file in series.files]
    studies = {str(file.header.get("StudyInstanceUID", "")) for file in files}
    if len(studies) != 1:
        raise InputError(folder, expected="images of one study", found=f"{len(studies)} studies")
    if len({file.sop_uid for file in files}) != len(files):
        raise InputError(folder, expected="each SOPInstanceUID once", found="one of them twice")
    return files
