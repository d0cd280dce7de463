"""Text headers of MetaImage (``.mha``, ``.mhd``) and NRRD files: the grid, and where the voxels lie.

SimpleITK does not read them here: it follows a header out of its folder, takes 1 mm for a spacing in other
letters, the identity for a missing direction, and returns memory that it never filled where a size is wrong.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError
from mrisr.io import checks

_LONGEST = 1 << 16
_SHOWN = 60
_BRACKETS = str.maketrans("(),", "   ")

#: Stored types, without their byte order.
META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}

_NRRD_NAMES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("unsigned char", "uchar", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("unsigned int", "uint", "uint32", "uint32_t"),
    "i8": ("long long int", "longlong", "long long", "signed long long", "signed long long int")
    + ("int64", "int64_t"),
    "u8": ("unsigned long long int", "ulonglong", "unsigned long long", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
NRRD_TYPES = {name: code for code, names in _NRRD_NAMES.items() for name in names}

#: How much longer or shorter than 1 the direction vectors of a MetaImage may be.
_LENGTH_TOLERANCE = 1e-3
#: Signs that turn a space of NRRD into RAS.
_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
}


@dataclass(frozen=True)
class _Header:
    """Fields of a text header."""

    path: Path
    fields: dict[str, str]  #: lower-case key to value, as written
    offset: int  #: bytes to the end of the header

    def get(self, key: str, default: str = "") -> str:
        """The value of a field, its key in any letters."""
        return self.fields.get(key.lower(), default)

    def refused(self, expected: str, key: str = "", *, found: str | None = None) -> InputError:
        """The error that says what was found, by default in the field ``key``."""
        if found is None:
            found = _shown(self.get(key)) if self.get(key) else f"no {key}"
        return InputError(self.path, expected=expected, found=found)

    def numbers(self, key: str) -> list[int]:
        """Whole numbers of a field. Raises InputError where it is missing or not numeric."""
        try:
            return [int(word) for word in self.fields[key.lower()].split()]
        except (KeyError, ValueError):
            raise self.refused(f"whole numbers in the field {key}", key) from None

    def vectors(self, key: str, count: int) -> NDArray[np.float64]:
        """``count`` finite numbers of a field; brackets and commas are skipped. Raises InputError."""
        try:
            values = np.array([float(w) for w in self.get(key).translate(_BRACKETS).split()])
        except ValueError:
            values = np.empty(0)
        if len(values) != count or not np.isfinite(values).all():
            raise self.refused(f"{count} numbers in the field {key}", key)
        return values

    def flag(self, key: str, *, default: bool) -> bool:
        """A field that is true or false. Raises InputError."""
        text = self.get(key, str(default)).lower()
        if text not in ("true", "t", "1", "false", "f", "0"):
            raise self.refused(f"{key} true or false", key)
        return text in ("true", "t", "1")

    def one_of(self, *keys: str) -> str | None:
        """The name that the header uses of several for one field. Raises InputError where they differ."""
        used = [key for key in keys if key.lower() in self.fields]
        if len({self.get(key) for key in used}) > 1:
            raise self.refused(f"one {keys[0]}", found=" and ".join(used))
        return used[0] if used else None

    def expect(self, key: str, value: str) -> None:
        """Refuse a field that says something else than ``value``, in any letters. Raises InputError."""
        if self.get(key, value).lower() != value.lower():
            raise self.refused(f"{key} {value}", key)


def _shown(text: str) -> str:
    """A header's text for a message: in quotes, printable, and cut if it is long."""
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _parse_meta(file: IO[bytes], path: Path) -> _Header:
    fields: dict[str, str] = {}
    while file.tell() < _LONGEST:
        line = file.readline(_LONGEST)
        key, sign, value = line.decode("latin-1").partition("=")
        if not line or not sign:
            break
        _add(fields, key, value, path)
        if key.strip().lower() == "elementdatafile":
            return _Header(path, fields, file.tell())
    raise InputError(path, expected="a MetaImage header up to ElementDataFile", found="none")


def _parse_nrrd(file: IO[bytes], path: Path) -> _Header:
    fields: dict[str, str] = {}
    if not file.readline(_LONGEST).startswith(b"NRRD000"):
        raise InputError(path, expected="an NRRD file", found="no NRRD magic in line 1")
    while file.tell() < _LONGEST:
        line = file.readline(_LONGEST)
        text = line.decode("latin-1").strip()
        if line and not text:
            return _Header(path, fields, file.tell())
        if not line:
            break
        key, sign, value = text.partition(": ")
        if sign and not text.startswith("#"):
            _add(fields, key, value, path)
    raise InputError(path, expected="an NRRD header that ends in a blank line", found="none")


