"""The provenance record of an output: how it was made, and how well it agrees with the measurement."""

from __future__ import annotations

import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import mrisr
from mrisr.core import geometry
from mrisr.restore.volumes import Restored
from mrisr.core.volume import Volume, VolumeFile

if TYPE_CHECKING:
    from mrisr.dicom.derivation import Derivation

FORMAT = 1
DISCLAIMER = "For research use only. Not for diagnosis."


def peak_memory_gib(device: torch.device) -> dict[str, float]:
    """Peak resident memory of this process and, on CUDA, peak memory of the device, in GiB."""
    if sys.platform == "win32":
        import psutil

        peak = psutil.Process().memory_info().peak_wset
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    memory = {"process": round(peak / 2**30, 3)}
    if device.type == "cuda":
        memory["device"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 3)
    return memory


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Grid and storage of a volume; no file name and no patient attribute."""
    return {
        "shape": list(volume.shape),
        "spacing_mm": [round(float(s), 6) for s in volume.spacing],
        "orientation": geometry.axis_codes(volume.affine),
        "plane": volume.plane,
        "dtype": str(volume.storage.dtype),
        "affine_ras_mm": np.round(volume.affine, 6).tolist(),
    }


def make_record(job: str, restored: Restored, read: VolumeFile, seconds: float) -> dict[str, Any]:
    """The record as JSON-ready values; docs/how-to/read-the-record.md explains each key."""
    engine, source = restored.engine, restored.measurement.volume
    options = engine.options
    return {
        "format": FORMAT,
        "mrisr": mrisr.__version__,
        "job": job,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "use": DISCLAIMER,
        "model": {
            "name": engine.card.name,
            "method": engine.card.method,
            "version": engine.card.version,
            "sha256": engine.card.sha256,
        },
        "parameters": {
            **restored.parameters,
            "steps": engine.steps,
            "churn": engine.churn,
            "update": options.update,
            "start": options.start,
            "seed": options.seed,
            "consistency": engine.consistency,
            "tile": engine.tile,
        },
        "input": {"sha256": read.sha256, **describe_volume(source)},
        "output": describe_volume(restored.volume),
        "residual": restored.measurement.residual(restored.volume),
        "device": device_name(engine.device),
        "precision": "bf16" if engine.precision == torch.bfloat16 else "fp32",
        "seconds": round(seconds, 2),
        "peak_memory_gib": peak_memory_gib(engine.device),
        "software": {"torch": torch.__version__, "python": platform.python_version()},
        "notes": [*read.notes, *restored.notes],
    }


def describe_in_a_line(record: dict[str, Any]) -> str:
    """The record in the 79 bytes of a NIfTI description."""
    p = record["parameters"]
    size = f"x{p['scale']:.4g}" if "scale" in p else f"x{p['factor']:.4g}"
    weights = str(record["model"]["sha256"])[:8]
    return f"mrisr {record['mrisr']} {record['job']} {size} {record['model']['name']} {weights}; research use"


def describe_in_dicom(record: dict[str, Any], *, templated: bool = False) -> Derivation:
    """The record in the attributes of a derived DICOM object.

    ``templated``: the DICOM source is not the input, whose digest then tells results apart.
    """
    from mrisr.dicom.derivation import Derivation

    p, model = record["parameters"], record["model"]
    through = record["job"] == "throughplane"
    size = f"{'through-plane' if through else 'in-plane'} x{p.get('factor', p.get('scale')):.4g}"
    decides = {key: record[key] for key in ("mrisr", "job", "model", "parameters", "precision")} | {
        "device": record["device"].partition(":")[0]
    }
    if templated:
        decides["input"] = record["input"]["sha256"]
    told = {"model": model["name"], "sha256": model["sha256"], **p}
    told |= {key: record[key] for key in ("device", "precision")}
    told["residual_rms_of_range"] = f"{record['residual']['rms_of_range']:.2e}"
    told["input_sha256"] = record["input"]["sha256"]
    return Derivation(
        label=f"super-resolved {size}",
        description=f"Super-resolved {size} by mrisr {record['mrisr']}, model {model['name']}, "
        f"{p['degradation']} degradation assumed. Research use only, not for diagnosis.",
        details="; ".join(f"{key} {value}" for key, value in told.items() if value is not None),
        version=record["mrisr"],
        model_sha256=model["sha256"] or "",
        seed=p["seed"],
        key=json.dumps(decides, sort_keys=True),
        series_offset=82 if through else 81,
        created=datetime.fromisoformat(record["created"]),
    )


def record_path(output: Path, stem: str) -> Path:
    """The record lies beside its output and has its name, ending in ``.json``."""
    return output.with_name(f"{stem}.json")


def device_name(device: torch.device) -> str:
    """A device as the record names it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {platform.machine()}, {torch.get_num_threads()} threads"
