"""One volume of several planes, on a moving phantom whose truth is known."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

import mrisr
from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom
from mrisr.dicom.conformance import check_derived
from mrisr.dicom.source import read_source
from mrisr.io import read_volume, write_volume
from mrisr.planes import joint, slices
from mrisr.runs.record import FORMAT
from tests.dicom.synthetic import hospital_series
from tests.planes.conftest import MOTIONS, SHAPE, stack


@pytest.fixture(scope="module")
def exam() -> dict[str, Volume]:
    return {plane: stack(plane) for plane in MOTIONS}


@pytest.fixture(scope="module")
def truth(exam: dict[str, Volume]) -> NDArray[np.float32]:
    """The phantom on the joint grid, away from the edges of the field."""
    shape, affine = geometry.resampled_grid(SHAPE, exam["axial"].affine, (1, 1, 3))
    return np.asarray(phantom(shape, affine, slice_thickness=1.4, dtype=np.float32).array)


def error_db(found: NDArray[Any], truth: NDArray[np.float32]) -> float:
    inner = (slice(10, -10),) * 3
    return float(10 * np.log10(np.mean(np.square(found[inner] - truth[inner]))))


@pytest.fixture(scope="module", autouse=True)
def _the_gland_is_where_the_phantom_has_it() -> Iterator[None]:
    """What finds the gland has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "segmented_centre", lambda volume: np.zeros(3))
        yield


@pytest.fixture(scope="module")
def registered_to() -> list[Volume]:
    """The volumes that the stacks of ``made`` were registered to."""
    return []


@pytest.fixture(scope="module")
def made(exam: dict[str, Volume], registered_to: list[Volume]) -> Any:
    axial, coronal, sagittal = exam.values()
    settings = mrisr.ThroughPlane(model="bspline")

    def register(stack: Volume, volume: Volume, centre: NDArray[np.float64]) -> slices.Fit:
        registered_to.append(volume)
        return slices.register_slices(stack, volume, centre)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "register_slices", register)
        return mrisr.run(axial, settings, coronal=coronal, sagittal=sagittal)


def test_three_planes_show_more_than_one(
    exam: dict[str, Volume], made: Any, truth: NDArray[np.float32]
) -> None:
    alone = mrisr.throughplane(exam["axial"], model="bspline")
    assert made.volume.shape == alone.shape == truth.shape
    np.testing.assert_allclose(made.volume.affine, alone.affine, atol=1e-9)
    assert error_db(made.volume.array, truth) < error_db(alone.array, truth) - 1.5


def test_stacks_are_registered_to_what_is_0_without_signal(
    exam: dict[str, Volume], made: Any, registered_to: list[Volume]
) -> None:
    """Their shading is a gain, which a volume scaled to -1..1 would not bear."""
    assert len(registered_to) == 2
    for volume in registered_to:
        assert volume.array.max() == pytest.approx(exam["axial"].array.max(), rel=0.2)
        assert volume.array.min() >= 0


def test_the_record_tells_motion_and_agreement_of_every_plane(made: Any) -> None:
    record = made.record.as_dict()
    assert record["format"] == FORMAT
    assert record["parameters"]["spacing_mm"] == 1.4
    assert 0.5 < record["residual"]["rms_of_noise"] < 3
    for plane, name in zip(record["planes"], ("coronal", "sagittal"), strict=True):
        assert plane["input"]["plane"] == name
        np.testing.assert_allclose(plane["matrix_ras_mm"], MOTIONS[name], atol=0.6)
        assert np.allclose(plane["shift_mm"], MOTIONS[name][:3, 3], atol=0.4)
        assert plane["agreement"] > 0.5
        assert plane["uncertainty_mm"] < 0.5
        assert plane["left_out"] is None
    assert "3 planes" in made.record.line()


def test_the_picture_shows_all_planes(made: Any) -> None:
    assert made.picture().startswith(b"\x89PNG")


def test_a_stack_that_contradicts_is_left_out_and_the_axial_result_stands(
    exam: dict[str, Volume],
) -> None:
    noise = np.random.default_rng(0).normal(500, 100, SHAPE).astype(np.float32)
    wrong = replace(exam["coronal"], array=noise)
    settings = mrisr.ThroughPlane(model="bspline")
    made = mrisr.run(exam["axial"], settings, coronal=wrong)
    assert made.record.planes[0].left_out
    assert any("the coronal stack was left out" in note for note in made.notes)
    alone = mrisr.throughplane(exam["axial"], model="bspline")
    np.testing.assert_allclose(made.volume.array, alone.array, atol=1e-3 * np.ptp(alone.array))


