"""Stored numbers of a DICOM file, bit-exact, in native byte order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from mrisr.errors import InputError
from mrisr.io.dicom_scan import printable, quiet

_INSTALL = "pip install pyjpegls pylibjpeg pylibjpeg-openjpeg python-gdcm"

#: GDCM comes last: it ends the whole process on some damaged JPEG 2000 data.
_PREFERRED = ("pydicom", "pyjpegls", "pylibjpeg", "gdcm")


@dataclass(frozen=True, eq=False)
class Pixels:
    """Stored numbers of one file, ``(frames, rows, columns)``.

    Attributes:
        stored: after inversion, if ``inverted``.
        inverted: the file was MONOCHROME1, which shows low numbers bright.
        sha256: digest of the file's bytes.
    """

    stored: NDArray[np.generic]
    inverted: bool
    sha256: str


def read_pixels(path: Path) -> Pixels:
    """Decode a file's pixels with any transfer syntax that has a decoder.

    Raises:
        InputError: truncated or damaged pixel data, a missing decoder (with the line that
            installs it), colour, or a modality lookup table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        found = error.strerror or str(error)
        raise InputError(path, expected="a readable file", found=found) from error
    with quiet():
        dataset = _dataset(path, data)
        try:
            _check_scalar(dataset, path)
            _check_decoder(dataset, path)
            stored = _stored(dataset)
        except InputError:
            raise
        except Exception as error:  # decoders raise almost anything on damaged data
            reason = printable(error) or type(error).__name__
            raise InputError(
                path, expected="whole pixel data", found=f"damage or truncation ({reason})"
            ) from error
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return Pixels(stored, inverted, hashlib.sha256(data).hexdigest())


def _stored(dataset: Dataset) -> NDArray[np.generic]:
    """Stored numbers ``(frames, rows, columns)``, bright is high, in native byte order."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        available = get_decoder(syntax).available_plugins
        preferred = next((p for p in _PREFERRED if p in available), "")
        dataset.pixel_array_options(decoding_plugin=preferred)
    decoded = dataset.pixel_array
    decoded = decoded.astype(decoded.dtype.newbyteorder("="), copy=False)
    frames = _sign_extended(decoded.reshape(-1, int(dataset.Rows), int(dataset.Columns)), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return _inverted(frames, dataset)
    return frames


def _dataset(path: Path, data: bytes) -> Dataset:
    try:
        dataset = pydicom.dcmread(BytesIO(data), force=data[128:132] != b"DICM")
        present = "PixelData" in dataset
    except Exception as error:  # pydicom raises almost anything on damaged files
        reason = printable(error) or type(error).__name__
        raise InputError(path, expected="a DICOM image", found=f"damage ({reason})") from error
    if not present:
        raise InputError(path, expected="PixelData", found="none (truncated?)")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _check_scalar(dataset: Dataset, path: Path) -> None:
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    photometric = str(dataset.get("PhotometricInterpretation", "none"))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            path,
            expected="one grey value in each pixel (MONOCHROME1 or 2)",
            found=f"{samples} samples of {printable(photometric)}",
        )


def _check_decoder(dataset: Dataset, path: Path) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise InputError(
            path,
            expected=f"a transfer syntax with a decoder ({_INSTALL})",
            found=printable(syntax.name),
        )


def _sign_extended(stored: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Signed numbers of fewer bits than their words, with the sign carried into the high bits."""
    if stored.dtype.kind not in "iu":
        return stored
    unused = stored.dtype.itemsize * 8 - int(dataset.BitsStored)
    if int(dataset.PixelRepresentation) == 1 and unused > 0:
        return np.right_shift(np.left_shift(stored, unused), unused)
    return stored


def _inverted(stored: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Numbers mirrored in the range of BitsStored, so that bright is high."""
    if stored.dtype.kind == "i":
        return (-1 - stored.astype(np.int64)).astype(stored.dtype)
    top = max((1 << int(dataset.BitsStored)) - 1, int(stored.max()))
    return (top - stored.astype(np.int64)).astype(stored.dtype)
