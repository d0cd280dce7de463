"""DICOM files whose attributes hold anything, in any representation, of any stated length."""

import copy
import struct
import tempfile
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path

import pydicom
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.reliability import dicom_files
from tests.reliability.damage import dicom_image

#: Attributes of images, then those that frames have too.
_KEYWORDS = """BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation
PlanarConfiguration PixelData SOPClassUID SOPInstanceUID SeriesInstanceUID SpecificCharacterSet
SeriesDescription SeriesNumber ImageType EchoTime DiffusionBValue ModalityLUTSequence NumberOfSlices
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence FrameOfReferenceUID FloatPixelData""".split()
_OF_FRAMES = """Rows Columns NumberOfFrames PixelSpacing ImageOrientationPatient ImagePositionPatient
RescaleSlope RescaleIntercept SliceThickness SpacingBetweenSlices EffectiveEchoTime FrameType""".split()

_TEXTS = """0 1 -1 16 12 nan inf 1e400 -1e308 1e-320 0x10 0.5\\0.7 0\\0 -1\\1 1\\0\\0\\0\\1\\0 0\\0\\0 1\\2
\\\\\\ nan\\nan 1\\0\\0\\1\\0\\0 1e30\\0\\0 1e200\\0\\0\\0\\1e200\\0 MONOCHROME1 MONOCHROME2 RGB
1.2.840.10008.1.3.10 1.2.840.10008.5.1.4.1.1.4 1.2.3 99999999999999999999 2147483647 1_0 ²""".split()
_TEXTS += [
    "",
    " ",
    "PALETTE COLOR",
    "ISO_IR 192",
    "ISO 2022 IR 87",
    "\x1b$B",
    "a\nb\rc\0d",
    "9" * 3000,
]
_SHORTS = [0, 1, 2, 7, 8, 12, 13, 15, 16, 17, 32, 63, 64, 255, 256, 32768, 65535]
_LONG = {"OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UN", "UT", "UC", "UR", "SV", "UV"}
_VRS = ["US", "SS", "UL", "SL", "DS", "IS", "CS", "LO", "UI", "FD", "FL", "AT", *sorted(_LONG)]
_UNDEFINED = 0xFFFFFFFF


def _value() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.sampled_from(_TEXTS).map(lambda t: t.encode("utf-8")),
        st.lists(st.sampled_from(_SHORTS), max_size=3).map(
            lambda v: struct.pack(f"<{len(v)}H", *v)
        ),
        st.lists(st.floats().map(str), max_size=6).map(lambda v: "\\".join(v).encode()),
        st.integers(0, 2**32 - 1).map(lambda n: struct.pack("<I", n)),
        st.lists(st.floats(), max_size=6).map(lambda v: struct.pack(f"<{len(v)}d", *v)),
        st.binary(max_size=40),
        _items(),
    )


@st.composite
def _items(draw: st.DrawFn) -> bytes:
    """The items of a sequence, nested to some depth, their ends marked or not."""
    inner = b"\x28\x00\x10\x00US\x02\x00\x06\x00"
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 5, 60, 2000]))):
        length = draw(st.sampled_from([len(inner), _UNDEFINED, 0, 0xFFFFFFFE]))
        inner = b"\xfe\xff\x00\xe0" + struct.pack("<I", length) + inner
        if length == _UNDEFINED and draw(st.booleans()):
            inner += b"\xfe\xff\x0d\xe0\0\0\0\0"
        inner = b"\x28\x00\x00\x30SQ\0\0" + struct.pack("<I", len(inner)) + inner
    return inner[12:] + draw(st.sampled_from([b"", b"\xfe\xff\xdd\xe0\0\0\0\0"]))


