"""A model is adapted to a scan: it gains there or stays, and the one that was given is never changed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mrisr
from mrisr.core.errors import InputError, OutputError, UsageError
from mrisr.core.options import Sampling
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.io import read_volume, write_volume
from mrisr.models.store import Model, load_model
from mrisr.physics import thickness
from mrisr.physics.measurement import Measurement, measure_in_plane, measure_through_plane
from mrisr.physics.thickness import Thickness, estimated_thickness
from mrisr.training import adapt
from mrisr.training.adapt import adapted, own_images

pytestmark = pytest.mark.usefixtures("models")
STEPS = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models learn in few steps at a high rate."""
    monkeypatch.setattr(adapt, "LEARNING_RATE", 5e-3)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return phantom((60, 56, 8), spacing=(0.8, 0.8, 2.4), noise=0.02)


@pytest.fixture
def study(volume: Volume, tmp_path: Path) -> Path:
    return write_volume(volume, tmp_path / "t2w.nii.gz")


def measured(volume: Volume, job: str) -> Measurement:
    found = (
        measure_in_plane(volume, 2.0) if job == "inplane" else measure_through_plane(volume, 3.0)
    )
    return found.with_estimated_noise()


def weights(model: Model) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.restorer.network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("job", ["inplane", "throughplane"])
def test_a_copy_gains_on_slices_held_back(job: str, volume: Volume) -> None:
    """The model of random weights is far from the phantom's texture, so that a few steps help; it is left as
    it was, and the same steps make the same copy."""
    model = load_model(f"partdiff-{job}")
    before, state = weights(model), torch.get_rng_state()
    told: list[tuple[int, int]] = []
    new, report = adapted(
        model, [measured(volume, job)], steps=STEPS, progress=lambda *of: told.append(of)
    )
    assert report.kept
    assert report.psnr_after > report.psnr_before + adapt.LEAST_GAIN
    assert (report.steps, report.minutes, report.slices, report.held_back) == (STEPS, None, 8, 1)
    assert told == [(i + 1, STEPS) for i in range(STEPS)]
    assert same(before, weights(model))
    assert torch.equal(state, torch.get_rng_state())
    assert not same(before, weights(new))
    assert new.card.sha256 == report.sha256 != model.card.sha256 == report.base_sha256
    assert new.card.adaptation == report
    assert new.card.name == f"partdiff-{job}-adapted"
    assert new.card.training.initialized_from == f"partdiff-{job}"
    again, _ = adapted(model, [measured(volume, job)], steps=STEPS)
    other, _ = adapted(model, [measured(volume, job)], Sampling(seed=1), steps=STEPS)
    assert same(weights(new), weights(again))
    assert not same(weights(new), weights(other))


def test_without_a_gain_the_given_model_comes_back(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "LEARNING_RATE", 3.0)  # which ruins it
    model = load_model("partdiff-inplane")
    found, report = adapted(model, [measured(volume, "inplane")], steps=STEPS)
    assert found is model
    assert not report.kept
    assert report.psnr_after < report.psnr_before
    assert "partdiff-inplane was used as it is" in report.in_words


def test_a_budget_is_one_of_the_clock(volume: Volume) -> None:
    _, report = adapted(
        load_model("partdiff-inplane"), [measured(volume, "inplane")], minutes=1 / 60
    )
    assert report.minutes == 1 / 60
    assert 0.5 < report.seconds < 5
    assert report.steps > 3


def test_what_is_held_back_is_not_learned_from(volume: Volume) -> None:
    (source,) = own_images(measured(volume, "inplane"))
    learned, held = source.split()
    assert len(learned) + len(held) == len(source.images)
    for image in held:
        assert not any(torch.equal(image, other) for other in learned)


def test_own_images_have_the_pixels_of_reformatted_ones(volume: Volume) -> None:
    """Rows at the target's spacing, columns as the reformatted images' columns."""
    stretched = replace(
        volume, affine=volume.affine @ np.diag([1.0, 1.25, 1, 1]), stacked_along=2
    )  # pixels of 0.8 and 1 mm
    fine, coarse = (measure_through_plane(stretched, f) for f in (3.0, 2.0))
    assert [tuple(s.images.shape[1:]) for s in own_images(fine)] == [(60, 56), (56, 60)]
    # slices of 1.2 mm: 60 pixels of 0.8 mm are 40, 56 of 1 mm are 47
    assert [tuple(s.images.shape[1:]) for s in own_images(coarse)] == [(40, 56), (47, 60)]


def test_what_cannot_be_adapted_is_refused(volume: Volume) -> None:
    with pytest.raises(UsageError, match="adapt: has no effect on bspline"):
        adapted(load_model("bspline"), [measured(volume, "throughplane")], steps=1)
    few = replace(volume, array=volume.array[..., :4], stacked_along=2)
    with pytest.raises(InputError, match="expected 5 slices to adapt to, found 4"):
        adapted(load_model("partdiff-inplane"), [measured(few, "inplane")], steps=1)
    with pytest.raises(UsageError, match="expected minutes or steps"):
        adapted(load_model("partdiff-inplane"), [measured(volume, "inplane")])


# --- runs -----------------------------------------------------------------------------------------


