"""NIfTI: files that end early, headers that lie."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.reliability import expect
from tests.reliability.expect import Make
from tests.reliability.truth import AFFINE, VOXELS
from tests.reliability.volume_files import nifti, nifti_claim, repack, zeros_gzip

FILES = "NIfTI files"
refuse = partial(expect.refuse, FILES)
handle = partial(expect.handle, FILES)
each = partial(expect.each, FILES)
NAMES = ("t2w.nii", "t2w.nii.gz")
#: Shares of a file that are kept; -8 takes eight bytes off.
SHARES = {"0": 0.0, "1%": 0.01, "25%": 0.25, "50%": 0.5, "99%": 0.99, "less 8 bytes": -8.0}


def kept(data: bytes, share: float) -> bytes:
    """The start of some bytes."""
    return data[: int(len(data) * share)] if share >= 0 else data[: int(share)]


def truncated(name: str, share: float) -> Make:
    """Makes a NIfTI that ends early."""
    return lambda folder: repack(nifti(folder, name), lambda data: kept(data, share))


def flipped(position: float) -> Make:
    """Makes a gzipped NIfTI with one bit turned over: a share of the way, or counted from the end."""

    def damage(data: bytes) -> bytes:
        at = int(len(data) * position) if position >= 0 else len(data) + int(position)
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

    return lambda folder: repack(nifti(folder, "t2w.nii.gz"), damage)


def changed(**options: Any) -> Make:
    """Makes a NIfTI with header fields or anything else of ``nifti`` changed."""
    return lambda folder: nifti(folder, **options)


def with_image(edit: Any, **options: Any) -> Make:
    """Makes a NIfTI after changing nibabel's image."""
    return lambda folder: nifti(folder, edit=edit, **options)


def claim(shape: tuple[int, ...], name: str) -> Make:
    """Makes a small file that claims a shape of int16."""

    def make(folder: Path) -> Path:
        data = nifti_claim(shape, 4, 16) + bytes(1000)
        path = folder / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return make


def bomb(shape: tuple[int, ...], size: int) -> Make:
    """Makes a gzipped file of ``size`` zeros after a header that claims a shape of one byte each."""

    def make(folder: Path) -> Path:
        path = folder / "bomb.nii.gz"
        path.write_bytes(gzip.compress(nifti_claim(shape, 2, 8)) + zeros_gzip(size))
        return path

    return make


def written(name: str, data: bytes) -> Make:
    """Makes a file of some bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _recompressed(change: Any) -> Make:
    """Makes a gzipped NIfTI whose gzip stream is built otherwise."""
    return lambda folder: repack(
        nifti(folder, "t2w.nii.gz"), lambda data: change(gzip.decompress(data))
    )


def _pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), folder / "t2w.img")
    return folder / "t2w.hdr"


def _extended(image: Any) -> None:
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"secret comment"))


def _big_endian() -> bytes:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">u2"))
    header.set_xyzt_units("mm")
    image = nib.Nifti1Image(VOXELS, AFFINE, header)
    data: bytes = image.to_bytes()
    assert data[:4] == b"\0\0\1\x5c"
    return data


CASES = [
    *[
        each(
            f"a {name[3:]} cut to 0, 1, 25, 50, 99% or by 8 bytes",
            "refused; the line tells the file",
            {title: truncated(name, share) for title, share in SHARES.items()},
            name,
        )
        for name in NAMES
    ],
    refuse("a wrong CRC in the gzip trailer", flipped(-8), "CRC"),
    refuse("a wrong length in the gzip trailer", flipped(-4), "damage"),
    each(
        "a bit turned over anywhere in a gzip stream",
        "refused; the line tells the file",
        {f"at {p:.0%}": flipped(p) for p in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
        "t2w.nii.gz",
    ),
    *[
        refuse(
            f"a {name[3:]} header that claims 30000 x 30000 x 30000",
            claim((30000, 30000, 30000), name),
            *("30000x30000x30000", "--max-voxels"),
            tells="the claim and --max-voxels",
            cheap=True,
        )
        for name in NAMES
    ],
    refuse(
        "a claim of 2000 x 1000 x 1000 in 2 kB",
        claim((2000, 1000, 1000), "t2w.nii.gz"),
        "bytes",
        cheap=True,
    ),
    refuse(
        "1 MB of gzip that inflates to the 1 GB it claims",
        bomb((1024, 1024, 1024), 1 << 30),
        "--max-voxels",
        cheap=True,
    ),
    refuse(
        "1 MB of gzip that inflates to 1 GB and claims a small volume",
        bomb((16, 12, 5), 1 << 30),
        "bytes of voxels",
        cheap=True,
    ),
    refuse("an empty file", written("t2w.nii", b""), "empty"),
    refuse("an empty gzip file", written("t2w.nii.gz", gzip.compress(b"")), "empty"),
    refuse("a text", written("t2w.nii", b"no such study\n" * 50), "NIfTI header"),
    refuse("a web page saved as .nii.gz", written("t2w.nii.gz", b"<html>" * 99), "NIfTI header"),
    refuse("gzip within gzip", _recompressed(lambda d: gzip.compress(gzip.compress(d)))),
    handle(
        "gzip in several members",
        _recompressed(lambda d: gzip.compress(d[:700]) + gzip.compress(d[700:])),
    ),
    handle("zeros after the gzip stream", _recompressed(lambda d: gzip.compress(d) + bytes(512))),
    refuse(
        "other bytes after the gzip stream",
        _recompressed(lambda d: gzip.compress(d) + b"rubbish" * 9),
        "gzip",
    ),
    handle("a gzipped file called .nii", lambda f: nifti(f, "x.nii.gz").rename(f / "x.nii")),
    handle("a plain file called .nii.gz", lambda f: nifti(f, "x.nii").rename(f / "x.nii.gz")),
    handle("the ending .NII.GZ", lambda f: nifti(f, "x.nii.gz").rename(f / "X.NII.GZ")),
    handle("NIfTI-2", changed(kind=nib.Nifti2Image)),
    handle(
        "big endian",
        lambda folder: repack(nifti(folder), lambda _: _big_endian()),
    ),
    handle("a header extension", with_image(_extended)),
    handle(
        "voxels that start later (vox_offset)",
        lambda f: repack(
            nifti(f, vox_offset=1024), lambda d: d[:352] + bytes(1024 - 352) + d[352:]
        ),
    ),
    *[
        refuse(f"vox_offset {offset}", changed(vox_offset=offset), "vox_offset")
        for offset in (100, -352, float("nan"), float("inf"), 1e30)
    ],
    refuse("vox_offset beyond the file", changed(vox_offset=99999), "truncated"),
    refuse("a .hdr of a pair", _pair, ".hdr"),
    refuse("the magic of a pair in a .nii", changed(magic=b"ni1"), "magic"),
    refuse("another magic", changed(magic=b"abc"), "magic"),
    refuse("a header of another size", changed(sizeof_hdr=999), "NIfTI header"),
]
