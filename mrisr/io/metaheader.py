"""Text headers of MetaImage (``.mha``, ``.mhd``) and NRRD files, read without any library.

SimpleITK follows whatever path a header names and fills up truncated voxels with zeros, so the
header is checked here before SimpleITK sees the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mrisr.errors import InputError

_LONGEST = 1 << 16

META_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}

_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort")
    + ("unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t")
    + ("float",),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int")
    + ("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int")
    + ("uint64", "uint64_t", "double"),
}
NRRD_BYTES = {name: size for size, names in _NRRD_BYTES.items() for name in names}


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
        text = self.fields.get(key, "")
        try:
            values = [int(word) for word in text.split()]
        except ValueError:
            values = []
        if not values:
            found = repr(text) if text else "no such field"
            raise InputError(source, expected=f"whole numbers in the field {key}", found=found)
        return values


def parse_meta(path: Path) -> TextHeader:
    """Header of a ``.mha`` or ``.mhd``: everything up to its ElementDataFile line."""
    fields: dict[str, str] = {}
    with path.open("rb") as handle:
        while handle.tell() < _LONGEST:
            line = handle.readline(_LONGEST)
            key, sign, value = line.decode("latin-1").partition("=")
            if not line or not sign:
                break
            fields[key.strip().lower()] = value.strip()
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
                fields[key.strip().lower()] = value.strip()
    raise InputError(path, expected="an NRRD header that ends in a blank line", found="none")


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
        raise InputError(path, expected="a name in ElementDataFile", found=ascii(name)[:80])
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    folder = path.parent.resolve()
    outside = absolute or ".." in parts or bool(PureWindowsPath(name).drive)
    if outside or not (folder / name).resolve().is_relative_to(folder):
        raise InputError(
            path, expected="ElementDataFile in the header's own folder", found=repr(name)
        )
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise InputError(path, expected="one ElementDataFile", found=f"a list of files ({name!r})")
    if not (folder / name).is_file():
        raise InputError(path, expected=f"its voxels in {name}", found="no such file")
    return folder / name
