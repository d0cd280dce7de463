"""Text headers of MetaImage (``.mha``, ``.mhd``) and NRRD files, read without any library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mrisr.core.errors import InputError

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


@dataclass(frozen=True)
class TextHeader:
    """Fields of a text header, and where the voxels are.

    Attributes:
        fields: lower-case key to value, as written.
        offset: bytes from the start of the header's file to the end of the header.
    """

    fields: dict[str, str]
    offset: int

    def numbers(self, key: str, source: Path) -> list[int]:
        """Whole numbers of a field. Raises InputError where it is missing or not numeric."""
        text = self.fields.get(key.lower(), "")
        try:
            values = [int(word) for word in text.split()]
        except ValueError:
            values = []
        if not values:
            found = shown(text) if text else "no such field"
            raise InputError(source, expected=f"whole numbers in the field {key}", found=found)
        return values

    def vectors(self, key: str, counts: tuple[int, ...], source: Path) -> list[float]:
        """Finite numbers of a field, as many as one of ``counts``; brackets and commas are skipped.

        Raises InputError.
        """
        text = self.fields.get(key.lower(), "")
        try:
            values = [float(word) for word in text.translate(_BRACKETS).split()]
        except ValueError:
            values = []
        if len(values) not in counts or not all(math.isfinite(v) for v in values):
            found = shown(text) if text else "no such field"
            wanted = " or ".join(map(str, counts))
            raise InputError(source, expected=f"{wanted} numbers in the field {key}", found=found)
        return values


def shown(text: str) -> str:
    """What a header says, for a message: in quotes, printable, and not all of it if it is long."""
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def parse_meta(path: Path) -> TextHeader:
    """Header of a ``.mha`` or ``.mhd``: everything up to its ElementDataFile line."""
    fields: dict[str, str] = {}
    with path.open("rb") as handle:
        while handle.tell() < _LONGEST:
            line = handle.readline(_LONGEST)
            key, sign, value = line.decode("latin-1").partition("=")
            if not line or not sign:
                break
            _add(fields, key, value, path)
            if key.strip().lower() == "elementdatafile":
                return TextHeader(fields, handle.tell())
    raise InputError(path, expected="a MetaImage header up to ElementDataFile", found="none")


def parse_nrrd(path: Path) -> TextHeader:
    """Header of a ``.nrrd``: everything up to its blank line."""
    fields: dict[str, str] = {}
    with path.open("rb") as handle:
        if not handle.readline(_LONGEST).startswith(b"NRRD000"):
            raise InputError(path, expected="an NRRD file", found="no NRRD magic in line 1")
        while handle.tell() < _LONGEST:
            line = handle.readline(_LONGEST)
            text = line.decode("latin-1").strip()
            if line and not text:
                return TextHeader(fields, handle.tell())
            if not line:
                break
            key, sign, value = text.partition(": ")
            if sign and not text.startswith("#"):
                _add(fields, key, value, path)
    raise InputError(path, expected="an NRRD header that ends in a blank line", found="none")


def _add(fields: dict[str, str], key: str, value: str, path: Path) -> None:
    """Keep a field; of one that is stated twice nobody knows which a library believes."""
    key = key.strip().lower()
    if key in fields and key != "comment":
        raise InputError(path, expected="each header field once", found=f"{shown(key)} twice")
    fields[key] = value.strip()


def data_file(path: Path) -> Path | None:
    """The voxel file that a ``.mhd`` names, if the header can be read and names a single one."""
    try:
        name = parse_meta(path).fields["elementdatafile"]
    except (InputError, OSError):
        return None
    if name.upper() == "LOCAL" or not name or not name.isprintable():
        return None
    return path.parent / name


def checked_data_file(path: Path, name: str) -> Path:
    """The voxel file ``name`` of the header ``path``, which must lie in the header's folder.

    Raises:
        InputError: an absolute name, one with ``..``, a link that leads out of the folder, a list
            or pattern of files, or no such file.
    """
    if not name or not name.isprintable():
        raise InputError(path, expected="a name in ElementDataFile", found=shown(name))
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    folder = path.parent.resolve()
    outside = absolute or ".." in parts or bool(PureWindowsPath(name).drive)
    if outside or not (folder / name).resolve().is_relative_to(folder):
        raise InputError(
            path, expected="ElementDataFile in the header's own folder", found=shown(name)
        )
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise InputError(
            path, expected="one ElementDataFile", found=f"a list of files ({shown(name)})"
        )
    if not (folder / name).is_file():
        raise InputError(path, expected=f"its voxels in {name}", found="no such file")
    return folder / name
