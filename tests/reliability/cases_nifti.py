"""NIfTI: files that end early, headers that lie, where the voxels lie, and what their numbers are."""

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.reliability.expect import Cases
from tests.reliability.volume_files import (
    AFFINE,
    VOXELS,
    Make,
    cuts,
    damaged,
    flip,
    flips,
    late,
    nifti,
    nifti_claim,
    repack,
    written,
    zeros_gzip,
)

packed = partial(nifti, name="t2w.nii.gz")
NAN, INF = float("nan"), float("inf")

# --- files ----------------------------------------------------------------------------------------

CASES = Cases("NIfTI files")
refuse, handle, each = CASES.refuse, CASES.handle, CASES.each


def claim(shape: tuple[int, ...], name: str) -> Make:
    data = nifti_claim(shape, 4, 16) + bytes(1000)
    return written(name, gzip.compress(data) if name.endswith(".gz") else data)


@late
def bomb(folder: Path, shape: tuple[int, ...], size: int) -> Path:
    """Makes a gzipped file of ``size`` zeros after a header that claims a shape of one byte each."""
    data = gzip.compress(nifti_claim(shape, 2, 8)) + zeros_gzip(size)
    return written("bomb.nii.gz", data)(folder)


def recompressed(change: Any) -> Make:
    """Makes a gzipped NIfTI whose gzip stream is built otherwise."""
    return damaged(packed, lambda data: change(gzip.decompress(data)))


def named(name: str, make: Make) -> Make:
    return lambda folder: make(folder).rename(folder / name)


def _pair(folder: Path) -> Path:
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), folder / "t2w.img")
    return folder / "t2w.hdr"


def _extended(image: Any) -> None:
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"secret comment"))


def _big_endian(folder: Path) -> Path:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">u2"))
    header.set_xyzt_units("mm")
    data = nib.Nifti1Image(VOXELS, AFFINE, header).to_bytes()
    assert data[:4] == b"\0\0\1\x5c"
    return written("t2w.nii", data)(folder)


def _later(folder: Path) -> Path:
    path = nifti(folder, vox_offset=1024)
    return repack(path, lambda d: d[:352] + bytes(1024 - 352) + d[352:])


for name, make in (("t2w.nii", nifti), ("t2w.nii.gz", packed)):
    each(f"a {name[3:]} cut to 0, 1, 25, 50, 99% or by 8 bytes", cuts(make), name)
refuse("a wrong CRC in the gzip trailer", damaged(packed, flip(-8)), "CRC")
refuse("a wrong length in the gzip trailer", damaged(packed, flip(-4)), "damage")
each("a bit turned over anywhere in a gzip stream", flips(packed), "t2w.nii.gz")
for name in ("t2w.nii", "t2w.nii.gz"):
    title = f"a {name[3:]} header that claims 30000 x 30000 x 30000"
    refuse(title, claim((30000,) * 3, name), "30000x30000x30000", "--max-voxels", cheap=True)
small = claim((2000, 1000, 1000), "t2w.nii.gz")
refuse("a claim of 2000 x 1000 x 1000 in 2 kB", small, "bytes", cheap=True)
told, GB = "1 MB of gzip that inflates to", 1 << 30
refuse(f"{told} the 1 GB it claims", bomb((1024,) * 3, GB), "--max-voxels", cheap=True)
name = f"{told} 1 GB and claims a small volume"
refuse(name, bomb((16, 12, 5), GB), "bytes of voxels", cheap=True)
refuse("an empty file", written("t2w.nii", b""), "empty")
refuse("an empty gzip file", written("t2w.nii.gz", gzip.compress(b"")), "empty")
refuse("a text", written("t2w.nii", b"no such study\n" * 50), "NIfTI header")
refuse("a web page saved as .nii.gz", written("t2w.nii.gz", b"<html>" * 99), "NIfTI header")
refuse("gzip within gzip", recompressed(lambda d: gzip.compress(gzip.compress(d))))
members = recompressed(lambda d: gzip.compress(d[:700]) + gzip.compress(d[700:]))
handle("gzip in several members", members)
handle("zeros after the gzip stream", recompressed(lambda d: gzip.compress(d) + bytes(512)))
rubbish = recompressed(lambda d: gzip.compress(d) + b"rubbish" * 9)
refuse("other bytes after the gzip stream", rubbish, "gzip")
handle("a gzipped file called .nii", named("x.nii", packed))
handle("a plain file called .nii.gz", named("x.nii.gz", nifti))
handle("the ending .NII.GZ", named("X.NII.GZ", packed))
handle("NIfTI-2", partial(nifti, kind=nib.Nifti2Image))
handle("big endian", _big_endian)
handle("a header extension", partial(nifti, edit=_extended))
handle("voxels that start later (vox_offset)", _later)
for offset in (100, -352, NAN, INF, 1e30):
    refuse(f"vox_offset {offset}", partial(nifti, vox_offset=offset), "vox_offset")
