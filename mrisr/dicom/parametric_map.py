"""The standard deviation of each voxel as DICOM Parametric Map.

Sources: DICOM PS3.3 A.75 (Parametric Map IOD), C.8.32 (its modules), C.8.16.1.4 (derived pixel
contrast), C.7.6.16.2.11 (real world value mapping), C.11.2.1.3 (linear window functions); PS3.16
CID 7180 (quantities), CID 7464 (how they are derived), CID 9000 (what describes a quantity).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.attributes import code_item, window
from mrisr.dicom.derivation import Derivation
from mrisr.dicom.multiframe import Content, write_file
from mrisr.dicom.source import Source
from mrisr.io.checks import check_affine, check_values

if TYPE_CHECKING:
    import highdicom as hd

SIGNAL = Code("110852", "DCM", "MR signal intensity")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
_NO_UNITS = Code("1", "UCUM", "no units")
_DERIVATION = Code("121401", "DCM", "Derivation")
_PROSTATE = Code("41216001", "SCT", "Prostate")
_CONTRAST = "STD_DEVIATION"


def write_parametric_map(
    values: Volume,
    path: Path,
    source: Source,
    derivation: Derivation,
    *,
    force: bool = False,
) -> Path:
    """Write a volume of standard deviations as one DICOM Parametric Map file, whole or not at all.

    Pixels are 32-bit floats and the quantity itself: slope 1, intercept 0. The file is read back by
    highdicom and compared before it takes its place. UIDs follow from the source and the derivation:
    a rerun gives the same.

    Args:
        values: in the units of the image; its grid may differ from the source's in any way, its frame
            of reference may not.
        path, source, derivation, force: as of ``write_segmentation``; SeriesDescription is the
            derivation's label and "standard deviation".

    Raises:
        InputError: values that single precision does not hold, axes that are not at right angles, or
            a source with text burned into its pixels, which a map cannot state.
        OutputError: the file exists, cannot be written, or does not read back as it should.
    """
    check_affine(values.affine, values.name)
    if any(s.carried.get("BurnedInAnnotation") == "YES" for s in source.slices):
        found = "BurnedInAnnotation YES"
        raise InputError(values.name, expected="a source without text in its pixels", found=found)
    with np.errstate(over="ignore"):
        numbers = values.array.astype(np.float32)
    check_values(numbers, values.name, allow_constant=True)
    content = Content(
        "standard deviation",
        key=" ".join((*SIGNAL[:2], *STANDARD_DEVIATION[:2])),
        code=STANDARD_DEVIATION,
        make=lambda arguments: _make(numbers, source, arguments),
        read=_read,
        size=numbers.nbytes,
    )
    return write_file(numbers, values, path, source, derivation, content, force=force)


def _make(
    numbers: NDArray[np.float32], source: Source, arguments: dict[str, Any]
) -> hd.pm.ParametricMap:
    """The file as highdicom makes it, with the anatomy that A.75.5 asks for."""
    import highdicom as hd

    mapping = hd.pm.RealWorldValueMapping(
        lut_label=_CONTRAST,
        lut_explanation="standard deviation of MR signal intensity",
        unit=_NO_UNITS,
        value_range=(float(numbers.min()), float(numbers.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=SIGNAL,
    )
    coded = hd.sr.CodedConcept.from_code
    statistic = hd.sr.CodeContentItem(name=coded(_DERIVATION), value=coded(STANDARD_DEVIATION))
    mapping.QuantityDefinitionSequence.append(statistic)
    high = float(np.percentile(np.abs(numbers.astype(np.float64)), 99.5))
    centre, width = window(numbers, least=max(high * 1e-3, 1e-6))
    # LINEAR would not allow a width below 1.
    exact = hd.VOILUTFunctionValues.LINEAR_EXACT
    shown = hd.VOILUTTransformation(centre, width, voi_lut_function=exact)
    d = hd.pm.ParametricMap(
        **arguments,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[shown],
        derived_pixel_contrast=_CONTRAST,
        content_label=_CONTRAST,
    )
    d.Modality = "MR"  # the scanner's, says C.8.32.1; highdicom writes OT
    if regions := _regions(source.slices[0].carried):
        item = Dataset()
        item.FrameLaterality = "U"
        item.AnatomicRegionSequence = regions
        d.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [item]
    return d


def _regions(carried: Dataset) -> list[Dataset]:
    """The part of the body; none where the source shows another one without telling its code."""
    shown = carried.get("BodyPartExamined") or "PROSTATE"
    prostate = [code_item(_PROSTATE)] if shown in ("PROSTATE", "PELVIS") else []
    return deepcopy(list(carried.get("AnatomicRegionSequence") or prostate)[:1])


def _read(path: Path) -> hd.Volume:
    import highdicom as hd

    return hd.imread(path).get_volume(
        dtype=np.float32, apply_real_world_transform=False, apply_modality_transform=False
    )
