"""Hostile bytes: files cut short, bits turned over, and headers of any content, drawn by hypothesis."""

import gzip
import tempfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability import fuzz_dicom, volume_files
from tests.reliability.damage import FORMATS, Sample, Tally, cut, flip
from tests.reliability.expect import Cases
from tests.reliability.volume_files import AFFINE, VOXELS, late
from tests.reliability.worker import reader

_REALS = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-4, 1e-45, 1e30, 3e38, np.nan, np.inf, -np.inf]
_WHOLE = [0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 127, 128, 255, 256, 348, 352, 512, 540, 768]
#: Fields that a reader of NIfTI looks at, more often drawn than the rest.
_TELLING = """dim datatype bitpix vox_offset pixdim scl_slope scl_inter magic quatern_b quatern_c quatern_d
qoffset_x srow_x srow_y srow_z qform_code sform_code xyzt_units sizeof_hdr""".split()
_NUMBERS = """0 -1 1 3 5 12 16 1e400 -1e308 1e-320 nan inf 0x10 99999999999999999999 2147483648 65536 1_6 ٣
1.5 +2 --1 1e""".split()
_WORDS = """LOCAL LIST t2w.raw /etc/passwd ../t2w.raw t2w.mha t2w.mhd . C:\\t2w.raw //host/t2w.raw True False
T yes MET_UCHAR MET_DOUBLE MET_STRING MET_OTHER MET_LONG_LONG MET_FLOAT_ARRAY gzip gz bzip2 hex text raw uint8
block double big none RAS scanner-xyz (1,0,0) (( vector Ä§\x00""".split()
_WORDS += ["LIST 2", "t2w%02d.raw 1 5 1", "(1,0) (0,1)", "none none none", "9" * 5000]
#: Further fields by the sign between a field and its value.
_MORE = {
    " = ": """CompressedDataSize HeaderSize ElementNumberOfChannels ElementByteOrderMSB Position Orientation
    Origin DistanceUnits Comment ElementSize""".split(),
    ": ": ["space units", "byte skip", "line skip", "data file", "datafile", "spacings", "min"]
    + ["measurement frame", "block size", "content", "space dimension"],
}


# --- NIfTI ----------------------------------------------------------------------------------------


def _number(dtype: np.dtype) -> st.SearchStrategy[object]:
    if dtype.kind == "f":
        return st.sampled_from(_REALS) | st.floats(width=32)
    if dtype.kind == "S":
        return st.binary(max_size=dtype.itemsize) | st.sampled_from([b"n+1", b"n+2", b"ni1"])
    info = np.iinfo(dtype)
    fitting = [n for n in (*_WHOLE, info.max, info.min, info.max - 1) if info.min <= n <= info.max]
    return st.sampled_from(fitting) | st.integers(int(info.min), int(info.max))


@st.composite
def nifti(draw: st.DrawFn) -> bytes:
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
            block[name] = draw(_number(field))
        else:
            place = draw(st.integers(0, field.shape[0] - 1))
            block[name][place] = draw(_number(field.base))
    voxels = VOXELS.tobytes()
    length = draw(st.sampled_from([len(voxels)] * 8 + [0, 1, len(voxels) - 1, 3000]))
    extension = draw(st.sampled_from([b"\0" * 4] * 4 + [b"\1" + b"\0" * 3, b"\1" * 40]))
    return bytes(header.binaryblock) + extension + voxels[:length]


# --- text headers ---------------------------------------------------------------------------------


@cache
def _whole(sign: str) -> list[tuple[str, str]]:
    """The fields of a whole file. An NRRD's first line is a field without a value."""
    with tempfile.TemporaryDirectory() as folder:
        make = volume_files.meta if sign == " = " else volume_files.nrrd
        header = make(Path(folder)).read_bytes()[: -VOXELS.nbytes]
    return [(k, v) for k, _, v in (line.partition(sign) for line in header.decode().splitlines())]


def _value() -> st.SearchStrategy[str]:
    number = st.sampled_from(_NUMBERS) | st.floats().map(str) | st.integers().map(str)
    vectors = st.lists(st.lists(number, min_size=3, max_size=3), min_size=1, max_size=4)
    return st.one_of(
        st.lists(number, max_size=10).map(" ".join),
        st.sampled_from(_WORDS),
        vectors.map(lambda v: " ".join(f"({','.join(n)})" for n in v)),
        st.text(max_size=40),
    )