@st.composite
def _element(draw: st.DrawFn, keyword: str) -> bytes:
    """An element in explicit little endian, perhaps of a wrong representation or stated length."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    usual = dictionary_VR(tag)[:2]
    vr = draw(st.sampled_from([usual] * len(_VRS) * 3 + _VRS))
    value = draw(_value())
    value += b" " * (len(value) % 2)
    absurd = [0, 1, 2, 0xFFFE, 0x7FFFFFFF, 0xFFFFFFFE, _UNDEFINED]
    length = draw(st.sampled_from([len(value)] * 20 + absurd))
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in _LONG:
        return head + b"\0\0" + struct.pack("<I", length) + value
    return head + struct.pack("<H", min(length, 0xFFFF)) + value


@cache
def _base(packed: int) -> tuple[bytes, dict[int, bytes]]:
    """Preamble and meta of a whole slice, and its elements as bytes by tag."""
    d = dicom_image([None, RLELossless, JPEGLSLossless, JPEG2000Lossless][packed])
    d.remove_private_tags()
    meta = BytesIO()
    write_file_meta_info(meta, d.file_meta)
    elements = {}
    for element in d:
        out = DicomBytesIO()
        out.is_implicit_VR, out.is_little_endian = False, True
        write_data_element(out, element)
        elements[int(element.tag)] = out.getvalue()
    return b"\0" * 128 + b"DICM" + meta.getvalue(), elements


@st.composite
def attributes(draw: st.DrawFn, packed: bool = False) -> bytes:
    """A slice of which one to three elements are drawn anew, left out, or said twice."""
    start, usual = _base(draw(st.integers(1, 3)) if packed else 0)
    elements = [(tag, chunk) for tag, chunk in usual.items()]
    for _ in range(draw(st.integers(1, 3))):
        keyword = draw(st.sampled_from([*_KEYWORDS, *_OF_FRAMES]))
        tag = int(tag_for_keyword(keyword) or 0)
        how = draw(st.sampled_from(["change"] * 5 + ["drop", "twice"]))
        if how != "twice":
            elements = [(t, chunk) for t, chunk in elements if t != tag]
        if how != "drop":
            elements.append((tag, draw(_element(keyword))))
    if draw(st.integers(0, 9)):
        elements.sort(key=lambda e: e[0])
    return start + b"".join(chunk for _, chunk in elements)


@cache
def _enhanced() -> FileDataset:
    with tempfile.TemporaryDirectory() as folder:
        d = pydicom.dcmread(dicom_files.enhanced(Path(folder)))
        d.walk(lambda *_: None)  # everything is read before the file goes
        return d


def _inside(d: Dataset) -> list[Dataset]:
    """A dataset and all within it."""
    items = [item for element in d if element.VR == "SQ" for item in element.value]
    return [d, *(inner for item in items for inner in _inside(item))]


@st.composite
def functional_groups(draw: st.DrawFn) -> bytes:
    """An enhanced file in which one to four things are changed at any depth of its functional groups."""
    d = copy.deepcopy(_enhanced())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(range(len(_inside(d)))))
        target = _inside(d)[place]
        sequences = [e for e in target if e.VR == "SQ"]
        how = draw(st.sampled_from(["set"] * 3 + ["drop", "repeat", "empty", "all"]))
        if how == "set" or not sequences:
            keyword, vr = (
                draw(st.sampled_from(_OF_FRAMES)),
                draw(st.sampled_from(["DS", "LO", "FD"])),
            )
            numbers = st.lists(st.floats(), min_size=1, max_size=6)
            value = draw(st.sampled_from(_TEXTS) if vr == "LO" else numbers)
            target[keyword] = DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)
            continue
        element = draw(st.sampled_from(sequences))
        items = list(element.value)
        k = draw(st.integers(0, max(0, len(items) - 1)))
        new = {"drop": [], "repeat": items[k : k + 1] * 2, "empty": [Dataset()]}.get(how, [])
        items[k : k + 1] = [copy.deepcopy(item) for item in new]
        if how == "all":
            del target[element.tag]
        else:
            element.value = Sequence(items)
    out = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        d.save_as(out, enforce_file_format=True)
    return out.getvalue()
