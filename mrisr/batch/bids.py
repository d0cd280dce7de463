"""A BIDS data set as the studies of a batch, and its results as a BIDS derivative data set.

The batch works in ``batch/`` of the derivative, which ``.bidsignore`` names; volumes and zones stand as hard
links under their BIDS names, each with a sidecar. Source: Brain Imaging Data Structure 1.10, "Derivatives".
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mrisr
from mrisr.batch.discover import Report, find_studies, made_by_mrisr
from mrisr.batch.manifest import Study
from mrisr.batch.names import SOURCE, VOLUME, read_json
from mrisr.batch.plan import Plan, StudyPlan
from mrisr.batch.settings import BatchSettings
from mrisr.batch.status import Outcome, Part
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.labels import ZONES
from mrisr.io.atomic import atomic_path, make_folder, write_bytes, write_json
from mrisr.io.files import remove
from mrisr.io.paths import stem

DESCRIPTION = "dataset_description.json"
VERSION = "1.10.0"
#: The table of the labels, which lies beside each image of them.
_TABLE = "index\tname\n0\tbackground\n" + "".join(f"{n}\t{zone}\n" for zone, n in ZONES.items())
#: What a derivative says as its source does.
_CARRIED = ("License", "Authors", "Funding", "EthicsApprovals", "ReferencesAndLinks", "DatasetDOI")
_README = """# Super-resolved prostate MRI

Made by mrisr {version} of the T2-weighted images of the source data set. `desc-sr_T2w` are super-resolved
volumes, of which `res-` names the kind; `desc-zones_dseg` are the peripheral and the transition zone. Each
lies over its source at the same world coordinates, and its sidecar holds the record of the run.
`batch/report.html` shows all of them.

For research use only. Not for diagnosis.
"""


@dataclass(frozen=True)
class Dataset:
    """A BIDS data set, and the derivative that is made of it.

    Attributes:
        root: of the source.
        output: of the derivative; None for ``derivatives/mrisr`` in the source.
        subjects: labels of those to look at, with or without ``sub-``; empty for all.
    """

    root: Path
    output: Path | None = None
    subjects: tuple[str, ...] = ()

    @property
    def target(self) -> Path:
        """The folder of the derivative."""
        return self.output or self.root / "derivatives" / "mrisr"

    @property
    def batch(self) -> Path:
        """The folder of the batch."""
        return self.target / "batch"

    def studies(self, settings: BatchSettings, report: Report = lambda line: None) -> list[Study]:
        """Every axial T2w image with the other planes of its session.

        Raises:
            InputError: the folder is no BIDS data set, or there is no such subject or no image.
            OutputError: the derivative's folder holds another data set.
            UsageError: two volumes would have one name.
        """
        labels = [_label(name) for name in settings.upsampled]
        if len(set(labels)) < len(labels):
            raise UsageError("upsampled: names differ in more than what a BIDS label leaves out")
        if not any(self.root.glob("sub-*")):
            raise InputError(self.root, expected="a BIDS data set (sub-*)", found="none")
        if (self.target / DESCRIPTION).exists() and not made_by_mrisr(self.target):
            raise OutputError(
                f"{self.target}: holds a data set that is not by mrisr; choose another"
            )
        only = {f"sub-{label.removeprefix('sub-')}" for label in self.subjects}
        for name in sorted(only):
            if not (self.root / name).is_dir():
                raise InputError(self.root, expected=f"a subject {name}", found="none")
        return find_studies(self.root.absolute(), report, every_stack=True, only=only)

    def write(self, plan: Plan, outcome: Outcome, batch: Path) -> None:
        """Write the derivative of a batch that ended; what failed has no file in it. Raises OutputError."""
        target = make_folder(self.target)
        write_json(target / DESCRIPTION, self._description)
        write_bytes(target / "README.md", _README.format(version=mrisr.__version__).encode())
        write_bytes(target / ".bidsignore", b"/batch\n")
        for study in plan.studies:
            for part in outcome[study.folder].parts:
                if part.stage in ("upsample", "segment"):
                    self._place(plan.settings, study, part, batch / study.folder)

    @cached_property
    def _description(self) -> dict[str, Any]:
        """The derivative's own description."""
        source = read_json(self.root / DESCRIPTION)
        link = os.path.relpath(self.root.resolve(), self.target.resolve())
        return {
            "Name": f"{source.get('Name') or 'T2-weighted prostate MRI'}, super-resolved",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "mrisr",
                    "Version": mrisr.__version__,
                    "Description": "Super-resolution of prostate MRI by partial diffusion",
                }
            ],
            "DatasetLinks": {"raw": link},
            **{key: source[key] for key in _CARRIED if key in source},
        }

    def _place(self, settings: BatchSettings, study: StudyPlan, part: Part, folder: Path) -> None:
        """Put one result under its BIDS name, or take away what an earlier batch has put there."""
        role = settings.source_of(part.name)
        raw = study.sources[role].path.relative_to(self.root.absolute())
        zones = part.stage == "segment"
        sr, labels = (
            raw.with_name(f"{_entities(raw, part.name)}_desc-{end}{VOLUME}")
            for end in ("sr_T2w", "zones_dseg")
        )
        path = self.target / (labels if zones else sr)
        sidecar, table = (path.with_name(f"{stem(path)}.{end}") for end in ("json", "tsv"))
        if part.state != "done":
            for file in (path, sidecar, table):
                remove(file)
            return
        made = folder / part.outputs[0]
        record = read_json(folder / part.outputs[1])
        shown = f"bids:raw:{raw.as_posix()}"
        source = shown if part.name == SOURCE or not zones else f"bids::{sr.as_posix()}"
        make_folder(path.parent)
        with atomic_path(path) as waiting:
            waiting.unlink()
            _link(made, waiting)
        write_json(sidecar, dict(_sidecar(part, record, source, shown)))
        if zones:
            write_bytes(table, _TABLE.encode())


def _sidecar(
    part: Part, record: Mapping[str, Any], source: str, grid: str
) -> Iterator[tuple[str, Any]]:
    """Sidecar of a result: what it was made of, in whose space, at which resolution; and its record."""
    model = record.get("model", {}).get("name", "")
    what = "Zones of the prostate" if part.stage == "segment" else "Super-resolved"
    yield "Description", f"{what} by mrisr, model {model}. For research use only."
    yield "Sources", [source]
    yield "SpatialReference", grid
    if part.name != SOURCE:
        spacing = " x ".join(f"{v:.4g}" for v in record.get("output", {}).get("spacing_mm", ()))
        yield "Resolution", f"{part.name}: {spacing} mm"
    if part.stage == "segment":
        yield "Manual", False
    else:
        yield "SkullStripped", False
    yield "Record", record


def _entities(raw: Path, volume: str) -> str:
    """The entities of a result: those of its source and, unless it is on the same voxels, ``res``."""
    own = re.sub(r"_?T2w$", "", stem(raw))
    return own if volume == SOURCE else f"{own}_res-{_label(volume)}"


def _label(name: str) -> str:
    """A name as a BIDS label: letters and digits.

    >>> _label("inplane-x2")
    'inplanex2'
    """
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _link(made: Path, path: Path) -> None:
    """Another name of a file, or a copy where the disk has no hard links."""
    with suppress(OSError):
        os.link(made, path)
        return
    shutil.copyfile(made, path)
