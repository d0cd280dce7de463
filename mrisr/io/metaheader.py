"""Text headers of MetaImage (``.mha``, ``.mhd``) and NRRD files, read without any library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

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
        path: of the file.
        fields: lower-case key to value, as written.
        offset: bytes from the start of the header's file to the end of the header.
    """

    path: Path
    fields: dict[str, str]
    offset: int

    def get(self, key: str, default: str = "") -> str:
        """The value of a field in any letters, or what counts where there is none."""
        return self.fields.get(key.lower(), default)

    def refused(self, expected: str, key: str = "", *, found: str | None = None) -> InputError:
        """The error that says what was found, by default in the field ``key``."""
        if found is None:
            found = shown(self.get(key)) if self.get(key) else f"no {key}"
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


def shown(text: str) -> str:
    """A header's text for a message: in quotes, printable, and cut if it is long."""
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def parse_meta(file: IO[bytes], path: Path) -> TextHeader:
    """Header of a ``.mha`` or ``.mhd``: everything up to its ElementDataFile line."""
    fields: dict[str, str] = {}
    while file.tell() < _LONGEST:
        line = file.readline(_LONGEST)
        key, sign, value = line.decode("latin-1").partition("=")
        if not line or not sign:
            break
        _add(fields, key, value, path)
        if key.strip().lower() == "elementdatafile":
            return TextHeader(path, fields, file.tell())
    raise InputError(path, expected="a MetaImage header up to ElementDataFile", found="none")


def parse_nrrd(file: IO[bytes], path: Path) -> TextHeader:
    """Header of a ``.nrrd``: everything up to its blank line."""
    fields: dict[str, str] = {}
    if not file.readline(_LONGEST).startswith(b"NRRD000"):
        raise InputError(path, expected="an NRRD file", found="no NRRD magic in line 1")
    while file.tell() < _LONGEST:
        line = file.readline(_LONGEST)
        text = line.decode("latin-1").strip()
        if line and not text:
            return TextHeader(path, fields, file.tell())
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
        with path.open("rb") as file:
            name = parse_meta(file, path).fields["elementdatafile"]
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
