"""The standard deviation of a result: what samples differ by, what one answer tells, and the calibration."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import mrisr
from mrisr.core.errors import OutputError, UsageError
from mrisr.core.options import InPlane, Sampling
from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume
from mrisr.models.card import Calibration, Uncertainty
from mrisr.models.store import Model, load_model, write_card
from mrisr.physics.measurement import Measurement, measure_in_plane
from mrisr.restore import effective, resolved, restore
from tests.dicom.synthetic import hospital_series

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
#: Scalars 2 (x2) and 6 (x8); one answer's deviation is 0.02 and 0.08 of the range of 2, whatever the image.
CALIBRATION = tuple(
    Calibration(factor=f, noise=n, scalar=s + 10 * n, weights=(float(np.log(d)), 0.0, 0.0, 0.0))
    for f, s, d in ((2.0, 2.0, 0.02), (8.0, 6.0, 0.08))
    for n in (0.0, 0.02)
)
KNOWN = Uncertainty(steps=3, eta=1.0, calibration=CALIBRATION)
VOLUME = phantom((24, 20, 3), spacing=(0.8, 0.8, 3.0))


@pytest.fixture(autouse=True)
def calibrated(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs on small models, of which one is calibrated, in an empty folder."""
    for path in models.glob("partdiff-inplane.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("MRISR_MODELS", str(tmp_path))
    model = load_model("partdiff-inplane")
    write_card(
        model.card.model_copy(update={"uncertainty": KNOWN}), tmp_path / "partdiff-inplane.json"
    )
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def uncalibrated() -> Model:
    model = load_model("partdiff-inplane")
    return replace(model, card=model.card.model_copy(update={"uncertainty": None}))


def measurement(scale: float = 2.0) -> Measurement:
    return measure_in_plane(VOLUME, scale)


def test_the_result_is_the_mean_and_the_map_the_spread() -> None:
    settings = Sampling(**CPU, steps=4, eta=1.0, noise="0")
    first = restore(measurement(), uncalibrated(), settings).stack
    both = restore(measurement(), uncalibrated(), replace(settings, samples=2))
    second = 2 * both.stack - first
    assert float((second - first).abs().max()) > 1e-3  # another sample, of its own noise
    variance = (first - second).square() / 2
    around = F.avg_pool2d(variance[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
    assert both.deviation is not None
    assert not both.deviation.calibrated
    torch.testing.assert_close(both.deviation.stack, around.sqrt(), atol=1e-5, rtol=1e-3)
    # All samples explain the measurement: they differ in what it leaves open.
    assert both.measurement.residual(both.volume)["rms_of_range"] < 1e-3
    assert both.evaluations == 8


def test_samples_are_drawn_as_they_were_calibrated_and_scaled_between_the_factors() -> None:
    model = load_model("partdiff-inplane")
    assert (
        effective(resolved(Sampling(samples=3), model)).items() >= {"steps": 3, "eta": 1.0}.items()
    )
    settings = Sampling(**CPU, samples=2, noise="0.01")
    found = restore(measurement(4.0), model, settings).deviation
    mere = restore(measurement(4.0), uncalibrated(), replace(settings, steps=3)).deviation
    assert found is not None
    assert mere is not None
    assert found.scalar == pytest.approx(
        4.1
    )  # half way in the factor's logarithm, and in the noise
    torch.testing.assert_close(found.stack, 4.1 * mere.stack)
    other = restore(measurement(4.0), model, replace(settings, steps=2)).deviation
    assert other is not None
    assert not other.calibrated


def test_one_answer_tells_its_deviation_in_the_units_of_the_volume() -> None:
    made = mrisr.run(VOLUME, InPlane(scale=4, samples=1, noise="0"))
    plain = mrisr.run(VOLUME, InPlane(scale=4, noise="0"))
    np.testing.assert_array_equal(made.volume.array, plain.volume.array)
    assert plain.uncertainty is None
    assert plain.record.uncertainty is None
    scale = made.record.residual.intensity_range  # type: ignore[union-attr]
    np.testing.assert_allclose(made.uncertainty.array, 0.04 / 2 * scale, rtol=1e-4)
    np.testing.assert_array_equal(made.uncertainty.affine, made.volume.affine)
    told = made.record.as_dict()["uncertainty"]
    assert told == {
        "calibrated": True,
        "scalar": None,
        "mean": pytest.approx(0.02 * scale),
        "mean_of_range": pytest.approx(0.02),
    }


def test_brighter_and_steeper_places_may_be_less_certain() -> None:
    model = load_model("partdiff-inplane")
    weights = (0.0, 0.0, 0.5, 1.0)
    row = Calibration(factor=2.0, noise=0.0, scalar=1.0, weights=weights)
    card = model.card.model_copy(
        update={"uncertainty": Uncertainty(steps=2, eta=1.0, calibration=(row,))}
    )
    found = restore(measurement(), replace(model, card=card), Sampling(**CPU, samples=1, noise="0"))
    assert found.deviation is not None
    dark, bright = (m(found.stack.flatten(), 200).indices for m in (_smallest, torch.topk))
    deviation = found.deviation.stack.flatten()
    assert float(deviation[bright].median()) > 3 * float(deviation[dark].median())


def _smallest(values: torch.Tensor, count: int) -> Any:
    return torch.topk(values, count, largest=False)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "bicubic", "samples": 8}, "samples: has no effect on bicubic"),
        ({"method": "bicubic", "samples": 1}, "samples: has no effect on bicubic"),
        ({"samples": 0}, "samples: expected 1 to 64"),
    ],
)
def test_what_has_nothing_random_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        mrisr.run(VOLUME, InPlane(scale=2, **settings))
    with pytest.raises(UsageError, match="nobody has calibrated"):
        restore(measurement(), uncalibrated(), Sampling(**CPU, samples=1))