def test_a_saved_model_gives_the_voxels_of_the_run(
    study: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    asked = ["throughplane", study, "--factor", 3, "--slice-thickness", 2.4, "--adapt-steps", STEPS]
    folder = tmp_path / "mine"
    code, _, err = run(*asked, "--save-adapted", folder, "-o", tmp_path / "a.nii.gz")
    assert code == 0, err
    assert f"note: adapted to the scan in {STEPS} steps" in err
    assert f"{STEPS} of {STEPS} steps of adaptation" in err
    record = json.loads((tmp_path / "a.json").read_text())
    model = load_model(folder)
    assert record["parameters"]["adapt_steps"] == STEPS
    assert record["adaptation"]["kept"] is True
    assert record["model"]["sha256"] == record["adaptation"]["sha256"] == model.card.sha256
    told = model.card.adaptation
    assert told is not None
    assert told.inputs_sha256 == (record["input"]["sha256"],)
    mrisr.throughplane(
        study, factor=3, slice_thickness=2.4, model=str(folder), output=tmp_path / "b.nii.gz"
    )
    plain = mrisr.throughplane(study, factor=3, output=tmp_path / "c.nii.gz")
    a, b, c = (read_volume(tmp_path / f"{name}.nii.gz").array for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, read_volume(plain).array)
    assert "adaptation" not in json.loads((tmp_path / "c.json").read_text())
    assert c.shape == a.shape


def test_images_of_another_adaptation_have_other_uids(study: Path) -> None:
    """UIDs follow from the weights that were used, not from the minutes that were asked for."""
    results = [
        mrisr.run(read_volume(study), mrisr.InPlane(scale=2, adapt_steps=STEPS + n))
        for n in (0, 0, 1)
    ]
    for r in results:
        del r.record.parameters["adapt_steps"]
    keys = [r.record.derivation().key for r in results]
    assert keys[0] == keys[1] != keys[2]
    assert results[0].adapted is not None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--save-adapted", "mine"], "save-adapted: has no effect without --adapt"),
        (["--adapt", "1", "--adapt-steps", "2"], "--adapt or --adapt-steps, not both"),
        (["--adapt", "0"], "adapt: expected 0.01 to 1440, found 0"),
        (["--adapt", "1", "--method", "bicubic"], "adapt: has no effect on bicubic"),
    ],
)
def test_refusals_are_one_line(
    more: list[str], words: str, study: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = run("inplane", study, "-o", study.with_name("out.nii.gz"), *more)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert words in err


def test_a_model_is_not_overwritten(study: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(OutputError, match="holds a model; --force replaces it"):
        mrisr.inplane(study, scale=2, adapt_steps=1, save_adapted=tmp_path)


@pytest.mark.slow
def test_all_planes_of_a_patient_are_learned_from(tmp_path: Path) -> None:
    stacks = {
        plane: phantom((48, 48, 8), plane=plane, spacing=(0.8, 0.8, 2.4), noise=0.02)
        for plane in ("axial", "coronal")
    }
    found = mrisr.run(
        stacks["axial"],
        mrisr.ThroughPlane(spacing=1.2, adapt_steps=4, register="off"),
        coronal=stacks["coronal"],
    )
    told = found.record.adaptation
    assert told is not None
    assert (told.slices, told.held_back) == (16, 2)


# --- slice thickness ------------------------------------------------------------------------------


def texture(mm: float, seed: int) -> Tensor:
    """Slices 3 mm apart of an isotropic random texture, with 0.5 mm pixels, in -1..1."""
    rng = np.random.default_rng(seed)
    f = [np.fft.fftfreq(n, 0.5) for n in (144, 96, 96)]
    square = f[0][:, None, None] ** 2 + f[1][:, None] ** 2 + f[2] ** 2
    spectrum = np.fft.fftn(rng.normal(size=square.shape)) / (1 + square / 0.05**2)
    spectrum *= np.exp(-(f[0][:, None, None] ** 2) * (np.pi * mm) ** 2 / (4 * np.log(2)))
    slices = np.fft.ifftn(spectrum).real[::6]
    return torch.from_numpy(slices / (3 * slices.std())).float()


@pytest.mark.parametrize("mm", [2.0, 3.0, 4.5])
def test_thickness_is_found_where_tissue_is_alike_in_all_directions(mm: float) -> None:
    found = estimated_thickness(texture(mm, 1), (3.0, 0.5, 0.5))
    assert found is not None
    assert 3 * found.ratio == pytest.approx(mm, rel=0.15)
    assert 0 < found.sd < 0.5


def test_thickness_cannot_be_told_from_a_few_slices_or_even_voxels() -> None:
    y = texture(3.0, 1)
    assert estimated_thickness(y[:5], (3.0, 0.5, 0.5)) is None
    assert estimated_thickness(y, (1.0, 1.0, 1.0)) is None


@pytest.mark.parametrize(
    ("ratio", "sd", "taken", "why"),
    [(0.5, 0.05, 1.2, "estimate"), (0.8, 0.1, 2.4, "slice spacing")],
)
def test_an_estimate_counts_where_it_is_sure(
    study: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, sd: float, taken: float, why: str
) -> None:
    """And where nobody states the thickness; the record has it either way."""
    found = Thickness(ratio, sd)
    monkeypatch.setattr(thickness, "estimated_thickness", lambda *of: found)
    volume = read_volume(study)
    told = mrisr.run(volume, mrisr.ThroughPlane(factor=3, adapt_steps=1)).record
    assert told.parameters["slice_thickness_mm"] == taken
    assert told.parameters["slice_thickness_from"] == why
    assert told.parameters["slice_thickness_estimate_mm"] == [2.4 * ratio, 2.4 * sd]
    said = f"estimated from the volume: {2.4 * ratio:g} mm (SD {2.4 * sd:g}); {taken:g} mm assumed"
    assert any(said in note for note in told.notes)
    settings = mrisr.ThroughPlane(factor=3, adapt_steps=1, slice_thickness=2.0)
    assert mrisr.run(volume, settings).record.parameters["slice_thickness_from"] == "option"
    plain = mrisr.run(volume, mrisr.ThroughPlane(factor=3)).record
    assert "slice_thickness_estimate_mm" not in plain.parameters
