"""Checks of MetaImage and NRRD headers, and of their voxel data, before SimpleITK reads them."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

from mrisr.errors import InputError
from mrisr.io import checks
from mrisr.io.metaheader import (
    META_BYTES,
    NRRD_BYTES,
    TextHeader,
    checked_data_file,
    data_file,
    parse_meta,
    parse_nrrd,
)

_CHUNK = 1 << 20
_DEFLATE_LIMIT = 1032
_SPACES = {
    *("left-posterior-superior", "lps", "right-anterior-superior", "ras"),
    *("left-anterior-superior", "las"),
}


def check_meta(path: Path, max_voxels: int) -> None:
    """Raise InputError unless a ``.mha``/``.mhd`` is one scalar volume with all of its voxels."""
    header = parse_meta(path)
    fields = header.fields
    name = fields["elementdatafile"]
    if name.upper() == "LOCAL":
        data, start = path, header.offset
    else:
        data, start = checked_data_file(path, name), 0
    shape = _shape(header, "dimsize", path, max_voxels)
    kind = fields.get("elementtype", "")
    if kind not in META_BYTES:
        raise InputError(path, expected="a scalar ElementType", found=repr(kind))
    channels = fields.get("elementnumberofchannels", "1")
    if channels != "1":
        found = f"{channels} channels (ElementNumberOfChannels)"
        raise InputError(path, expected="one real number in each voxel", found=found)
    if not _true(fields.get("binarydata", "True")):
        raise InputError(path, expected="binary voxels", found="BinaryData = False")
    _check_spacing(fields.get("elementspacing", ""), path)
    if not {"transformmatrix", "orientation", "rotation"} & fields.keys():
        raise InputError(path, expected="an orientation", found="no TransformMatrix")
    if not {"offset", "position", "origin"} & fields.keys():
        raise InputError(path, expected="an origin", found="no Offset")
    expected = math.prod(shape) * META_BYTES[kind]
    if _true(fields.get("compresseddata", "False")):
        _check_deflate(path, data, start, expected)
    else:
        skip = header.numbers("headersize", path)[0] if "headersize" in fields else 0
        _check_raw(path, data, start + max(skip, 0), expected)


def check_nrrd(path: Path, max_voxels: int) -> None:
    """Raise InputError unless a ``.nrrd`` is one scalar volume with all of its voxels inside."""
    header = parse_nrrd(path)
    fields = header.fields
    if "data file" in fields or "datafile" in fields:
        raise InputError(path, expected="voxels inside the file", found="a detached data file")
    if any(fields.get(key, "0") != "0" for key in ("byte skip", "line skip")):
        raise InputError(path, expected="voxels right after the header", found="a skip field")
    shape = _shape(header, "sizes", path, max_voxels)
    if fields.get("space", "").lower() not in _SPACES or "space directions" not in fields:
        found = f"space {fields.get('space', 'not set')!r}"
        if "space directions" not in fields:
            found += ", no space directions"
        raise InputError(path, expected="an orientation in LPS or RAS", found=found)
    units = {u for u in fields.get("space units", "").replace('"', " ").split() if u != "none"}
    if units - {"mm"}:
        found = ", ".join(sorted(units))
        raise InputError(path, expected="space units of mm", found=found)
    kind = fields.get("type", "").lower()
    if kind not in NRRD_BYTES:
        raise InputError(path, expected="a scalar type", found=repr(kind))
    expected = math.prod(shape) * NRRD_BYTES[kind]
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw":
        _check_raw(path, path, header.offset, expected)
    elif encoding in ("gzip", "gz"):
        _check_gzip(path, header.offset, expected)
    else:
        raise InputError(path, expected="encoding raw or gzip", found=repr(encoding))


def sha256(path: Path) -> str:
    """SHA-256 of the file and, for a ``.mhd``, of its voxel file after it."""
    digest = hashlib.sha256()
    voxels = data_file(path)
    for part in (path, *([voxels] if voxels is not None else [])):
        with part.open("rb") as handle:
            while block := handle.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()


def _shape(header: TextHeader, key: str, path: Path, max_voxels: int) -> tuple[int, ...]:
    shape = header.numbers(key, path)
    checks.check_size(shape, path, max_voxels)
    checks.check_axes(shape, path)
    if len(shape) < 3:
        raise InputError(path, expected="3 axes", found=f"{len(shape)} ({key})")
    return tuple(shape)


def _check_spacing(text: str, path: Path) -> None:
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(v) and v > 0 for v in values[:3]):
        found = repr(text) if text else "none"
        raise InputError(path, expected="an ElementSpacing above zero on each axis", found=found)


def _true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "t")


def _check_raw(path: Path, data: Path, start: int, expected: int) -> None:
    held = data.stat().st_size - start
    if held < expected:
        raise InputError(
            path, expected=f"{expected} bytes of voxels", found=f"{max(held, 0)} (truncated)"
        )


def _check_deflate(path: Path, data: Path, start: int, expected: int) -> None:
    """Inflate a zlib (or gzip) stream to its end, in pieces, for its length and checksum."""
    _check_ratio(path, data.stat().st_size - start, expected)
    inflate = zlib.decompressobj(wbits=47)

    def pieces(handle: IO[bytes]) -> Iterable[bytes]:
        pending = handle.read(_CHUNK)
        while pending and not inflate.eof:
            yield inflate.decompress(pending, _CHUNK)
            pending = inflate.unconsumed_tail or handle.read(_CHUNK)
        if not inflate.eof:
            raise EOFError("ends early")

    with data.open("rb") as handle:
        handle.seek(start)
        _check_stream(path, pieces(handle), expected)


def _check_gzip(path: Path, start: int, expected: int) -> None:
    _check_ratio(path, path.stat().st_size - start, expected)
    with path.open("rb") as handle:
        handle.seek(start)
        with gzip.GzipFile(fileobj=handle) as stream:
            source = cast(IO[bytes], stream)
            _check_stream(path, iter(lambda: source.read(_CHUNK), b""), expected)


def _check_ratio(path: Path, held: int, expected: int) -> None:
    if expected > held * _DEFLATE_LIMIT:
        found = f"{max(held, 0)} compressed bytes"
        raise InputError(path, expected=f"{expected} bytes of voxels", found=found)


def _check_stream(path: Path, pieces: Iterable[bytes], expected: int) -> None:
    total = 0
    try:
        for piece in pieces:
            total += len(piece)
            if total > expected:
                break
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(
            path, expected="whole compressed voxels", found=f"damage or truncation ({error})"
        ) from error
    if total != expected:
        found = "more" if total > expected else f"{total} (truncated)"
        raise InputError(path, expected=f"{expected} bytes of voxels", found=found)
