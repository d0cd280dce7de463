"""MetaImage and NRRD headers from a grammar of fields with hostile values."""

from __future__ import annotations

import zlib

from hypothesis import strategies as st

from tests.reliability.truth import VOXELS

_META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-10.5 -20.25 -6",
    "ElementSpacing": "0.7 0.5 3",
    "DimSize": "16 12 5",
    "ElementType": "MET_USHORT",
    "ElementDataFile": "LOCAL",
}
_META_MORE = ["CompressedDataSize", "HeaderSize", "ElementNumberOfChannels", "ElementByteOrderMSB"]
_META_MORE += ["Position", "Orientation", "Origin", "DistanceUnits", "Comment", "ElementSize"]
_NRRD = {
    "type": "uint16",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "16 12 5",
    "space directions": "(0.7,0,0) (0,0.5,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-10.5,-20.25,-6)",
}
_NRRD_MORE = ["space units", "byte skip", "line skip", "data file", "datafile", "spacings", "min"]
_NRRD_MORE += ["measurement frame", "block size", "content", "space dimension"]

_NUMBERS = ["0", "-1", "1", "3", "5", "12", "16", "1e400", "-1e308", "1e-320", "nan", "inf", "0x10"]
_NUMBERS += ["99999999999999999999", "2147483648", "65536", "1_6", "٣", "1.5", "+2", "--1", "1e"]
_WORDS = ["LOCAL", "LIST", "LIST 2", "t2w.raw", "t2w%02d.raw 1 5 1", "/etc/passwd", "../t2w.raw"]
_WORDS += ["t2w.mha", "t2w.mhd", ".", "C:\\t2w.raw", "//host/t2w.raw", "True", "False", "T", "yes"]
_WORDS += ["MET_UCHAR", "MET_DOUBLE", "MET_STRING", "MET_OTHER", "MET_LONG_LONG", "MET_FLOAT_ARRAY"]
_WORDS += ["gzip", "gz", "bzip2", "hex", "text", "raw", "uint8", "block", "double", "big", "none"]
_WORDS += [
    "RAS",
    "scanner-xyz",
    "(1,0,0)",
    "(1,0) (0,1)",
    "none none none",
    "((",
    "vector",
    "Ä§\x00",
]


def _number() -> st.SearchStrategy[str]:
    return st.sampled_from(_NUMBERS) | st.floats().map(str) | st.integers().map(str)


def _value() -> st.SearchStrategy[str]:
    vectors = st.lists(st.lists(_number(), min_size=3, max_size=3), min_size=1, max_size=4)
    return st.one_of(
        st.lists(_number(), max_size=10).map(" ".join),
        st.sampled_from(_WORDS),
        vectors.map(lambda v: " ".join(f"({','.join(n)})" for n in v)),
        st.text(max_size=40),
        st.just("9" * 5000),
    )


@st.composite
def _fields(draw: st.DrawFn, usual: dict[str, str], more: list[str]) -> list[tuple[str, str]]:
    """Fields of which some are changed, left out, said twice, misspelt, added or moved."""
    fields = list(usual.items())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(fields) - 1)) if fields else 0
        how = draw(st.sampled_from(["change"] * 4 + ["drop", "repeat", "case", "add", "move"]))
        if how == "add" or not fields:
            fields.insert(place, (draw(st.sampled_from(more)), draw(_value())))
        elif how == "change":
            fields[place] = (fields[place][0], draw(_value()))
        elif how == "repeat":
            fields.insert(place, (fields[place][0], draw(_value())))
        elif how == "case":
            fields[place] = (fields[place][0].swapcase(), fields[place][1])
        else:
            moved = fields.pop(place)
            if how == "move":
                fields.append(moved)
    return fields


@st.composite
def _body(draw: st.DrawFn) -> bytes:
    voxels = VOXELS.tobytes(order="F")
    if draw(st.integers(0, 4)) == 4:
        voxels = zlib.compress(voxels, 1)
    return voxels[: len(voxels) - draw(st.sampled_from([0] * 8 + [1, 8, 1000]))]


def _joined(fields: list[tuple[str, str]], sign: str, end: str) -> bytes:
    return "".join(f"{k}{sign}{v}{end}" for k, v in fields).encode("utf-8", "surrogatepass")


@st.composite
def metaimage(draw: st.DrawFn) -> bytes:
    """A ``.mha``, or a ``.mhd``."""
    end = draw(st.sampled_from(["\n"] * 8 + ["\r\n", "\r", ""]))
    return _joined(draw(_fields(_META, _META_MORE)), " = ", end) + draw(_body())


@st.composite
def nrrd(draw: st.DrawFn) -> bytes:
    """A ``.nrrd``."""
    magic = draw(st.sampled_from(["NRRD0004", "NRRD0005", "NRRD0001", "NRRD00", "NRRD", ""]))
    end = draw(st.sampled_from(["\n"] * 8 + ["\r\n", "\r", ""]))
    head = _joined(draw(_fields(_NRRD, _NRRD_MORE)), ": ", end)
    return (magic + end).encode() + head + end.encode() + draw(_body())