def segments(path: Path) -> dict[int, tuple[str, str]]:
    """Name and tags of the labels in a ``.seg.nrrd`` of Slicer, none in another file."""
    with path.open("rb") as file:
        text = file.read(_LONGEST).partition(b"\n\n")[0].decode("utf-8", "replace")
    fields = r"^(Segment\d+_(?:Name|LabelValue|Tags)):=(.*?)\r?$"
    told = dict(re.findall(fields, text, re.MULTILINE))
    values = {k.removesuffix("LabelValue"): v for k, v in told.items() if k.endswith("LabelValue")}
    return {
        int(v): (told.get(f"{k}Name", ""), told.get(f"{k}Tags", ""))
        for k, v in values.items()
        if v.strip().isdecimal()
    }


def _add(fields: dict[str, str], key: str, value: str, path: Path) -> None:
    """Keep a field; of one that is stated twice nobody knows which a library believes."""
    key = key.strip().lower()
    if key in fields and key != "comment":
        raise InputError(path, expected="each header field once", found=f"{_shown(key)} twice")
    fields[key] = value.strip()


def data_file(path: Path) -> Path | None:
    """The voxel file that a ``.mhd`` names, if the header can be read and names a single one."""
    try:
        with path.open("rb") as file:
            name = _parse_meta(file, path).fields["elementdatafile"]
    except (InputError, OSError):
        return None
    if name.upper() == "LOCAL" or not name or not name.isprintable():
        return None
    return path.parent / name


def _checked_data_file(path: Path, name: str) -> Path:
    """The voxel file ``name`` of the header ``path``: one, in the header's own folder, links followed."""
    if not name or not name.isprintable():
        raise InputError(path, expected="a name in ElementDataFile", found=_shown(name))
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    folder = path.parent.resolve()
    outside = absolute or ".." in parts or bool(PureWindowsPath(name).drive)
    if outside or not (folder / name).resolve().is_relative_to(folder):
        expected = "ElementDataFile in the header's own folder"
        raise InputError(path, expected=expected, found=_shown(name))
    if name.split()[0].upper() == "LIST" or "%" in name:
        found = f"a list of files ({_shown(name)})"
        raise InputError(path, expected="one ElementDataFile", found=found)
    if not (folder / name).is_file():
        raise InputError(path, expected=f"its voxels in {name}", found="no such file")
    return folder / name


@dataclass(frozen=True)
class Layout:
    """Layout of the voxels of a file, on disk and in space."""

    shape: tuple[int, int, int]  #: along the array axes; the first runs fastest
    dtype: np.dtype  #: of the stored numbers, with their byte order
    affine: geometry.Affine  #: ``(4, 4)``, voxel indices to mm RAS
    data: Path  #: the file that holds them
    start: int  #: where in it they begin
    held: int | None  #: bytes that they take there if they are packed and the header says so
    packed: bool  #: by zlib or gzip


