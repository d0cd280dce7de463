"""An nnU-Net result folder as segmenter: with stand-ins for its library and its program, and for real."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.zones.external.nnunet import COMMAND, load_nnunet
from tests.zones.models import BRIGHT, expected, image, weights

#: Labels of the data set: not ours, so that a table is needed.
LABELS = {"background": 0, "TZ": 1, "PZ": 2}

LIBRARY = '''
"""Labels by intensity, and notes down what it was told."""
import numpy as np, torch

class Configuration:
    previous_stage_name = None

class nnUNetPredictor:
    def __init__(self, device, allow_tqdm):
        print("a greeting on standard output")
        self.told = {"device": str(device)}
        self.configuration_manager = Configuration()

    def initialize_from_trained_model_folder(self, folder, use_folds, checkpoint_name):
        self.told |= {"folds": use_folds, "checkpoint": checkpoint_name}

    def predict_single_npy_array(self, array, properties):
        print("another one")
        assert array.dtype == np.float32 and array.ndim == 4, (array.dtype, array.shape)
        self.told |= {"shape": array.shape, "spacing": properties["spacing"]}
        self.told["first"] = np.argwhere(array[0] == 900).min(axis=0)[::-1].tolist()
        nnUNetPredictor.last = self.told
        return np.select([array[0] > 700, array[0] > 300], [2, 1]).astype(np.uint8)
'''

PROGRAM = """#!{python}
import pathlib, sys
import numpy as np, SimpleITK as sitk
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert sys.argv[sys.argv.index("-f") + 1:sys.argv.index("-chk")] == ["0", "2"], sys.argv
print("progress")
if {code}:
    sys.exit("Traceback\\nRuntimeError: out of luck")
