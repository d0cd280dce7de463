"""The names of a batch: stages, stacks, and where everything lies in its folder.

``OUT/sub-X[/ses-Y]`` holds what a reader wants; ``OUT/.batch`` what the batch itself needs to go on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

Stage = Literal["convert", "upsample", "segment", "score", "report"]
StackName = Literal["axial", "coronal", "sagittal"]
STAGES: tuple[Stage, ...] = get_args(Stage)
STACKS: tuple[StackName, ...] = get_args(StackName)
#: Stages that a stage does along, for the studies that it has worked on: the libraries that they need are
#: loaded, which takes longer than their work. Their own turn is left with what else has changed.
ALONG: dict[Stage, tuple[Stage, ...]] = {"segment": ("score",)}
#: The reference labels of the zones, on the grid of the axial stack.
LABELS = "labels"
ROLES = (*STACKS, LABELS)
#: The measured axial stack among the volumes that are segmented and scored.
SOURCE = "source"
#: What the name of a subject, session or volume looks like: it becomes part of a path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
HIDDEN = ".batch"
VOLUME = ".nii.gz"


def study_folder(subject: str, session: str) -> str:
    """Folder of a study within the output.

    >>> study_folder("007", "a"), study_folder("007", "")
    ('sub-007/ses-a', 'sub-007')
    """
    return f"sub-{subject}/ses-{session}" if session else f"sub-{subject}"


def chunk_file(out: Path, number: str) -> Path:
    """The studies of a chunk and what is to be made of them."""
    return out / HIDDEN / "chunks" / f"{number}.json"


def marker(out: Path, stage: str, number: str) -> Path:
    """What Snakemake looks at: there once a stage has dealt with every study of a chunk."""
    return out / HIDDEN / "done" / stage / number


def out_of(chunk: Path) -> Path:
    """The batch's folder, from the path of one of its chunks."""
    return chunk.absolute().parents[2]


def status_file(folder: Path, stage: str) -> Path:
    """How a stage ended for the study of a folder."""
    return folder / "status" / f"{stage}.json"


def journal_file(out: Path, stage: str, study: str) -> Path:
    """What a stage has done of a study that it is working on; gone once the status is written."""
    return out / HIDDEN / "running" / stage / f"{study.replace('/', '_')}.json"


def lock_file(out: Path, name: str) -> Path:
    """What a process holds while it works on a study, or on the batch."""
    return out / HIDDEN / "locks" / name.replace("/", "_")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is no such file, or it holds none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
