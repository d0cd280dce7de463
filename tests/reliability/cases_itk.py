"""MetaImage and NRRD: text headers that lie, point elsewhere or leave things out."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tests.reliability.expect import Cases
from tests.reliability.volume_files import (
    VOXELS,
    Make,
    cuts,
    damaged,
    flips,
    late,
    meta,
    nifti,
    nrrd,
    written,
    zeros_gzip,
    zeros_zlib,
)

_BIG_ENDIAN = VOXELS.byteswap().tobytes(order="F")
_HOLES = VOXELS.astype("<f4")
_HOLES[2:4, 5, 1] = np.nan
_HUGE = "30000 30000 30000"
_CLAIMED = ("30000x30000x30000", "--max-voxels")

mhd = partial(meta, name="t2w.mhd")
#: Every way in which the truth's voxels can be packed, and the file in which they are.
_METAS: dict[str, tuple[Make, str]] = {
    ".mha": (meta, "t2w.mha"),
    ".mha, compressed": (partial(meta, packed=True), "t2w.mha"),
    ".mhd and .raw": (mhd, "t2w.raw"),
    ".mhd and .raw, compressed": (partial(mhd, packed=True), "t2w.raw"),
}
_NRRDS: dict[str, tuple[Make, str]] = {
    ".nrrd": (nrrd, "t2w.nrrd"),
    ".nrrd, gzip": (partial(nrrd, packed=True), "t2w.nrrd"),
}


def every(kinds: dict[str, tuple[Make, str]]) -> None:
    """The cases that every kind of a format has."""
    for kind, (make, name) in kinds.items():
        CASES.handle(kind, make)
        CASES.each(f"{kind}, cut to 0, 1, 25, 50, 99% or by 8 bytes", cuts(make, name))
        if "," in kind:
            CASES.each(f"{kind}, a bit turned over anywhere", flips(make, name))


# --- MetaImage ------------------------------------------------------------------------------------

CASES = Cases("MHA and MHD")
refuse, handle = CASES.refuse, CASES.handle


fields: Callable[..., Make] = partial(partial, meta)


@late
def pointing(
    folder: Path, name: str, prepare: Callable[[Path], object] = lambda folder: None
) -> Path:
    """Makes a ``.mhd`` in a folder of its own that names another file, with its voxels one folder up."""
    inner = folder / "inner"
    inner.mkdir()
    mhd(folder)
    path = mhd(inner, ElementDataFile=name.replace("OUTSIDE", str(folder)))
    prepare(inner / "t2w.raw")
    return path


def _linked_out(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "t2w.raw")


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _bomb_meta(folder: Path) -> Path:
    """A MetaImage that claims 1024^3 bytes, of which 1 MB is left."""
    voxels = zeros_zlib(1 << 30)
    sizes = {"DimSize": "1024 1024 1024", "CompressedDataSize": str(len(voxels))}
    return meta(folder, data=voxels, ElementType="MET_UCHAR", CompressedData="True", **sizes)


_four = fields(
    NDims="4",
    DimSize="16 12 5 1",
    ElementSpacing="0.7 0.5 3.0 1",
    Offset="-10.5 -20.25 -6.0 0",
    TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    CenterOfRotation="0 0 0 0",
)


def _sparse(folder: Path) -> Path:
    path = written("t2w.mha", b"")(folder)
    os.truncate(path, 100_000_000)
    return path


every(_METAS)
refuse("a header that claims 30000 x 30000 x 30000", fields(DimSize=_HUGE), *_CLAIMED, cheap=True)
name = "1 MB compressed that inflates to the 1 GB it claims"
refuse(name, _bomb_meta, "--max-voxels", cheap=True)
refuse("an ElementDataFile with an absolute path", pointing("OUTSIDE/t2w.raw"), "own folder")
refuse("an ElementDataFile of /etc/passwd", pointing("/etc/passwd"), "own folder")
refuse("an ElementDataFile with ..", pointing("../t2w.raw"), "own folder")
refuse("an ElementDataFile with a drive", pointing("C:\\t2w.raw"), "own folder")
link = pointing("t2w.raw", _linked_out)
refuse("an ElementDataFile that is a link out of the folder", link, "own folder")
refuse("an ElementDataFile that is not there", pointing("none.raw"), "no such file")
refuse("a list of data files", pointing("LIST"), "one ElementDataFile")
refuse("a pattern of data files", pointing("t2w%02d.raw 1 5 1"), "one ElementDataFile")
refuse("a FIFO for voxels", pointing("t2w.raw", _piped), "no such file")
ended = damaged(meta, lambda d: d[: d.index(b"ElementDataFile")])
refuse("no ElementDataFile", ended, "ElementDataFile")
refuse("three channels", fields(ElementNumberOfChannels="3"), "3 channels")
refuse("no spacing", fields(ElementSpacing=None), "ElementSpacing")
refuse("a spacing of zero", fields(ElementSpacing="0.7 0 3"), "ElementSpacing")
refuse("a negative spacing", fields(ElementSpacing="0.7 -0.5 3"), "ElementSpacing")
refuse("a spacing of two numbers", fields(ElementSpacing="0.7 0.5"), "ElementSpacing")
refuse("a spacing that is no number", fields(ElementSpacing="0.7 x 3"), "ElementSpacing")
refuse("a spacing that is NaN", fields(ElementSpacing="0.7 nan 3"), "ElementSpacing")
refuse("no orientation", fields(TransformMatrix=None), "TransformMatrix")
refuse("a singular orientation", fields(TransformMatrix="1 0 0 1 0 0 0 0 1"))
refuse("a sheared orientation", fields(TransformMatrix="1 0 0 0.3 1 0 0 0 1"))
refuse("a short orientation", fields(TransformMatrix="1 0 0 0 1 0"), "TransformMatrix")
refuse("an orientation with NaN", fields(TransformMatrix="nan 0 0 0 1 0 0 0 1"))
refuse("no origin", fields(Offset=None), "origin")
refuse("an origin with NaN", fields(Offset="nan 0 0"), "Offset")
refuse("a short origin", fields(Offset="1 2"), "Offset")
refuse("an unknown ElementType", fields(ElementType="MET_OTHER"), "ElementType")
refuse("voxels as text", fields(BinaryData="False"), "BinaryData")
refuse("two axes", fields(NDims="2", DimSize="16 60"), "axes")
refuse("NDims other than DimSize", fields(NDims="4"), "NDims")
refuse("a negative DimSize", fields(DimSize="16 -12 5"), "axis")
handle("a fourth axis of length 1", _four)
handle("big endian", partial(meta, data=_BIG_ENDIAN, BinaryDataByteOrderMSB="True"))
wrong = partial(meta, packed=True, CompressedDataSize="7")
refuse("a wrong CompressedDataSize", wrong, "CompressedDataSize")
handle("no CompressedDataSize", partial(meta, packed=True, CompressedDataSize=None))
refuse("a field stated twice", damaged(meta, lambda d: b"DimSize = 16 12 4\n" + d), "twice")
handle("an AnatomicalOrientation that says otherwise", fields(AnatomicalOrientation="RAI"))
holes = partial(meta, data=_HOLES.tobytes(order="F"), ElementType="MET_FLOAT")
refuse("voxels with NaN", holes, "2 NaN")
refuse("all voxels equal", partial(meta, data=bytes(VOXELS.nbytes)), "constant")
refuse("a NIfTI called .mha", lambda f: nifti(f).rename(f / "t2w.mha"), "MetaImage")
refuse("an empty file", written("t2w.mha", b""), "MetaImage")
refuse("a header without end", written("t2w.mha", b"Comment = 3\n" * 99999), "MetaImage")
refuse("a hundred megabytes on the first line", _sparse, "MetaImage", cheap=True)

# --- NRRD -----------------------------------------------------------------------------------------

CASES.group = "NRRD"


#: Makes a ``.nrrd`` with header fields changed; ``_`` stands for a space.
text: Callable[..., Make] = partial(partial, nrrd)


def _bomb_nrrd(folder: Path) -> Path:
    """An NRRD that claims 1024^3 bytes, of which 1 MB is left."""
    claim = {"sizes": "1024 1024 1024", "type": "uint8", "encoding": "gzip"}
    return nrrd(folder, data=zeros_gzip(1 << 30), **claim)  # type: ignore[arg-type]


def _crlf(data: bytes) -> bytes:
    header, blank, body = data.partition(b"\n\n")
    return (header + blank).replace(b"\n", b"\r\n") + body


def replaced(old: bytes, new: bytes) -> Make:
    return damaged(nrrd, lambda d: d.replace(old, new))


every(_NRRDS)
refuse("a header that claims 30000 x 30000 x 30000", text(sizes=_HUGE), *_CLAIMED, cheap=True)
refuse("1 MB of gzip that inflates to the 1 GB it claims", _bomb_nrrd, "--max-voxels", cheap=True)
refuse("a detached data file", text(data_file="t2w.raw"), "detached")
refuse("a data file of /etc/passwd", text(data_file="/etc/passwd"), "detached")
refuse("a list of data files", text(data_file="LIST"), "detached")
refuse("a byte skip", text(byte_skip="16"), "skip")
refuse("a line skip", text(line_skip="1"), "skip")
refuse("no space", text(space=None), "orientation")
refuse("no space directions", text(space_directions=None), "space directions")
spacings = text(space_directions=None, spacings="0.7 0.5 3")
refuse("spacings instead of space directions", spacings, "space directions")
refuse("a space direction of zero", text(space_directions="(0.7,0,0) (0,0,0) (0,0,3)"))
refuse("a space direction of none", text(space_directions="(0.7,0,0) none (0,0,3)"))
refuse("sheared space directions", text(space_directions="(0.7,0,0) (0.2,0.5,0) (0,0,3)"))
refuse("space directions with NaN", text(space_directions="(nan,0,0) (0,0.5,0) (0,0,3)"))
refuse("no space origin", text(space_origin=None), "space origin")
refuse("a space origin with NaN", text(space_origin="(nan,0,0)"))
refuse("space units of um", text(space_units='"um" "um" "um"'), "um")
handle("space units of mm", text(space_units='"mm" "mm" "mm"'))
refuse("a type of blocks", text(type="block"), "type")
refuse("an encoding of hex", text(encoding="hex"), "encoding")
refuse("an encoding of bzip2", text(encoding="bzip2"), "encoding")
refuse("no endian", text(endian=None), "endian")
refuse("two axes", text(dimension="2", sizes="16 60"), "axes")
refuse("a dimension other than sizes", text(dimension="4"))
refuse("a field stated twice", replaced(b"type:", b"sizes: 16 12 4\ntype:"), "twice")
refuse("kinds that make vectors", text(kinds="vector domain domain"))
handle("big endian", partial(nrrd, data=_BIG_ENDIAN, endian="big"))
handle("comments and key-value pairs", replaced(b"kinds:", b"# a comment\nname:=value\nkinds:"))
handle("lines that end in CR LF", damaged(nrrd, _crlf))
refuse("voxels with NaN", partial(nrrd, data=_HOLES.tobytes(order="F"), type="float"), "2 NaN")
refuse("all voxels equal", partial(nrrd, data=bytes(VOXELS.nbytes)), "constant")
refuse("a text", written("t2w.nrrd", b"no such study\n" * 50), "NRRD")
refuse("a header without end", written("t2w.nrrd", b"NRRD0004\ntype: short\n"), "NRRD header")
refuse("a detached header (.nhdr)", lambda f: nrrd(f).rename(f / "t2w.nhdr"), ".nhdr")