(image,) = pathlib.Path(told["-i"]).iterdir()
assert image.name == "case_0000.nii.gz", image
read = sitk.ReadImage(str(image))
array = sitk.GetArrayFromImage(read)
labels = np.select([array > 700, array > 300], [2, 1]).astype(np.uint8)
made = sitk.GetImageFromArray(labels)
made.CopyInformation(read)
out = pathlib.Path(told["-o"])
out.mkdir()
sitk.WriteImage(made, str(out / "case.nii.gz"))
"""


def folder(root: Path, folds: tuple[str, ...] = ("0", "2"), **dataset: Any) -> Path:
    """The files of a result folder, with checkpoints that nothing real would load."""
    root.mkdir()
    told = {"channel_names": {"0": "T2w"}, "labels": LABELS, "file_ending": ".nii.gz", **dataset}
    (root / "dataset.json").write_text(json.dumps(told))
    (root / "plans.json").write_text(json.dumps({"image_reader_writer": "SimpleITKIO"}))
    for fold in folds:
        (root / f"fold_{fold}").mkdir()
        (root / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(b"weights")
    return root


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for nnunetv2; returns what it was told last."""
    package = tmp_path / "site" / "nnunetv2" / "inference"
    package.mkdir(parents=True)
    for part in (package, package.parent):
        (part / "__init__.py").touch()
    (package / "predict_from_raw_data.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(package.parent.parent)
    yield lambda: sys.modules["nnunetv2.inference.predict_from_raw_data"].nnUNetPredictor.last
    for name in [n for n in sys.modules if n.partition(".")[0] == "nnunetv2"]:
        del sys.modules[name]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No library; a stand-in for the program is put on the PATH, which ends with a code."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def install(code: int = 0) -> None:
        path = tmp_path / "bin" / COMMAND
        path.parent.mkdir(exist_ok=True)
        path.write_text(PROGRAM.format(python=sys.executable, code=code))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")

    return install


def first_bright(volume: Volume) -> Any:
    """The lowest indices of the bright box."""
    return np.argwhere(volume.array == BRIGHT).min(axis=0).tolist()


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SRA"])
def test_every_orientation_is_given_alike(tmp_path: Path, library, capsys, codes: str) -> None:
    lps = image("LPS", spacing=(0.5, 0.7, 2.5), size=(20, 24, 10), degrees=10)
    volume = image(codes, spacing=(0.5, 0.7, 2.5), size=(20, 24, 10), degrees=10)
    segment = load_nnunet(folder(tmp_path / "model"), device="cpu")
    found = segment(volume)
    np.testing.assert_array_equal(found.labels.array, expected(volume))
    np.testing.assert_array_equal(found.labels.affine, volume.affine)
    told = library()
    assert told["shape"] == (1, 10, 24, 20)
    np.testing.assert_allclose(told["spacing"], [2.5, 0.7, 0.5])
    assert told["first"] == first_bright(lps)
    assert (told["device"], told["folds"]) == ("cpu", (0, 2))
    assert capsys.readouterr().out == ""
    assert (segment.name, found.notes) == ("model", ())


def test_a_reader_that_turns_gets_its_own_orientation(tmp_path: Path, library) -> None:
    root = folder(tmp_path / "model")
    (root / "plans.json").write_text('{"image_reader_writer": "SimpleITKIOWithReorient"}')
    np.testing.assert_array_equal(load_nnunet(root)(image()).labels.array, expected(image()))
    assert library()["first"] == first_bright(image("RAS"))


def test_folds_and_checkpoints(tmp_path: Path, library) -> None:
    load_nnunet(folder(tmp_path / "all", ("all",)))(image())
    assert library()["folds"] == ("all",)
    load_nnunet(folder(tmp_path / "both", ("0", "all")))(image())
    assert library()["folds"] == (0,)
    root = folder(tmp_path / "best")
    before = load_nnunet(root).sha256
    (root / "fold_2" / "checkpoint_final.pth").write_bytes(b"other weights")
    assert load_nnunet(root).sha256 != before
    for path in root.glob("fold_*/checkpoint_final.pth"):
        path.rename(path.with_name("checkpoint_best.pth"))
    found = load_nnunet(root)(image())
    assert library()["checkpoint"] == "checkpoint_best.pth"
    assert found.notes == ("checkpoint_best.pth of an unfinished training",)


@pytest.mark.parametrize("codes", ["LPS", "SRA"])
def test_the_program(tmp_path: Path, program, codes: str) -> None:
    program()
    volume = image(codes, degrees=10)
    found = load_nnunet(folder(tmp_path / "model"))(volume)
    np.testing.assert_array_equal(found.labels.array, expected(volume))


def test_programs_that_fail(tmp_path: Path, program) -> None:
    program(code=1)
    with pytest.raises(InputError, match="found exit 1: RuntimeError: out of luck"):
        load_nnunet(folder(tmp_path / "model"))(image())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel_names": {"0": "T2w", "1": "ADC"}}, "a model of one image, found 2 channels"),
        ({"labels": {"background": 0, "prostate": 1}}, r"called .*--table .*found 0 'backg"),
        ({"labels": {"background": 0, "PZ": 1, "TZ": 2, "all": [1, 2]}}, "found .*'regions'"),
        ({"labels": None}, "found no names"),
        ({"file_ending": ".png"}, r"a file_ending of \.nii\.gz.*found \.png"),
    ],
)
def test_models_of_something_else(tmp_path: Path, library, change, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_nnunet(folder(tmp_path / "model", **change))


@pytest.mark.parametrize("gone", ["dataset.json", "plans.json", "fold_0/checkpoint_final.pth"])
def test_missing_files(tmp_path: Path, library, gone: str) -> None:
    root = folder(tmp_path / "model", ("0",))
    (root / gone).unlink()
    with pytest.raises(InputError, match=gone):
        load_nnunet(root)


PLANS = """
dataset_name: Dataset001_Boxes
plans_name: nnUNetPlans
image_reader_writer: SimpleITKIO
transpose_forward: [0, 1, 2]
transpose_backward: [0, 1, 2]
label_manager: LabelManager
foreground_intensity_properties_per_channel: {"0": {}}
configurations:
  3d_fullres:
    data_identifier: nnUNetPlans_3d_fullres
    preprocessor_name: DefaultPreprocessor
    batch_size: 2
    patch_size: [16, 16, 16]
    normalization_schemes: [ZScoreNormalization]
    use_mask_for_norm: [false]
    resampling_fn_data: &function resample_data_or_seg_to_shape
    resampling_fn_data_kwargs: &image {is_seg: false, order: 1, order_z: 0, force_separate_z: null}
    resampling_fn_seg: *function
    resampling_fn_seg_kwargs: {is_seg: true, order: 1, order_z: 0, force_separate_z: null}
    resampling_fn_probabilities: *function
    resampling_fn_probabilities_kwargs: *image
    architecture: {arch_kwargs: {}, _kw_requires_import: []}
"""


class Lines(torch.nn.Module):
    """A network whose highest answer tells the intensity: dark, middle or bright."""

    def __init__(self, input_channels: int, num_classes: int, **_: Any) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(input_channels, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def real(root: Path, volume) -> Path:
    """A result folder that nnU-Net itself loads, which thresholds the z-scores of ``volume``."""
    folder(root, ("0",))
    x = (np.array([100.0, 500.0, 900.0]) - volume.array.mean()) / volume.array.std()
    low, high = (x[0] + x[1]) / 2, (x[1] + x[2]) / 2
    plans = yaml.safe_load(PLANS)
    configuration = plans["configurations"]["3d_fullres"]
    configuration["spacing"] = [float(s) for s in volume.spacing[::-1]]
    configuration["architecture"]["network_class_name"] = f"{__name__}.Lines"
    (root / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": {f"conv.{name}": w for name, w in weights(low, high).items()},
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, root / "fold_0" / "checkpoint_final.pth")
    return root


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("codes", ["LPS", "RAS", "SRA"])
def test_nnunet_itself(tmp_path: Path, codes: str, capsys) -> None:
    pytest.importorskip("nnunetv2", reason="needs nnunetv2 (pip install nnunetv2)")
    lps, volume = (
        image(c, spacing=(0.5, 0.7, 2.5), size=(20, 24, 10), degrees=10) for c in ("LPS", codes)
    )
    segment = load_nnunet(real(tmp_path / "model", lps), device="cpu")
    np.testing.assert_array_equal(segment(volume).labels.array, expected(volume))
    assert capsys.readouterr().out == ""
    (tmp_path / "model" / "fold_0" / "checkpoint_final.pth").write_bytes(b"junk")
    with pytest.raises(InputError, match="expected a model that loads, found Unpickling"):
        load_nnunet(tmp_path / "model")
