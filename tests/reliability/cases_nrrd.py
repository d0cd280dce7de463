"""NRRD: headers that lie, point elsewhere or leave things out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tests.reliability import expect
from tests.reliability.cases_itk import NRRD, every, floats
from tests.reliability.cases_nifti import written
from tests.reliability.expect import Make
from tests.reliability.truth import VOXELS
from tests.reliability.volume_files import Fields, nrrd, repack, zeros_gzip

refuse = partial(expect.refuse, NRRD)
handle = partial(expect.handle, NRRD)


def text(**changes: str | None) -> Make:
    """Makes a ``.nrrd`` with header fields changed; ``_`` stands for a space."""
    return lambda folder: nrrd(folder, changes=_spaced(changes))


def _spaced(changes: Fields) -> Fields:
    return {key.replace("_", " "): value for key, value in changes.items()}


def bomb_nrrd(folder: Path) -> Path:
    """An NRRD that claims 1024^3 bytes, of which 1 MB is left."""
    changes: Fields = {"sizes": "1024 1024 1024", "type": "uint8", "encoding": "gzip"}
    return nrrd(folder, data=zeros_gzip(1 << 30), changes=changes)


def _big_endian_nrrd(folder: Path) -> Path:
    return nrrd(folder, data=VOXELS.byteswap().tobytes(order="F"), changes={"endian": "big"})


def _detached(name: str) -> Make:
    return text(data_file=name)


def _crlf(data: bytes) -> bytes:
    header, blank, body = data.partition(b"\n\n")
    return (header + blank).replace(b"\n", b"\r\n") + body


CASES = [
    *every(NRRD),
    refuse(
        "a header that claims 30000 x 30000 x 30000",
        text(sizes="30000 30000 30000"),
        *("30000x30000x30000", "--max-voxels"),
        tells="the claim and --max-voxels",
        cheap=True,
    ),
    refuse(
        "1 MB of gzip that inflates to the 1 GB it claims",
        bomb_nrrd,
        "--max-voxels",
        cheap=True,
    ),
    refuse("a detached data file", _detached("t2w.raw"), "detached"),
    refuse("a data file of /etc/passwd", _detached("/etc/passwd"), "detached"),
    refuse("a list of data files", _detached("LIST"), "detached"),
    refuse("a byte skip", text(byte_skip="16"), "skip"),
    refuse("a line skip", text(line_skip="1"), "skip"),
    refuse("no space", text(space=None), "orientation"),
    refuse("no space directions", text(space_directions=None), "space directions"),
    refuse(
        "spacings instead of space directions",
        text(space_directions=None, spacings="0.7 0.5 3"),
        "space directions",
    ),
    refuse("a space direction of zero", text(space_directions="(0.7,0,0) (0,0,0) (0,0,3)")),
    refuse("a space direction of none", text(space_directions="(0.7,0,0) none (0,0,3)")),
    refuse("sheared space directions", text(space_directions="(0.7,0,0) (0.2,0.5,0) (0,0,3)")),
    refuse("space directions with NaN", text(space_directions="(nan,0,0) (0,0.5,0) (0,0,3)")),
    refuse("no space origin", text(space_origin=None), "space origin"),
    refuse("a space origin with NaN", text(space_origin="(nan,0,0)")),
    refuse("space units of um", text(space_units='"um" "um" "um"'), "um"),
    handle("space units of mm", text(space_units='"mm" "mm" "mm"')),
    refuse("a type of blocks", text(type="block"), "type"),
    refuse("an encoding of hex", text(encoding="hex"), "encoding"),
    refuse("an encoding of bzip2", text(encoding="bzip2"), "encoding"),
    refuse("no endian", text(endian=None), "endian"),
    refuse("two axes", text(dimension="2", sizes="16 60"), "axes"),
    refuse("a dimension other than sizes", text(dimension="4")),
    refuse(
        "a field stated twice",
        lambda f: repack(nrrd(f), lambda d: d.replace(b"type:", b"sizes: 16 12 4\ntype:")),
        "twice",
    ),
    refuse("kinds that make vectors", text(kinds="vector domain domain")),
    handle("big endian", _big_endian_nrrd),
    handle(
        "comments and key-value pairs",
        lambda f: repack(
            nrrd(f), lambda d: d.replace(b"kinds:", b"# a comment\nname:=value\nkinds:")
        ),
    ),
    handle("lines that end in CR LF", lambda f: repack(nrrd(f), _crlf)),
    refuse(
        "voxels with NaN",
        lambda f: nrrd(f, data=floats(np.nan), changes={"type": "float"}),
        "2 NaN",
    ),
    refuse("all voxels equal", lambda f: nrrd(f, data=bytes(VOXELS.nbytes)), "constant"),
    refuse("a text", written("t2w.nrrd", b"no such study\n" * 50), "NRRD"),
    refuse("a header without end", written("t2w.nrrd", b"NRRD0004\ntype: short\n"), "NRRD header"),
    refuse("a detached header (.nhdr)", lambda f: nrrd(f).rename(f / "t2w.nhdr"), ".nhdr"),
]