def meta_layout(file: IO[bytes], path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.mha`` or ``.mhd``. Raises InputError unless it is one scalar volume."""
    header = _parse_meta(file, path)
    shape, axes = _shape(header, "NDims", "DimSize", max_voxels)
    dtype = _meta_dtype(header)
    packed = header.flag("CompressedData", default=False)
    data, start = _meta_data(header, 0 if packed else math.prod(shape) * dtype.itemsize)
    sized = packed and "compresseddatasize" in header.fields
    held = header.numbers("CompressedDataSize")[0] if sized else None
    return Layout(shape, dtype, _meta_affine(header, axes), data, start, held, packed)


def nrrd_layout(file: IO[bytes], path: Path, max_voxels: int) -> Layout:
    """Layout of a ``.nrrd``. Raises InputError unless it is one scalar volume with its voxels inside."""
    header = _parse_nrrd(file, path)
    if header.get("data file") or header.get("datafile"):
        raise header.refused("voxels inside the file", found="a detached data file")
    if any(header.get(k, "0") != "0" for k in ("byte skip", "line skip", "byteskip", "lineskip")):
        raise header.refused("voxels right after the header", found="a skip field")
    shape, _ = _shape(header, "dimension", "sizes", max_voxels)
    dtype = _nrrd_dtype(header)
    if header.get("encoding").lower() not in ("raw", "gzip", "gz"):
        raise header.refused("encoding raw or gzip", "encoding")
    packed = header.get("encoding").lower() != "raw"
    return Layout(shape, dtype, _nrrd_affine(header), path, header.offset, None, packed)


def _shape(
    header: _Header, count: str, sizes: str, max_voxels: int
) -> tuple[tuple[int, int, int], int]:
    """The 3-D shape, and how many axes the header gives sizes for."""
    shape = header.numbers(sizes)
    if header.numbers(count) != [len(shape)]:
        raise header.refused(f"{count} {len(shape)} as {sizes} has", count)
    checks.check_size(shape, header.path, max_voxels)
    three = checks.check_axes(shape, header.path)
    if len(shape) < 3:
        raise header.refused("3 axes", found=f"{len(shape)} ({sizes})")
    return three, len(shape)


def _meta_dtype(header: _Header) -> np.dtype:
    header.expect("ObjectType", "Image")
    channels = header.get("ElementNumberOfChannels", "1")
    if channels != "1":
        found = f"{channels[:20]} channels (ElementNumberOfChannels)"
        raise header.refused("one real number in each voxel", found=found)
    header.expect("DistanceUnits", "mm")
    header.expect("ElementToIntensityFunctionSlope", "1")
    header.expect("ElementToIntensityFunctionOffset", "0")
    kind = header.get("ElementType")
    if kind not in META_TYPES:
        raise header.refused("a scalar ElementType", "ElementType")
    if not header.flag("BinaryData", default=True):
        raise header.refused("binary voxels", found="BinaryData = False")
    order = header.one_of("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    big = order is not None and header.flag(order, default=False)
    return np.dtype(META_TYPES[kind]).newbyteorder(">" if big else "<")


def _nrrd_dtype(header: _Header) -> np.dtype:
    kinds = header.get("kinds").lower().split()
    if set(kinds[:3]) - {"domain", "space", "none", "???"}:
        raise header.refused("kinds of domain or space", "kinds")
    kind = header.get("type").lower()
    if kind not in NRRD_TYPES:
        raise header.refused("a scalar type", "type")
    dtype = np.dtype(NRRD_TYPES[kind])
    endian = header.get("endian", "little" if dtype.itemsize == 1 else "").lower()
    if endian not in ("little", "big"):
        raise header.refused("endian little or big", "endian")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _meta_data(header: _Header, size: int) -> tuple[Path, int]:
    """The file of the voxels and where in it they begin."""
    name = header.get("ElementDataFile")
    inside = name.upper() == "LOCAL"
    data = header.path if inside else _checked_data_file(header.path, name)
    skip = header.numbers("HeaderSize")[0] if "headersize" in header.fields else 0
    if skip == -1 and size:  # they are the last of the file
        return data, max(data.stat().st_size - size, 0)
    if skip < 0 or (inside and skip not in (0, header.offset)):
        raise header.refused("HeaderSize 0", "HeaderSize")
    return data, header.offset if inside else skip


def _meta_affine(header: _Header, axes: int) -> geometry.Affine:
    spacing = header.vectors("ElementSpacing", axes)[:3]
    if not (spacing > 0).all():
        raise header.refused("an ElementSpacing above zero", "ElementSpacing")
    turned = header.one_of("TransformMatrix", "Orientation", "Rotation")
    placed = header.one_of("Offset", "Position", "Origin")
    if turned is None:
        raise header.refused("an orientation (TransformMatrix)", found="none")
    if placed is None:
        raise header.refused("an origin (Offset)", found="none")
    vectors = header.vectors(turned, axes * axes).reshape(axes, axes)[:3, :3]
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.abs(lengths - 1).max() <= _LENGTH_TOLERANCE:
        found = f"lengths of {', '.join(f'{n:g}' for n in lengths)}"
        raise header.refused(f"{turned} of unit vectors", found=found)
    return _ras(vectors.T * spacing, header.vectors(placed, axes)[:3], (-1, -1, 1))


def _nrrd_affine(header: _Header) -> geometry.Affine:
    signs = _SPACES.get(header.get("space").lower())
    directions = header.get("space directions")
    if signs is None or not directions:
        found = f"space {_shown(header.get('space', 'not set'))}"
        found += "" if directions else ", no space directions"
        raise header.refused("an orientation in LPS or RAS", found=found)
    if set(header.get("space units").replace('"', " ").split()) - {"none", "mm"}:
        raise header.refused("space units of mm", "space units")
    # A fourth axis, of length 1, has no direction: "none".
    header.fields["space directions"] = directions.removesuffix("none")
    columns = header.vectors("space directions", 9).reshape(3, 3).T
    return _ras(columns, header.vectors("space origin", 3), signs)


def _ras(
    columns: NDArray[np.float64], origin: NDArray[np.float64], signs: tuple[int, int, int]
) -> geometry.Affine:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    return np.diag([*signs, 1.0]) @ affine