def test_options_of_several_planes_are_refused_for_one(exam: dict[str, Volume]) -> None:
    with pytest.raises(UsageError, match="register: has no effect on one stack"):
        mrisr.throughplane(exam["axial"], register="off", model="bspline")
    with pytest.raises(UsageError, match="further planes are for through-plane"):
        mrisr.inplane(exam["axial"], coronal=exam["coronal"])


def test_two_stacks_of_one_plane_are_refused(exam: dict[str, Volume]) -> None:
    with pytest.raises(InputError, match="a stack across coronal, found another coronal one"):
        mrisr.throughplane(exam["axial"], coronal=exam["coronal"], sagittal=exam["coronal"])


def test_a_stack_that_hardly_overlaps_adds_nothing(exam: dict[str, Volume]) -> None:
    """The last sagittal slice reaches the axial stack with less than its thickness."""
    aside = exam["sagittal"].affine.copy()
    aside[0, 3] += 66
    sagittal = replace(exam["sagittal"], affine=aside)
    settings = mrisr.ThroughPlane(model="bspline", register="off")
    made = mrisr.run(exam["axial"], settings, sagittal=sagittal)
    assert made.record.planes[0].agreement == 0
    assert made.record.planes[0].left_out
    with pytest.raises(InputError, match="found too little overlap"):
        mrisr.run(exam["axial"], replace(settings, register="auto"), sagittal=sagittal)


def test_the_command_takes_the_planes_as_files(
    exam: dict[str, Volume],
    tmp_path: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joint, "register_slices", lambda *_: pytest.fail("told not to register"))
    for plane, volume in exam.items():
        write_volume(volume, tmp_path / f"{plane}.nii.gz")
    given = [f"--{plane}={tmp_path / plane}.nii.gz" for plane in exam]
    out = tmp_path / "joint.nii.gz"
    code, _, error = run("throughplane", *given, "--register=off", "--model=bspline", "-o", out)
    assert code == 0, error
    assert read_volume(out).shape == (52, 52, 48)
    code, _, error = run("throughplane", *given, "--model=bspline", "-o", tmp_path / "axial.nii.gz")
    assert code != 0
    assert "axial.nii.gz" in error


def test_a_derived_series_names_the_slices_of_all_planes(tmp_path: Path) -> None:
    """The stacks are taken as they lie: of their agreement there are tests above."""
    axial = hospital_series(tmp_path / "axial", size=48, slices=10, SliceThickness="3.5")
    coronal = hospital_series(
        tmp_path / "coronal", size=48, slices=10, plane="coronal", number=6, SliceThickness="3.5"
    )
    mrisr.throughplane(
        axial,
        coronal=coronal,
        spacing=1.5,
        register="off",
        model="bspline",
        output=tmp_path / "joint",
    )
    source = read_source(axial)
    other = read_source(coronal)
    wrong = check_derived(tmp_path / "joint", replace(source, others=(other,)))
    assert not wrong
    first = dcmread(next((tmp_path / "joint").iterdir()))
    named = {str(item.ReferencedSOPInstanceUID) for item in first.SourceImageSequence}
    assert {one.sop_uid for one in other.slices} <= named
    assert named & {one.sop_uid for one in source.slices}
    assert "2 planes" in first.SeriesDescription


def test_thickness_and_noise_that_are_stated_count(
    exam: dict[str, Volume], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def look(grid: Any, stacks: Any) -> Any:
        seen["thickness"] = [stack.volume.slice_thickness for stack in stacks]
        seen["noise"] = [stack.noise for stack in stacks]
        return stacks[0].restored

    monkeypatch.setattr(joint, "reconstruct", look)
    mrisr.throughplane(
        exam["axial"],
        coronal=exam["coronal"],
        register="off",
        slice_thickness=3.0,
        noise=0.05,
        spacing=2.0,
    )
    assert seen["thickness"] == pytest.approx([3.0, 3.0], rel=1e-4)
    assert seen["noise"] == pytest.approx([0.1, 0.1])
