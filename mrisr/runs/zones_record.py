"""The provenance record of zones: what segmented what, and how large the zones are."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import torch

import mrisr
from mrisr.runs.record import (
    DISCLAIMER,
    FORMAT,
    describe_volume,
    device_name,
    peak_memory_gib,
)
from mrisr.core.volume import Volume, VolumeFile
from mrisr.zones.labels import ZONES
from mrisr.zones.score import zone_volumes_ml

if TYPE_CHECKING:
    from mrisr.dicom.derivation import Derivation
    from mrisr.zones.segmenter import Segmenter

#: Added to 100 times the source's SeriesNumber; the upsamplers have 81 and 82.
SERIES_OFFSET = 83


@dataclass(frozen=True)
class Segmented:
    """Zones and how they came about.

    Attributes:
        labels: on the image's grid.
        image: what was segmented.
        segmenter: what did it.
        notes: what was found and handled on the way, of reader and segmenter.
    """

    labels: Volume
    image: Volume
    segmenter: Segmenter
    notes: tuple[str, ...] = ()


def segment_volume(image: Volume, segmenter: Segmenter) -> Segmented:
    """Segment an image. Raises InputError where that cannot be done."""
    found = segmenter(image)
    return Segmented(found.labels, image, segmenter, found.notes)


def make_zones_record(segmented: Segmented, read: VolumeFile, seconds: float) -> dict[str, Any]:
    """The record as JSON-ready values; docs/how-to/read-the-record.md explains each key."""
    segmenter, image = segmented.segmenter, segmented.image
    table = segmenter.table
    return {
        "format": FORMAT,
        "mrisr": mrisr.__version__,
        "job": "segment",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "use": DISCLAIMER,
        "model": {
            "name": segmenter.name,
            "method": segmenter.kind,
            "sha256": segmenter.sha256,
        },
        "parameters": {
            "labels": ZONES,
            "table": None if table is None else str(table),
            "margin": segmenter.margin,
        },
        "input": {"sha256": read.sha256, **describe_volume(image)},
        "output": describe_volume(segmented.labels),
        "volumes_ml": {z: round(v, 3) for z, v in zone_volumes_ml(segmented.labels).items()},
        "device": device_name(segmenter.device),
        "seconds": round(seconds, 2),
        "peak_memory_gib": peak_memory_gib(segmenter.device),
        "software": {"torch": torch.__version__, "python": platform.python_version()},
        "notes": [*read.notes, *segmented.notes],
    }


def zones_in_a_line(record: dict[str, Any]) -> str:
    """The record in the 79 bytes of a NIfTI description."""
    model = record["model"]
    return (
        f"mrisr {record['mrisr']} zones by {model['name'][:24]} {model['sha256'][:8]}; research use"
    )


def zones_in_dicom(record: dict[str, Any]) -> Derivation:
    """The record in the attributes of a derived DICOM object."""
    from mrisr.dicom.derivation import Derivation

    model = record["model"]
    # The image may be a super-resolved one of the source: its digest and grid tell those apart.
    decides = {key: record[key] for key in ("mrisr", "job", "model", "parameters", "input")}
    told = {"model": model["name"], "method": model["method"], "sha256": model["sha256"]}
    told |= {f"{zone}_ml": f"{ml:.2f}" for zone, ml in record["volumes_ml"].items()}
    told |= {"table": record["parameters"]["table"], "device": record["device"]}
    told["input_sha256"] = record["input"]["sha256"]
    return Derivation(
        label="prostate zones",
        description=f"Zones of the prostate, segmented by mrisr {record['mrisr']}, model "
        f"{model['name']}. Research use only, not for diagnosis.",
        details="; ".join(f"{key} {value}" for key, value in told.items() if value is not None),
        version=record["mrisr"],
        model_sha256=model["sha256"],
        seed=0,
        key=json.dumps(decides, sort_keys=True),
        series_offset=SERIES_OFFSET,
        created=datetime.fromisoformat(record["created"]),
    )
