"""Zones: labels of the image's own voxels or none, and foreign models that are held to it."""

import atexit
import importlib.util
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from tests.reliability.cases_models import Explosive
from tests.reliability.expect import (
    Cases,
    assert_discreet,
    assert_line,
    done,
    refusal,
    said,
    unchanged,
)
from tests.reliability.runner import Outcome, Skipped, run_cli
from tests.reliability.volume_files import cut, damaged

CASES = Cases("Zones")

#: Changes a study and a bundle that are as they should be; may return what else to say on the command line.
Spoil = Callable[[Path, Path], object]


@cache
def _whole() -> Path:
    """A study of two boxes, stored along unusual axes, and a bundle that labels them by intensity."""
    from mrisr.io import write_volume
    from tests.zones.models import INFERENCE, bundle, image

    steps = INFERENCE["postprocessing"]["transforms"]
    folder = Path(tempfile.mkdtemp(prefix="mrisr-zones-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    plain = {"_target_": "Compose", "transforms": [steps[0], steps[2]]}
    bundle(folder / "bundle", postprocessing=plain)
    write_volume(image("PIR"), folder / "t2.nii.gz")
    return folder


def _laid_out(folder: Path) -> tuple[Path, Path]:
    for path in _whole().iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, folder / path.name)
    return folder / "t2.nii.gz", folder / "bundle"


def _segment(folder: Path, study: Path, *options: object) -> Outcome:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    output = () if "--output" in options else ("--output", "out.nii.gz")
    return run_cli(["segment", "--input", study, *output, *options, "--quiet"], work)


def refused(name: str, spoil: Spoil, *words: str, code: int = 2) -> None:
    """A case in which nothing is written, and one line says why."""

    def check(folder: Path) -> str:
        study, bundle = _laid_out(folder)
        found = spoil(study, bundle)
        options = found if isinstance(found, tuple) else ()
        if not {"--model", "--nnunet"} & set(map(str, options)):
            options = ("--bundle", bundle, *options)
        (folder / "work").mkdir(exist_ok=True)
        with unchanged(folder):
            outcome = _segment(folder, study, *options)
            assert_line(outcome, code, None, *words)
        return said(outcome, folder)

    CASES.add(name, refusal(*words), check)


def _coronal(study: Path, bundle: Path) -> None:
    from mrisr.io import write_volume
    from tests.zones.models import image

    write_volume(image("LIP", spacing=(0.5, 3.0, 0.5)), study, force=True)


def _exists(study: Path, bundle: Path) -> None:
    (study.parent / "work").mkdir()
    (study.parent / "work" / "out.json").write_text("mine")


def _pickled(study: Path, bundle: Path) -> None:
    mark = study.parent / "exploded"
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps(Explosive(mark)))


def _torchscript(study: Path, bundle: Path) -> None:
    (bundle / "models" / "model.pt").rename(bundle / "models" / "model.ts")


def _shifted(study: Path, bundle: Path) -> None:
    """A postprocessing that loses a slice."""
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    lost = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[..., 1:]"}
    config["postprocessing"]["transforms"].append(lost)
    path.write_text(json.dumps(config))


def _no_nnunet(study: Path, bundle: Path) -> tuple[object, ...]:
    from mrisr.zones.external.nnunet import COMMAND
    from tests.zones.test_external_nnunet import folder

    if importlib.util.find_spec("nnunetv2") or shutil.which(COMMAND):
        raise Skipped("nnU-Net is installed")
    return ("--nnunet", folder(study.parent / "nnunet"))


def _labelled(folder: Path) -> str:
    from tests.zones.models import expected, image

    study, bundle = _laid_out(folder)
    result = done(folder, _segment(folder, study, "--bundle", bundle))
    assert result.voxels.dtype == np.uint8, result.voxels.dtype
    np.testing.assert_array_equal(result.voxels, expected(image("PIR")))
    np.testing.assert_allclose(result.affine, image("PIR").affine, atol=1e-5)
    return "every voxel as it should be, uint8, on the image's grid"


def _dicom(folder: Path) -> str:
    from mrisr.dicom.segmentation import read_segmentation
    from mrisr.io import read_volume
    from tests.dicom.synthetic import SECRETS, hospital_series

    series = hospital_series(folder / "series", size=32, slices=4)
    _, bundle = _laid_out(folder)
    outcome = _segment(folder, series, "--bundle", bundle, "--output", "out.dcm")
    assert outcome.code == 0, outcome.stderr[-300:]
    assert_discreet(outcome)
    record = (folder / "work" / "out.json").read_text()
    found = [secret for secret in SECRETS if secret in record]
    assert not found, f"of the patient, in the record: {found}"
    labels = read_segmentation(folder / "work" / "out.dcm").volume
    volume = read_volume(series)
    assert labels.shape == volume.shape, labels.shape
    np.testing.assert_allclose(labels.affine, volume.affine, atol=1e-4)
    return "read back on the series' voxels; nothing of the patient in the record"


place = "every voxel's label where it belongs"
CASES.add("an image stored along other axes than a model's", place, _labelled)
found = "a DICOM Segmentation on the series' voxels; nothing of the patient in the record"
CASES.add("a DICOM series, and an output called .dcm", found, _dicom)
half = damaged(lambda study: study, cut(0.5))
refused("an image cut to half", lambda study, _: half(study), "t2.nii.gz")
refused("a coronal stack of thick slices", _coronal, "axial", "coronal")
refused("labels whose record is there already", _exists, "out.json", code=3)
itself: Spoil = lambda study, _: ("--output", study, "--force")  # noqa: E731
refused("the image itself as output, with --force", itself, "never overwritten", code=3)
refused("labels that the table does not name", lambda *_: ("--table", "1=TZ,3=PZ"), "found 2")
refused("a table without a zone", lambda *_: ("--table", "1=TZ"), "PZ", code=1)
unnamed: Spoil = lambda _, b: (b / "configs" / "metadata.json").write_text("{}")  # noqa: E731
refused("a bundle that says nothing of its labels, and no table", unnamed, "--table")
refused("a bundle whose labels come back with a slice less", _shifted, "labels on the grid")
name = "a bundle whose weights are a pickle that runs code"
refused(name, _pickled, "model.pt", "without running code")
refused("a bundle of TorchScript alone", _torchscript, "TorchScript")
parent: Spoil = lambda study, _: ("--bundle", study.parent)  # noqa: E731
refused("a folder that is no bundle", parent, "inference.json")
name = "an nnU-Net folder where no nnU-Net is installed"
refused(name, _no_nnunet, "pip install nnunetv2", code=1)
refused("an upsampler's model", lambda *_: ("--model", "zero-inplane"), "zero-inplane", code=1)