refuse("vox_offset beyond the file", partial(nifti, vox_offset=99999), "truncated")
refuse("a .hdr of a pair", _pair, ".hdr")
refuse("the magic of a pair in a .nii", partial(nifti, magic=b"ni1"), "magic")
refuse("another magic", partial(nifti, magic=b"abc"), "magic")
refuse("a header of another size", partial(nifti, sizeof_hdr=999), "NIfTI header")

# --- grids and units ------------------------------------------------------------------------------

CASES.group = "NIfTI grids and units"

_MOVED = AFFINE + np.outer([0, 0, 20, 0], [0, 0, 0, 1])
_FLIPPED = AFFINE @ np.diag([-1.0, 1, 1, 1])
_apart = partial(nifti, edit=lambda image: image.set_qform(_MOVED, 1))
_only_sform = partial(nifti, qform_code=0)
_only_qform = partial(nifti, sform_code=0)


def scaled(name: str, factor: float) -> Make:
    return partial(nifti, affine=np.diag([factor, factor, factor, 1.0]) @ AFFINE, units=name)


def pixdim(*values: float) -> Make:
    return partial(nifti, sform_code=0, pixdim=[1, *values, 0, 0, 0, 0])


def sform(row: int, column: int, value: float) -> Make:
    numbers = AFFINE[row].copy()
    numbers[column] = value
    return partial(nifti, **{"qform_code": 0, f"srow_{'xyz'[row]}": numbers})  # type: ignore[arg-type]


refuse("sform and qform 20 mm apart", _apart, "sform", "qform", "20.00 mm apart", "--affine")
for form, affine in (("sform", AFFINE), ("qform", _MOVED)):
    how = {"options": ("--affine", form), "like": partial(nifti, affine=affine)}
    name = f"sform and qform 20 mm apart, --affine {form}"
    handle(name, _apart, f"{form} used", should=f"the {form}", **how)
handle("an sform only", _only_sform)
handle("a qform only", _only_qform)
refuse("an sform only, --affine qform", _only_sform, "qform", options=("--affine", "qform"))
refuse("neither sform nor qform", partial(nifti, sform_code=0, qform_code=0), "code 0")
refuse("a sheared sform", sform(0, 2, 0.5), "sheared")
refuse("a spacing of zero (sform)", sform(0, 0, 0.0), "spacing")
refuse("a spacing of zero (qform)", pixdim(0.7, 0, 3), "pixdim")
refuse("a negative spacing (pixdim)", pixdim(0.7, -0.5, 3), "pixdim")
refuse("NaN in pixdim", pixdim(NAN, 0.5, 3), "pixdim")
refuse("infinity in pixdim", pixdim(0.7, 0.5, INF))
refuse("NaN in the sform", sform(1, 1, NAN), "finite")
refuse("infinity in the sform", sform(2, 3, INF), "finite")
refuse("a quaternion that is none", partial(_only_qform, quatern_b=1, quatern_c=1), "qform")
refuse("NaN in the quaternion", partial(_only_qform, quatern_b=NAN))
handle("micron", scaled("micron", 1000), "converted from micron to mm")
handle("metre", scaled("meter", 0.001), "converted from metre to mm")
handle("unit not stated", scaled("unknown", 1))
refuse("a unit that does not exist", partial(nifti, xyzt_units=7), "xyzt_units")
handle("a left-handed grid", partial(nifti, affine=_FLIPPED), like=partial(nifti, affine=_FLIPPED))

