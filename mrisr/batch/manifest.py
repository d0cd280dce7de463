"""The manifest of a batch: a CSV with a row for each study, as ``pipelines/manifest.schema.json`` has it."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mrisr.batch.names import ROLES, STACKS
from mrisr.core.errors import OutputError
from mrisr.core.shipped import shipped
from mrisr.io.atomic import write_bytes
from mrisr.io.tables import ManifestError, Row, read_rows


@dataclass(frozen=True)
class StackSource:
    """Where a stack comes from: a path and, of a DICOM folder with several series, which of them."""

    path: Path
    series: str | None = None


@dataclass(frozen=True)
class Study:
    """A row of the manifest; the session may be empty, and ``sources`` go by their role."""

    subject: str
    session: str
    sources: dict[str, StackSource] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Its folder within the output, which also is its name: ``sub-X`` or ``sub-X/ses-Y``."""
        return f"sub-{self.subject}" + (f"/ses-{self.session}" if self.session else "")


@cache
def _schema() -> dict[str, Any]:
    """The JSON schema of a row: its ``properties`` are the columns, a ``pattern`` for the cells of each."""
    return dict(json.loads((shipped("pipelines") / "manifest.schema.json").read_bytes()))


def read_manifest(path: Path) -> list[Study]:
    """The studies of a manifest, in its order. Whether their files exist is not asked here.

    Raises:
        ManifestError: with a line for each fault.
    """
    rows = read_rows(path, _faults_of_header)
    faults: list[str] = []
    studies: list[Study] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        found, study = _row(row, path.absolute().parent)
        if study is not None:
            first = lines.setdefault(study.folder.casefold(), line)
            if first != line:
                found.append(f"{study.folder} stands in line {first} already")
            studies.append(study)
        faults += [f"line {line}: {fault}" for fault in found]
    if not rows:
        faults = ["no study"]
    if faults:
        raise ManifestError(path, faults)
    return studies


def write_manifest(path: Path, studies: Iterable[Study]) -> None:
    """Write a manifest; paths below its folder, or near it, are relative to it. Raises OutputError."""
    studies = list(studies)
    used = {role for s in studies for role, source in s.sources.items() if source.series}
    names = [name for name in _schema()["properties"] if not name.endswith("_series")]
    names += [f"{stack}_series" for stack in STACKS if stack in used]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for study in studies:
        row = {"subject": study.subject, "session": study.session}
        for role, source in study.sources.items():
            row[role] = os.path.relpath(source.path.absolute(), path.absolute().parent)
            if source.series:
                row[f"{role}_series"] = source.series
        writer.writerow(row)
    try:
        content = out.getvalue().encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{path}: not written, the path of a study is no UTF-8") from error
    write_bytes(path, content)


def _faults_of_header(names: Sequence[str]) -> list[str]:
    known = _schema()["properties"]
    missing = [name for name in _schema()["required"] if name not in names]
    unknown = [repr(n) for n in names if n not in known]
    twice = sorted({n for n in names if list(names).count(n) > 1})
    faults = []
    if missing:
        faults.append(f"no column {', '.join(missing)}")
    if unknown:
        faults.append(f"unknown column {', '.join(unknown)}; there are {', '.join(known)}")
    if twice:
        faults.append(f"column {', '.join(twice)} stands there twice")
    return faults


def _row(row: Row, base: Path) -> tuple[list[str], Study | None]:
    """Check a row: its faults, and the study where its name is usable."""
    if None in row or None in row.values():
        return ["expected as many cells as columns"], None
    faults = [
        f"{name}: expected {_expected(name)}, found {row.get(name, '')!r}"
        for name, column in _schema()["properties"].items()
        if not re.search(column["pattern"], row.get(name, ""))
    ]
    for stack in STACKS:
        if row.get(f"{stack}_series") and not row.get(stack):
            faults.append(f"{stack}_series: a series without {stack}")
    if any(fault.startswith(("subject", "session")) for fault in faults):
        return faults, None
    sources = {}
    for role in (r for r in ROLES if row.get(r)):
        try:
            path = base / Path(row[role]).expanduser()
        except RuntimeError:  # no such user, or one without a home
            faults.append(f"{role}: expected a path, found {row[role]!r}, whose ~ is no home here")
        else:
            sources[role] = StackSource(path, row.get(f"{role}_series") or None)
    return faults, Study(row["subject"], row.get("session", ""), sources)


def _expected(column: str) -> str:
    if column in ("subject", "session"):
        return "letters, digits, '.', '_' and '-', the first a letter or digit, at most 64"
    return "a path" if column in ROLES else "a series"
