"""A volume as a derived MR series: MR Image Storage, one file for each slice.

Sources: DICOM PS3.3 A.4 (MR Image IOD), C.7.6.1 (General Image), C.7.6.4 and C.12.4 (General
Reference and Derivation), C.12.1.1.5 (contributing equipment); PS3.5 6.2 (value representations).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from mrisr.core import geometry
from mrisr.core.errors import OutputError
from mrisr.core.volume import Storage, Volume
from mrisr.dicom.attributes import TYPE_2, decimal, millimetres, window
from mrisr.dicom.conformance import check_derived
from mrisr.dicom.derivation import PRODUCT, RESAMPLING, Derivation, describe, reference, sign
from mrisr.dicom.planes import Planes, planes_of
from mrisr.dicom.source import Source
from mrisr.io.atomic import atomic_folder
from mrisr.io.dicom_scan import quiet


def write_series(
    volume: Volume, folder: Path, source: Source, derivation: Derivation, *, force: bool = False
) -> Path:
    """Write a volume as a derived series of the source's study, whole or not at all.

    The files are written into a sibling folder, read back by our own reader and checked, and only
    then take their place. UIDs follow from the source and the derivation: a rerun gives the same.

    Args:
        volume: what ``storable`` returned; its grid may differ from the source's, its
            frame of reference may not.
        folder: of the new series, which is returned.
        source: gives patient, study, frame of reference and acquisition.
        derivation: what was done, by what.
        force: replace an existing folder, which the caller has checked.

    Raises:
        OutputError: it exists, cannot be written, or does not read back as it should.
    """
    planes = planes_of(volume, source)
    size = volume.array.size * 2
    with atomic_folder(folder, overwrite=force, size=size) as temporary, quiet():
        for number, d in enumerate(_files(volume, planes, source, derivation), 1):
            d.save_as(temporary / f"{number:04d}.dcm", enforce_file_format=True)
        wrong = check_derived(temporary, source, volume)
        if wrong:
            raise OutputError(f"{folder}: not written, {'; '.join(wrong)}")
    return folder


@quiet()
def is_ours(folder: Path) -> bool:
    """Tell whether a folder holds nothing but files of derived series that mrisr wrote."""
    for path in folder.iterdir():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # pydicom raises almost anything on what is no DICOM file
            return False
        sequence = header.get("ContributingEquipmentSequence") or [Dataset()]
        if sequence[-1].get("ManufacturerModelName") != PRODUCT:
            return False
    return True


def _files(
    volume: Volume, planes: Planes, source: Source, derivation: Derivation
) -> Iterator[Dataset]:
    """The files of the series, slice by slice, each with what one slice of the source passes on."""
    shared = _shared(volume, planes, source, derivation)
    number = "SS" if shared.PixelRepresentation else "US"
    normal = geometry.directions(planes.affine)[:, 2]
    stored = planes.cut(volume.storage.encode(volume.array))
    for k, nearest in enumerate(planes.source_slices):
        slices = [source.slices[j] for j in nearest]
        d = _passed_on(slices[len(slices) // 2].carried if slices else source.slices[0].carried)
        d.update(deepcopy(shared))
        d.InstanceNumber = k + 1
        d.ImagePositionPatient = planes.place(k)
        d.SliceLocation = millimetres(float(planes.position(k) @ normal))
        slices += [s for other in source.others for s in other.slices]
        if slices:
            d.SourceImageSequence = [reference(s) for s in slices]
        plane = np.ascontiguousarray(stored[:, :, k].T)
        d.Rows, d.Columns = plane.shape
        d.add_new("SmallestImagePixelValue", number, int(plane.min()))
        d.add_new("LargestImagePixelValue", number, int(plane.max()))
        d.add_new("PixelData", "OW", plane.astype(f"<{plane.dtype.str[1:]}").tobytes())
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        sign(d, k, derivation)
        yield d


def _shared(volume: Volume, planes: Planes, source: Source, derivation: Derivation) -> Dataset:
    """Attributes of the new series that do not come from one slice of the source."""
    d = Dataset()
    d.SOPClassUID, d.Modality = MRImageStorage, "MR"
    d.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    describe(d, source, derivation, RESAMPLING)
    d.ImageOrientationPatient = list(planes.orientation)
    d.update(planes.measures())
    stored = volume.storage.encode(volume.array)
    signed = volume.storage.dtype.kind == "i"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.PixelRepresentation = 16, int(signed)
    top = max(int(stored.max()), -int(stored.min()) - 1)
    d.BitsStored = max(12, top.bit_length() + int(signed))
    d.HighBit = d.BitsStored - 1
    slope, intercept = volume.storage.slope, volume.storage.intercept
    if source.rescale_type is not None or slope != 1 or intercept != 0:
        d.RescaleIntercept, d.RescaleSlope = decimal(intercept), decimal(slope)
        d.RescaleType = source.rescale_type or "US"
    d.WindowCenter, d.WindowWidth = map(decimal, window(volume.array, least=max(slope, 1e-6)))
    return d


def _passed_on(carried: Dataset) -> Dataset:
    """A source slice's attributes, with empty ones where the standard wants them present."""
    d = deepcopy(carried)
    for keyword in TYPE_2:
        if keyword not in d:
            setattr(d, keyword, None)
    for keyword, unknown in (("ScanningSequence", "RM"), ("SequenceVariant", "NONE")):
        if not d.get(keyword):
            setattr(d, keyword, unknown)
    return d


# --- voxels as 16-bit integers and one linear rescale ---------------------------------------------


def storable(volume: Volume) -> Volume:
    """The volume with a storage of 16-bit integers and its values as that storage holds them.

    Integers that fit keep their numbers; floats, and integers that do not fit, become 65536 levels
    between their extremes. The slope and the intercept are numbers that a Decimal String holds.
    """
    storage = _storage(volume)
    stored = storage.encode(volume.array)
    return replace(volume, array=storage.decode(stored), storage=storage)


def _storage(volume: Volume) -> Storage:
    slope, intercept = (float(decimal(v)) for v in (volume.storage.slope, volume.storage.intercept))
    spelled = Storage(volume.storage.dtype, slope, intercept)
    if spelled.dtype.kind in "iub" and slope != 0:
        numbers = spelled.encode(volume.array)
        for fits in (np.uint16, np.int16):
            if np.iinfo(fits).min <= numbers.min() and numbers.max() <= np.iinfo(fits).max:
                signed = spelled.dtype == np.int16  # signed stays signed
                return replace(spelled, dtype=np.dtype(np.int16 if signed else fits))
    low, high = float(volume.array.min()), float(volume.array.max())
    intercept = _rounded(low, ROUND_FLOOR)
    slope = _rounded((high - intercept) / 65535, ROUND_CEILING) or 1.0
    return Storage(np.dtype(np.uint16), slope, intercept)


def _rounded(value: float, mode: str) -> float:
    """The next number of eight significant digits, which fits a Decimal String, in one direction."""
    exact = Decimal(value)
    step = Decimal(1).scaleb(exact.adjusted() - 7)
    return float(exact.quantize(step, rounding=mode)) if exact else value