# --- voxels ---------------------------------------------------------------------------------------

CASES.group = "NIfTI voxels"

_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_TYPES = ("uint16", "int16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def holding(voxels: Any, **header: Any) -> Make:
    return partial(nifti, voxels=voxels, **header)


def more_axes(*lengths: int) -> Make:
    """Makes a NIfTI that repeats the truth along more axes."""
    shape = VOXELS.shape + lengths
    voxels = np.broadcast_to(VOXELS.reshape(*VOXELS.shape, *[1] * len(lengths)), shape)
    return holding(np.ascontiguousarray(voxels))


def _holes(value: float) -> Make:
    voxels = VOXELS.astype(np.float32)
    voxels[2:4, 5, 1] = value
    return holding(voxels)


def _dim(*values: int) -> Make:
    return partial(nifti, dim=[*values, 1, 1, 1, 1])


refuse("NaN voxels", _holes(NAN), "2 NaN or infinite of 960")
refuse("infinite voxels", _holes(-INF), "2 NaN or infinite of 960")
refuse("all voxels equal", holding(np.full_like(VOXELS, 7)), "constant", "960")
handle("a fourth axis of length 1", more_axes(1))
handle("seven axes, the last four of length 1", more_axes(1, 1, 1, 1))
refuse("a fourth axis of length 2", more_axes(2), "axis 4")
refuse("a fifth axis of length 3 (vectors)", more_axes(1, 3), "axis 5")
refuse("colour (RGB)", holding(np.zeros(VOXELS.shape, _RGB)), "RGB")
refuse("complex numbers", holding(VOXELS.astype(np.complex64)), "complex")
refuse("floats of 128 bits", partial(nifti, datatype=1536, bitpix=128))
refuse("one bit a voxel", partial(nifti, datatype=1, bitpix=1), "datatype")
refuse("a datatype that does not exist", partial(nifti, datatype=999), "999")
for n in (0, -1, 8):
    refuse(f"dim[0] of {n}", _dim(n, 16, 12, 5), "dim[0]")
refuse("a negative length of an axis", _dim(3, 16, -12, 5), "axis")
refuse("an axis of length 0", _dim(3, 16, 0, 5), "axis")
for name in _TYPES:
    for make in [holding(VOXELS.astype(name))]:
        handle(f"voxels of {name}", make, like=make, should="exact, the type is kept")
handle("scl_slope NaN (not set)", partial(nifti, scl_slope=NAN, scl_inter=5))
handle("scl_slope 0 (not set)", partial(nifti, scl_slope=0, scl_inter=5))
refuse("scl_slope infinite", partial(nifti, scl_slope=INF), "scl_slope")
refuse("scl_inter infinite", partial(nifti, scl_slope=1, scl_inter=-INF), "scl_inter")
overflow = holding(VOXELS.astype("f8") * 1e300, scl_slope=1e38)
refuse("scl_slope so large that voxels overflow", overflow)
for name, voxels in [
    ("values beyond single precision", VOXELS.astype("f8") * 1e300),
    ("values below single precision", VOXELS.astype("f8") * 1e-300),
    ("a contrast that single precision loses", VOXELS.astype("i8") + (1 << 60)),
]:
    refuse(name, holding(voxels), "single precision")
handle("an intent code on a plain volume", partial(nifti, intent_code=1002))
handle("up to 1 MB after the voxels", damaged(nifti, lambda d: d + bytes(1000)))
handle("a wrong bitpix", partial(nifti, bitpix=8), should="the datatype counts")