def test_a_map_beside_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_volume(VOLUME, tmp_path / "t2w.nii.gz")
    path = mrisr.inplane(study, scale=2, samples=2, uncertainty="sd.nii.gz", noise=0)
    volume, deviation = read_volume(path), read_volume("sd.nii.gz")
    np.testing.assert_allclose(deviation.affine, volume.affine, atol=1e-6)
    assert (deviation.shape, deviation.array.dtype) == (volume.shape, np.float32)
    record = json.loads(path.with_name("t2w_inplane-x2.json").read_bytes())
    assert record["uncertainty"]["mean"] == pytest.approx(deviation.array.mean(), rel=1e-4)
    assert record["uncertainty"]["scalar"] == 2.0
    assert record["parameters"].items() >= {"samples": 2, "seed": 0, "steps": 3}.items()
    with pytest.raises(OutputError, match="different names"):
        mrisr.inplane(study, output="same.nii", uncertainty="same.nii")
    with pytest.raises(UsageError, match="has no effect on labels"):
        mrisr.segment(study, uncertainty="x.nii.gz")
    before = sorted(Path.cwd().iterdir())

    def full(*arguments: Any, **more: Any) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("mrisr.runs.outputs.VolumeOutput.write", full)
    with pytest.raises(OutputError, match="disk full"):
        mrisr.inplane(study, scale=3, uncertainty="other.nii.gz")
    assert sorted(Path.cwd().iterdir()) == before


def test_a_parametric_map_beside_the_series(tmp_path: Path) -> None:
    from pydicom import dcmread

    series = hospital_series(tmp_path / "exam", size=24, slices=4)
    mrisr.inplane(series, scale=2, output="sr", uncertainty="sd.dcm")
    found, derived = dcmread("sd.dcm"), dcmread(next(Path("sr").iterdir()))
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.30"
    assert found.FrameOfReferenceUID == derived.FrameOfReferenceUID
    assert (found.Rows, found.NumberOfFrames) == (derived.Rows, 4)
    assert found.SeriesNumber == derived.SeriesNumber + 10
    with pytest.raises(OutputError, match=r"expected a name ending in \.dcm"):
        mrisr.inplane(series, scale=3, output="sr3", uncertainty="sd.nii.gz")
