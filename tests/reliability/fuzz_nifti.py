"""NIfTI headers in which any field may hold any number."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

from tests.reliability.truth import AFFINE, VOXELS

_REALS = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-4, 1e-45, 1e30, 3e38, np.nan, np.inf, -np.inf]
_WHOLE = [0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 127, 128, 255, 256, 348, 352, 512, 540, 768]
#: What a reader looks at, more often drawn than the rest.
_TELLING = ["dim", "datatype", "bitpix", "vox_offset", "pixdim", "scl_slope", "scl_inter", "magic"]
_TELLING += ["quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z"]
_TELLING += ["qform_code", "sform_code", "xyzt_units", "sizeof_hdr"]


def _value(dtype: np.dtype) -> st.SearchStrategy[object]:
    if dtype.kind == "f":
        return st.sampled_from(_REALS) | st.floats(width=32)
    if dtype.kind == "S":
        return st.binary(max_size=dtype.itemsize) | st.sampled_from([b"n+1", b"n+2", b"ni1"])
    info = np.iinfo(dtype)
    fitting = [n for n in (*_WHOLE, info.max, info.min, info.max - 1) if info.min <= n <= info.max]
    return st.sampled_from(fitting) | st.integers(int(info.min), int(info.max))


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """A ``.nii`` with one to three fields drawn anew, in either byte order, and voxels of any length."""
    kind = draw(st.sampled_from([nib.Nifti1Header, nib.Nifti2Header]))
    header = kind(endianness=draw(st.sampled_from("<>")))
    header.set_data_shape(VOXELS.shape)
    header.set_data_dtype(np.uint16)
    header.set_sform(AFFINE, 1)
    header.set_qform(AFFINE, 1)
    header["vox_offset"] = header.sizeof_hdr + 4
    header["magic"] = header.single_magic
    block = header.structarr
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(_TELLING) | st.sampled_from(block.dtype.names))
        field = block.dtype[name]
        if field.subdtype is None:
            block[name] = draw(_value(field))
        else:
            place = draw(st.integers(0, field.shape[0] - 1))
            block[name][place] = draw(_value(field.base))
    voxels = VOXELS.tobytes()
    length = draw(st.sampled_from([len(voxels)] * 8 + [0, 1, len(voxels) - 1, 3000]))
    extension = draw(st.sampled_from([b"\0" * 4] * 4 + [b"\1" + b"\0" * 3, b"\1" * 40]))
    return header.binaryblock + extension + voxels[:length]


def packed() -> st.SearchStrategy[bytes]:
    """A ``.nii.gz`` of such a header."""
    return plain().map(lambda whole: gzip.compress(whole, 1, mtime=0))
