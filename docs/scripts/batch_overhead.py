"""What a batch costs beyond its inference: ``python docs/scripts/batch_overhead.py``.

Makes phantom studies, runs ``mrisr batch`` on them, and sets its cost beside that of the inference: in
seconds of the clock, by the records that the batch has left beside its volumes, and in processor seconds, by
the same inference done once more in one process. Other work on the machine lengthens the first, hardly the
second.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from mrisr.batch.settings import load_batch, options_of
from mrisr.batch.work import Models
from mrisr.core.process import keep_freed_memory
from mrisr.core.volume import VolumeFile
from mrisr.data.phantom import label_volume, phantom
from mrisr.io import read_file, write_volume
from mrisr.runs.results import segment, upsample

SHAPE, SPACING = (160, 160, 12), (0.8, 0.8, 3.0)


def write_studies(
    folder: Path,
    count: int,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
) -> None:
    """A folder of patients, each with an axial stack and labels."""
    for i in range(count):
        study = folder / f"phantom-{i:02d}"
        study.mkdir(parents=True)
        axial = phantom(shape, spacing=spacing, seed=i, noise=0.01)
        write_volume(axial, study / "t2w_ax.nii.gz")
        write_volume(label_volume(axial.shape, axial.affine, i), study / "zones.nii.gz")


def run_batch(folder: Path, config: Path, extra: list[str]) -> tuple[float, float]:
    """Run the batch; its seconds by the clock, and by the processors."""
    program = [sys.executable, "-m", "mrisr"]
    manifest, out = folder / "manifest.csv", folder / "out"
    subprocess.run([*program, "manifest", folder / "data", "-o", manifest], check=True)
    before, began = processor_seconds(), time.perf_counter()
    subprocess.run([*program, "batch", "-m", manifest, "-o", out, "-c", config, *extra], check=True)
    return time.perf_counter() - began, processor_seconds() - before


def processor_seconds() -> float:
    """Of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def recorded_seconds(out: Path) -> float:
    """Inference of the batch, by the records beside its volumes."""
    records = [*out.glob("sub-*/upsampled/*.json"), *out.glob("sub-*/zones/*.json")]
    return sum(float(json.loads(path.read_bytes())["seconds"]) for path in records)


def inference_alone(folder: Path, config: Path) -> float:
    """Processor seconds of the same inference in this process, models loaded once and warm."""
    keep_freed_memory()
    models = Models(load_batch(config))
    paths = sorted(folder.glob("data/*/t2w_ax.nii.gz"))
    infer(models, paths[0])
    began = time.process_time()
    for path in paths:
        infer(models, path)
    return time.process_time() - began


def infer(models: Models, path: Path) -> None:
    """All that the settings ask for of one study."""
    files = {"source": read_file(path)}
    for name in models.settings.upsampled:
        options = models.settings.upsampling(name)
        made = upsample(files["source"], options_of(options), model=models.restoring(options))
        files[name] = VolumeFile(made.volume)
    for name in models.settings.segmented:
        segment(files[name], segmenter=models.segmenter)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--zones", help="model of the zones, the bundled one if left out")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="voxels of a stack")
    parser.add_argument("--spacing", type=float, nargs=3, default=SPACING, help="mm")
    parser.add_argument("--clock", action="store_true", help="do not infer once more")
    parser.add_argument("extra", nargs="*", help="after --: further options of mrisr batch")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrisr-overhead-") as name:
        folder = Path(name)
        config = folder / "batch.yaml"
        zones = {"model": asked.zones} if asked.zones else {}
        config.write_text(yaml.safe_dump({"device": "cpu", "zones": zones}))
        write_studies(folder / "data", asked.studies, tuple(asked.shape), tuple(asked.spacing))
        wall, processors = run_batch(folder, config, asked.extra)
        recorded = recorded_seconds(folder / "out")
        alone = None if asked.clock else inference_alone(folder, config)
    print(f"{asked.studies} studies of {asked.shape} voxels of {asked.spacing} mm")
    print(f"clock:     batch {wall:.1f} s, its inference {recorded:.1f} s: x{wall / recorded:.2f}")
    if alone is not None:
        share = f"inference {alone:.1f} s: x{processors / alone:.2f}"
        print(f"processor: batch {processors:.1f} s, {share}")


if __name__ == "__main__":
    main()
