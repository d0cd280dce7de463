"""A small whole file of every format, as bytes to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.reliability import dicom_files, volume_files
from tests.reliability.jpeg_encoder import encode
from tests.reliability.truth import VOXELS


@dataclass(frozen=True)
class Sample:
    """A whole file that mrisr reads.

    Attributes:
        path: what is read.
        target: which file is damaged: ``path``, or the voxels beside it.
        whole: the bytes of ``target``.
        header: how many of them come before the voxels.
        checked: the format carries a checksum of what follows the header.
        padding: how many bytes at the end mean nothing, if any.
    """

    path: Path
    target: Path
    whole: bytes
    header: int
    checked: bool = False
    padding: int = 0

    def put(self, damaged: bytes) -> Path:
        """Write the damaged bytes and return what to read."""
        self.target.write_bytes(damaged)
        return self.path


Make = Callable[[Path], Sample]


def _of(path: Path, header: int, **more: bool | int) -> Sample:
    return Sample(path, path, path.read_bytes(), header, **more)  # type: ignore[arg-type]


def _nifti(folder: Path) -> Sample:
    return _of(volume_files.nifti(folder), 352)


def _nifti_gz(folder: Path) -> Sample:
    return _of(volume_files.nifti(folder, "t2w.nii.gz"), 10, checked=True)


def _meta(name: str, packed: bool, voxels: bool = False) -> Make:
    def make(folder: Path) -> Sample:
        data = "t2w.zraw" if packed and name.endswith(".mhd") else "t2w.raw"
        path = volume_files.meta(folder, name, packed=packed)
        if name.endswith(".mhd"):
            (folder / "t2w.raw").rename(folder / data)
            volume_files.repack(path, lambda text: text.replace(b"t2w.raw", data.encode()))
        if voxels:
            beside = folder / data
            return Sample(path, beside, beside.read_bytes(), 0, checked=packed)
        whole = path.read_bytes()
        header = whole.index(b"\n", whole.index(b"ElementDataFile")) + 1
        # A .mhd ends in a line break, which nobody needs.
        return _of(path, header, checked=packed, padding=int(name.endswith(".mhd")))

    return make


def _nrrd(packed: bool) -> Make:
    def make(folder: Path) -> Sample:
        path = volume_files.nrrd(folder, packed=packed)
        return _of(path, path.read_bytes().index(b"\n\n") + 2, checked=packed)

    return make


def dicom_image(syntax: UID | None = None) -> pydicom.FileDataset:
    """A slice in a transfer syntax; by default in explicit little endian."""
    d = dicom_files.image(0)
    if syntax == JPEGLosslessSV1:
        stream = encode(VOXELS[:, :, 0].T, bits=12)
        d.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        d["PixelData"].VR, d["PixelData"].is_undefined_length = "OB", True
        d.file_meta.TransferSyntaxUID = syntax
    elif syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        if syntax == JPEG2000Lossless:  # OpenJPEG halves an image five times
            dicom_files.set_pixels(d, np.tile(VOXELS[:, :, 0].T, (4, 3)))
        d.compress(syntax, generate_instance_uid=False)
    elif syntax is not None:
        d.file_meta.TransferSyntaxUID = syntax
    return d


def _dicom(syntax: UID | None = None) -> Make:
    def make(folder: Path) -> Sample:
        path = folder / "slice.dcm"
        implicit = syntax == ImplicitVRLittleEndian
        d = dicom_image(syntax)
        d.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
        whole = path.read_bytes()
        if syntax == DeflatedExplicitVRLittleEndian:
            meta = pydicom.filereader.read_file_meta_info(path)
            # One byte makes the length even.
            return _of(path, 132 + 12 + int(meta.FileMetaInformationGroupLength), padding=1)
        return _of(path, whole.index(b"\xe0\x7f\x10\x00") + (8 if implicit else 12))

    return make


def _enhanced(folder: Path) -> Sample:
    path = dicom_files.enhanced(folder)
    return _of(path, path.read_bytes().index(b"\xe0\x7f\x10\x00") + 12)


def _series(folder: Path) -> Sample:
    """A series of three files without endings, the last of which is damaged."""
    path = dicom_files.series(folder, slices=range(3), naming="IM{:04d}")
    target = path / "IM0002"
    whole = target.read_bytes()
    return Sample(path, target, whole, whole.index(b"\xe0\x7f\x10\x00") + 12)


FORMATS: dict[str, Make] = {
    ".nii": _nifti,
    ".nii.gz": _nifti_gz,
    ".mha": _meta("t2w.mha", packed=False),
    ".mha, compressed": _meta("t2w.mha", packed=True),
    ".mhd": _meta("t2w.mhd", packed=False),
    ".raw of a .mhd": _meta("t2w.mhd", packed=False, voxels=True),
    ".zraw of a .mhd": _meta("t2w.mhd", packed=True, voxels=True),
    ".nrrd": _nrrd(packed=False),
    ".nrrd, gzip": _nrrd(packed=True),
    "DICOM, explicit": _dicom(),
    "DICOM, implicit": _dicom(ImplicitVRLittleEndian),
    "DICOM, deflated": _dicom(DeflatedExplicitVRLittleEndian),
    "DICOM, RLE": _dicom(RLELossless),
    "DICOM, JPEG lossless": _dicom(JPEGLosslessSV1),
    "DICOM, JPEG-LS": _dicom(JPEGLSLossless),
    "DICOM, JPEG 2000": _dicom(JPEG2000Lossless),
    "DICOM, enhanced": _enhanced,
    "the last file of a DICOM series": _series,
}
