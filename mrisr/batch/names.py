"""Names of a batch: stages, stacks, and where everything lies in its folder.

``OUT/sub-X[/ses-Y]`` holds what a reader wants; ``OUT/.batch`` what the batch itself needs to go on.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from mrisr.io.atomic import as_output_error, make_folder

Stage = Literal["convert", "upsample", "segment", "score", "report"]
StackName = Literal["axial", "coronal", "sagittal"]
STAGES: tuple[Stage, ...] = get_args(Stage)
STACKS: tuple[StackName, ...] = get_args(StackName)
#: The reference labels of the zones, on the grid of the axial stack.
LABELS = "labels"
ROLES = (*STACKS, LABELS)
#: The measured axial stack among the volumes that are segmented and scored.
SOURCE = "source"
#: What the name of a subject, session or volume looks like: it becomes part of a path.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
HIDDEN = ".batch"
VOLUME = ".nii.gz"
SCORES = "scores.json"
#: Name of the page of a study, and of that of all.
PAGE = "report.html"
#: Of a study's folder: its parts and how they ended.
STATUS = "status.json"


def uncertainty_file(volume: str, *, dicom: bool = False) -> str:
    """Path of the map of an upsampled volume's standard deviations, within the study's folder."""
    return f"dicom/{volume}_uncertainty.dcm" if dicom else f"uncertainty/{volume}{VOLUME}"


def chunk_file(out: Path, number: str) -> Path:
    """The names of the studies that share a process."""
    return out / HIDDEN / "chunks" / f"{number}.json"


def out_of(chunk: Path) -> Path:
    """The batch's folder, from the path of one of its chunks."""
    return chunk.absolute().parents[2]


def lock_file(out: Path, name: str) -> Path:
    """The file that a process locks while it works on a study, or on the batch. Raises OutputError."""
    path = make_folder(out / HIDDEN / "locks") / name.replace("/", "_")
    with as_output_error(path):
        path.touch()
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is no such file, or it holds no object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
