"""Quantities for each voxel, such as a standard deviation, as DICOM Parametric Map.

Sources: DICOM PS3.3 A.75 (Parametric Map IOD), C.8.32 (its modules), C.8.16.1.4 (derived pixel
contrast), C.7.6.16.2.11 (real world value mapping), C.11.2.1.3 (linear window functions); PS3.16
CID 7180 (quantities), CID 7464 (how they are derived), CID 9000 (what describes a quantity).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.dicom.derivation import Derivation, code_item
from mrisr.dicom.multiframe import Content, write_file
from mrisr.dicom.source import Source
from mrisr.io.checks import check_affine, check_values

if TYPE_CHECKING:
    import highdicom as hd

_DERIVATION = Code("121401", "DCM", "Derivation")
_PROSTATE = Code("41216001", "SCT", "Prostate")


@dataclass(frozen=True)
class Quantity:
    """The quantity that the values of a map are.

    Attributes:
        name: in words.
        contrast: the same as value 4 of ImageType (PS3.3 C.8.16.1.4) and as a label.
        of: the quantity that the map is about.
        derivation: what the map tells of that quantity; it is also how the map was derived.
        unit: of the values, in UCUM.
    """

    name: str
    contrast: str
    of: Code
    derivation: Code
    unit: Code


STANDARD_DEVIATION = Quantity(
    "standard deviation",
    "STD_DEVIATION",
    Code("110852", "DCM", "MR signal intensity"),
    Code("386136009", "SCT", "Standard Deviation"),
    Code("1", "UCUM", "no units"),
)


def write_parametric_map(
    values: Volume,
    path: Path,
    source: Source,
    derivation: Derivation,
    *,
    quantity: Quantity = STANDARD_DEVIATION,
    force: bool = False,
) -> Path:
    """Write a volume of numbers as one DICOM Parametric Map file, whole or not at all.

    Pixels are 32-bit floats and the quantity itself: slope 1, intercept 0. The file is read back by
    highdicom and compared before it takes its place. UIDs follow from the source, the derivation and
    the quantity: a rerun gives the same.

    Args:
        values: in the quantity's unit; its grid may differ from the source's in any way, its frame
            of reference may not.
        path, source, force: as of ``write_segmentation``.
        derivation: what made the map. SeriesDescription is its label and the quantity's name; its
            ``series_offset`` should differ from that of the images beside.
        quantity: what the values are.

    Raises:
        InputError: values that single precision does not hold, axes that are not at right angles, or
            a source with text burned into its pixels, which a map cannot state.
        OutputError: the file exists, cannot be written, or does not read back as it should.
    """
    numbers = _checked(values, source)
    content = Content(
        quantity.name,
        key=" ".join((*quantity.of[:2], *quantity.derivation[:2])),
        code=quantity.derivation,
        make=lambda arguments: _make(numbers, quantity, source, arguments),
        read=_read,
        size=numbers.nbytes,
    )
    return write_file(numbers, values, path, source, derivation, content, force=force)


def _checked(values: Volume, source: Source) -> NDArray[np.float32]:
    check_affine(values.affine, values.name)
    if any(s.carried.get("BurnedInAnnotation") == "YES" for s in source.slices):
        found = "BurnedInAnnotation YES"
        raise InputError(values.name, expected="a source without text in its pixels", found=found)
    with np.errstate(over="ignore"):
        numbers = values.array.astype(np.float32)
    check_values(numbers, values.name, allow_constant=True)
    return numbers


def _make(
    numbers: NDArray[np.float32], quantity: Quantity, source: Source, arguments: dict[str, Any]
) -> hd.pm.ParametricMap:
    """The file as highdicom makes it, with the anatomy that A.75.5 asks for.

    Anatomy is left out where the source shows another part of the body without telling its code.
    """
    import highdicom as hd

    low, high = (float(v) for v in np.percentile(numbers, (0.5, 99.5)))
    window = hd.VOILUTTransformation(
        window_center=float(f"{(low + high) / 2:.6g}"),
        window_width=float(f"{max(high - low, abs(high) * 1e-3, 1e-6):.6g}"),
        # LINEAR would not allow a width below 1.
        voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT,
    )
    d = hd.pm.ParametricMap(
        **arguments,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(numbers, quantity)],
        voi_lut_transformations=[window],
        derived_pixel_contrast=quantity.contrast,
        content_label=quantity.contrast,
    )
    d.Modality = "MR"  # the scanner's, says C.8.32.1; highdicom writes OT
    carried = source.slices[0].carried
    region = carried.get("AnatomicRegionSequence")
    if not region and carried.get("BodyPartExamined", "") in ("", None, "PROSTATE", "PELVIS"):
        region = [code_item(_PROSTATE)]
    if region:
        item = Dataset()
        item.FrameLaterality = "U"
        item.AnatomicRegionSequence = [deepcopy(region[0])]
        d.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [item]
    return d


def _mapping(numbers: NDArray[np.float32], quantity: Quantity) -> hd.pm.RealWorldValueMapping:
    """The mapping of stored values, which are the quantity, with two codes that tell which."""
    import highdicom as hd

    mapping = hd.pm.RealWorldValueMapping(
        lut_label=quantity.contrast,
        lut_explanation=f"{quantity.name} of {quantity.of.meaning}"[:64],
        unit=quantity.unit,
        value_range=(float(numbers.min()), float(numbers.max())),
        slope=1.0,
        intercept=0.0,
        quantity_definition=quantity.of,
    )
    told = hd.sr.CodeContentItem(
        name=hd.sr.CodedConcept.from_code(_DERIVATION),
        value=hd.sr.CodedConcept.from_code(quantity.derivation),
    )
    mapping.QuantityDefinitionSequence.append(told)
    return mapping


def _read(path: Path) -> hd.Volume:
    import highdicom as hd

    return hd.imread(path).get_volume(
        dtype=np.float32, apply_real_world_transform=False, apply_modality_transform=False
    )