@st.composite
def text(draw: st.DrawFn, sign: str) -> bytes:
    """A file of which some fields are changed, left out, said twice, misspelt, added or moved."""
    fields = list(_whole(sign))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(fields) - 1))
        key, value = fields[place]
        how = draw(st.sampled_from(["change"] * 4 + ["drop", "repeat", "case", "add", "move"]))
        if how == "add":
            key = draw(st.sampled_from(_MORE[sign]))
        new = {
            "drop": [],
            "move": [],
            "change": [(key, draw(_value()))],
            "case": [(key.swapcase(), value)],
        }.get(how, [fields[place], (key, draw(_value()))])
        fields[place : place + 1] = new
        if how == "move" or not fields:
            fields.append((key, value))
    end = draw(st.sampled_from(["\n"] * 8 + ["\r\n", "\r", ""]))
    header = "".join((f"{k}{sign}{v}" if v else k) + end for k, v in fields)
    voxels = VOXELS.tobytes(order="F")
    if draw(st.integers(0, 4)) == 4:
        voxels = zlib.compress(voxels, 1)
    kept = len(voxels) - draw(st.sampled_from([0] * 8 + [1, 8, 1000]))
    return header.encode("utf-8", "surrogatepass") + voxels[:kept]


#: The files to draw, and the name under which each is read.
FUZZ = {
    "NIfTI headers": ("t2w.nii", nifti()),
    "NIfTI headers in gzip": (
        "t2w.nii.gz",
        nifti().map(partial(gzip.compress, compresslevel=1, mtime=0)),
    ),
    "MetaImage headers": ("t2w.mha", text(" = ")),
    "MetaImage headers beside voxels": ("t2w.mhd", text(" = ")),
    "NRRD headers": ("t2w.nrrd", text(": ")),
    "DICOM attributes": ("slice.dcm", fuzz_dicom.attributes()),
    "DICOM attributes of compressed pixels": ("slice.dcm", fuzz_dicom.attributes(packed=True)),
    "DICOM functional groups": ("enhanced.dcm", fuzz_dicom.functional_groups()),
}


@late
def fuzz(folder: Path, file: str, drawn: st.SearchStrategy[bytes], count: int) -> str:
    """Read ``count`` drawn files; the smallest that fails is in the AssertionError."""
    tally = Tally("files")
    (folder / "t2w.raw").write_bytes(bytes(range(256)) * 8)
    path = folder / file

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        tally(reader()(path), f"{len(content)} bytes")

    check()
    return str(tally)


CASES = Cases("Hostile bytes")
#: How many lengths, bits of each half and headers the gate tries; and headers where there is time.
LENGTHS, BITS, HEADERS, MANY_HEADERS = 16, 20, 25, 5000


@late
def _damaged(
    folder: Path,
    how: Callable[[Sample, int | None], str],
    sample: Callable[[Path], Sample],
    count: int | None,
) -> str:
    return how(sample(folder), count)


_WITH_CHECKSUM = (".nii.gz", ".mha, compressed", ".zraw of a .mhd", ".nrrd, gzip")
_ANY_LENGTH = "refused, at any length"
_BIT = "refused, or a volume of the same shape with a sound grid; nothing else, ever"
_CHECKED_BIT = "refused where a checksum covers it; nothing but a refusal or a volume, ever"


for name, sample in FORMATS.items():
    for how, count, title in (
        (cut, LENGTHS, "cut"),
        (flip, BITS, "a bit turned over"),
        (cut, None, "cut to every length"),
        (flip, None, "every bit turned over"),
    ):
        should = _CHECKED_BIT if name in _WITH_CHECKSUM else _BIT
        should = _ANY_LENGTH if how is cut else should
        CASES.add(f"{name}, {title}", should, _damaged(how, sample, count), slow=count is None)
should = "refused, or a volume with a sound grid"
for name, kind in FUZZ.items():
    CASES.add(f"{name}, some of them", should, fuzz(*kind, HEADERS))
    CASES.add(f"{name}, thousands of them", should, fuzz(*kind, MANY_HEADERS), slow=True)
