"""MetaImage: text headers that lie, point elsewhere or leave things out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tests.reliability import expect
from tests.reliability.case import Case
from tests.reliability.cases_nifti import SHARES, kept, written
from tests.reliability.expect import Make
from tests.reliability.truth import VOXELS
from tests.reliability.volume_files import meta, nifti, nrrd, repack, zeros_zlib

META, NRRD = "MHA and MHD", "NRRD"
refuse = partial(expect.refuse, META)
handle = partial(expect.handle, META)
_BYTES = VOXELS.tobytes(order="F")

#: Every way in which the truth's voxels can be packed, and the file in which they are.
KINDS: dict[str, tuple[Make, str]] = {
    ".mha": (meta, "t2w.mha"),
    ".mha, compressed": (lambda f: meta(f, packed=True), "t2w.mha"),
    ".mhd and .raw": (lambda f: meta(f, "t2w.mhd"), "t2w.raw"),
    ".mhd and .raw, compressed": (lambda f: meta(f, "t2w.mhd", packed=True), "t2w.raw"),
    ".nrrd": (nrrd, "t2w.nrrd"),
    ".nrrd, gzip": (lambda f: nrrd(f, packed=True), "t2w.nrrd"),
}


def group(kind: str) -> str:
    """The heading a kind stands under."""
    return META if kind.startswith(".mh") else NRRD


def truncated(kind: str, share: float) -> Make:
    """Makes a file whose voxels end early."""
    make, data = KINDS[kind]

    def cut(folder: Path) -> Path:
        path = make(folder)
        repack(folder / data, lambda d: kept(d, share))
        return path

    return cut


def flipped(kind: str, position: float) -> Make:
    """Makes a compressed file with one bit turned over, a share of the way into its voxels."""
    make, data = KINDS[kind]

    def damage(d: bytes) -> bytes:
        start = next((d.find(m) for m in (b"\x78\x9c", b"\x1f\x8b\x08") if m in d), 0)
        at = start + int((len(d) - start - 1) * position)
        return d[:at] + bytes([d[at] ^ 4]) + d[at + 1 :]

    def change(folder: Path) -> Path:
        path = make(folder)
        repack(folder / data, damage)
        return path

    return change


def fields(**changes: str | None) -> Make:
    """Makes a ``.mha`` with header fields changed, or left out where None."""
    return lambda folder: meta(folder, **changes)


def bomb_meta(folder: Path) -> Path:
    """A MetaImage that claims 1024^3 bytes, of which 1 MB is left."""
    packed = zeros_zlib(1 << 30)
    return meta(
        folder,
        data=packed,
        DimSize="1024 1024 1024",
        ElementType="MET_UCHAR",
        CompressedData="True",
        CompressedDataSize=str(len(packed)),
    )


def _pointing(name: str) -> Make:
    return lambda folder: meta(folder, "t2w.mhd", ElementDataFile=name)


def _outside(folder: Path) -> Path:
    (folder / "inner").mkdir()
    meta(folder, "t2w.mhd")
    return meta(folder / "inner", "t2w.mhd", ElementDataFile="../t2w.raw")


def _linked_out(folder: Path) -> Path:
    (folder / "inner").mkdir()
    meta(folder, "t2w.mhd")
    path = meta(folder / "inner", "t2w.mhd")
    (folder / "inner" / "t2w.raw").unlink()
    (folder / "inner" / "t2w.raw").symlink_to(folder / "t2w.raw")
    return path


def _absolute(folder: Path) -> Path:
    meta(folder, "other.mhd")
    return meta(folder, "t2w.mhd", ElementDataFile=str(folder / "t2w.raw"))


def _big_endian(folder: Path) -> Path:
    return meta(folder, data=VOXELS.byteswap().tobytes(order="F"), BinaryDataByteOrderMSB="True")


def floats(value: float) -> bytes:
    voxels = VOXELS.astype("<f4")
    voxels[2:4, 5, 1] = value
    return voxels.tobytes(order="F")


def _four(folder: Path) -> Path:
    return meta(
        folder,
        NDims="4",
        DimSize="16 12 5 1",
        ElementSpacing="0.7 0.5 3.0 1",
        Offset="-10.5 -20.25 -6.0 0",
        TransformMatrix="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
        CenterOfRotation="0 0 0 0",
    )


def every(heading: str) -> list[Case]:
    """The cases that every kind of a format has."""
    kinds = {kind: made for kind, made in KINDS.items() if group(kind) == heading}
    return [
        *[
            expect.each(
                heading,
                f"{kind}, cut to 0, 1, 25, 50, 99% or by 8 bytes",
                "refused; the line tells the file",
                {title: truncated(kind, share) for title, share in SHARES.items()},
            )
            for kind in kinds
        ],
        *[
            expect.each(
                heading,
                f"{kind}, a bit turned over anywhere",
                "refused; the line tells the file",
                {f"at {p:.0%}": flipped(kind, p) for p in (0.05, 0.3, 0.5, 0.7, 0.9, 1.0)},
            )
            for kind in kinds
            if "," in kind
        ],
        *[expect.handle(heading, kind, make) for kind, (make, _) in kinds.items()],
    ]


def _fifo(folder: Path) -> Path:
    import os

    path = meta(folder, "t2w.mhd")
    (folder / "t2w.raw").unlink()
    os.mkfifo(folder / "t2w.raw")
    return path


def _headless(folder: Path) -> Path:
    return repack(meta(folder), lambda d: d[: d.index(b"ElementDataFile")])


def _sparse(path: Path) -> Path:
    with path.open("wb") as handle:
        handle.truncate(100_000_000)
    return path


CASES = [
    *every(META),
    refuse(
        "a header that claims 30000 x 30000 x 30000",
        fields(DimSize="30000 30000 30000"),
        *("30000x30000x30000", "--max-voxels"),
        tells="the claim and --max-voxels",
        cheap=True,
    ),
    refuse(
        "1 MB compressed that inflates to the 1 GB it claims",
        bomb_meta,
        "--max-voxels",
        cheap=True,
    ),
    refuse("an ElementDataFile with an absolute path", _absolute, "own folder"),
    refuse("an ElementDataFile of /etc/passwd", _pointing("/etc/passwd"), "own folder"),
    refuse("an ElementDataFile with ..", _outside, "own folder"),
    refuse("an ElementDataFile with a drive", _pointing("C:\\t2w.raw"), "own folder"),
    refuse("an ElementDataFile that is a link out of the folder", _linked_out, "own folder"),
    refuse("an ElementDataFile that is not there", _pointing("none.raw"), "no such file"),
    refuse("a list of data files", _pointing("LIST"), "one ElementDataFile"),
    refuse("a pattern of data files", _pointing("t2w%02d.raw 1 5 1"), "one ElementDataFile"),
    refuse("a FIFO for voxels", lambda f: _fifo(f), "no such file"),
    refuse("no ElementDataFile", lambda f: _headless(f), "ElementDataFile"),
    refuse("three channels", fields(ElementNumberOfChannels="3"), "3 channels"),
    refuse("no spacing", fields(ElementSpacing=None), "ElementSpacing"),
    refuse("a spacing of zero", fields(ElementSpacing="0.7 0 3"), "ElementSpacing"),
    refuse("a negative spacing", fields(ElementSpacing="0.7 -0.5 3"), "ElementSpacing"),
    refuse("a spacing of two numbers", fields(ElementSpacing="0.7 0.5"), "ElementSpacing"),
    refuse("a spacing that is no number", fields(ElementSpacing="0.7 x 3"), "ElementSpacing"),
    refuse("a spacing that is NaN", fields(ElementSpacing="0.7 nan 3"), "ElementSpacing"),
    refuse("no orientation", fields(TransformMatrix=None), "TransformMatrix"),
    refuse("a singular orientation", fields(TransformMatrix="1 0 0 1 0 0 0 0 1")),
    refuse("a sheared orientation", fields(TransformMatrix="1 0 0 0.3 1 0 0 0 1")),
    refuse("a short orientation", fields(TransformMatrix="1 0 0 0 1 0"), "TransformMatrix"),
    refuse("an orientation with NaN", fields(TransformMatrix="nan 0 0 0 1 0 0 0 1")),
    refuse("no origin", fields(Offset=None), "origin"),
    refuse("an origin with NaN", fields(Offset="nan 0 0"), "Offset"),
    refuse("a short origin", fields(Offset="1 2"), "Offset"),
    refuse("an unknown ElementType", fields(ElementType="MET_OTHER"), "ElementType"),
    refuse("voxels as text", fields(BinaryData="False"), "BinaryData"),
    refuse("two axes", fields(NDims="2", DimSize="16 60"), "axes"),
    refuse("NDims other than DimSize", fields(NDims="4"), "NDims"),
    refuse("a negative DimSize", fields(DimSize="16 -12 5"), "axis"),
    handle("a fourth axis of length 1", _four),
    handle("big endian", _big_endian),
    refuse(
        "a wrong CompressedDataSize",
        lambda f: meta(f, packed=True, CompressedDataSize="7"),
        "CompressedDataSize",
    ),
    handle("no CompressedDataSize", lambda f: meta(f, packed=True, CompressedDataSize=None)),
    refuse(
        "a field stated twice",
        lambda f: repack(meta(f), lambda d: b"DimSize = 16 12 4\n" + d),
        "twice",
    ),
    handle("an AnatomicalOrientation that says otherwise", fields(AnatomicalOrientation="RAI")),
    refuse(
        "voxels with NaN", lambda f: meta(f, data=floats(np.nan), ElementType="MET_FLOAT"), "2 NaN"
    ),
    refuse("all voxels equal", lambda f: meta(f, data=bytes(len(_BYTES))), "constant"),
    refuse("a NIfTI called .mha", lambda f: nifti(f).rename(f / "t2w.mha"), "MetaImage"),
    refuse("an empty file", written("t2w.mha", b""), "MetaImage"),
    refuse("a header without end", written("t2w.mha", b"Comment = 3\n" * 99999), "MetaImage"),
    refuse(
        "a hundred megabytes on the first line",
        lambda f: _sparse(f / "t2w.mha"),
        "MetaImage",
        cheap=True,
    ),
]
