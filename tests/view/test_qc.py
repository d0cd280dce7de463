"""The control picture: the right way up, at the right size, whatever the array looks like."""

import io
from itertools import permutations, product

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from mrisr.core.errors import UsageError
from mrisr.core.volume import Volume
from mrisr.data.phantom import phantom, phantom_affine
from mrisr.view.cuts import display_window, middle_slice, panel, spline_of
from mrisr.view.qc import qc_png

SHAPE = (40, 36, 9)
PLANES = ("axial", "coronal", "sagittal")


@pytest.fixture(scope="module")
def source() -> Volume:
    return phantom((64, 64, 10), spacing=(1.5, 1.5, 4.0), obliquity=8)


@pytest.fixture(scope="module")
def repeated(source: Volume) -> Volume:
    """The source with every slice repeated: the same picture on a finer grid."""
    affine = source.affine @ np.diag([1, 1, 0.5, 1])
    affine[:3, 3] = (source.affine @ [0, 0, -0.25, 1])[:3]
    return source.with_array(np.repeat(source.array, 2, axis=2), affine)


@pytest.fixture(scope="module")
def smooth(repeated: Volume) -> Volume:
    values = repeated.array.astype(np.float32)
    values[:, :, 1:-1] = (values[:, :, :-2] + values[:, :, 2:]) / 2
    return repeated.with_array(values)


def numbers(obliquity: float = 0.0) -> Volume:
    """A volume whose voxels all differ."""
    array = np.random.default_rng(0).permutation(np.prod(SHAPE)).reshape(SHAPE)
    return Volume(
        array.astype(np.uint16), phantom_affine(SHAPE, spacing=(0.8, 0.9, 3), obliquity=obliquity)
    )


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("obliquity", [0.0, 23.0])
def test_panel_does_not_depend_on_how_the_array_is_stored(plane: str, obliquity: float) -> None:
    volume = numbers(obliquity)
    wanted = panel(volume, plane, (0, 0, 0), 36, 0.5)
    assert np.isfinite(wanted).mean() > 0.5
    for axes in permutations(("LR", "PA", "IS")):
        for codes in product(*axes):
            found = panel(volume.reoriented("".join(codes)), plane, (0, 0, 0), 36, 0.5)
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("plane", "right", "down"),
    [
        ("axial", (-1, 0, 0), (0, -1, 0)),
        ("coronal", (-1, 0, 0), (0, 0, -1)),
        ("sagittal", (0, -1, 0), (0, 0, -1)),
    ],
)
def test_panel_is_radiological(plane: str, right: tuple[int, ...], down: tuple[int, ...]) -> None:
    """A dot 10 mm towards the right of the screen and 6 mm up lies there."""
    where = 10 * np.array(right) - 6 * np.array(down)
    affine = phantom_affine((41, 41, 41), spacing=(1, 1, 1))
    array = np.zeros((41, 41, 41), np.float32)
    index = np.rint(np.linalg.inv(affine) @ [*where, 1])[:3].astype(int)
    array[tuple(index)] = 1
    shown = panel(Volume(array, affine), plane, (0, 0, 0), 41, 1.0)
    assert np.argwhere(shown).tolist() == [[20 - 6, 20 + 10]]


def test_panel_has_the_aspect_of_the_body() -> None:
    """A ball looks round in all planes although its voxels are 0.8 x 0.9 x 3 mm."""
    volume = numbers()
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    ball = volume.with_array((np.linalg.norm(points, axis=-1) < 10.5).astype(np.uint8))
    for plane in PLANES:
        inside = np.nan_to_num(panel(ball, plane, (0, 0, 0), 36, 0.25)) > 0
        across, along = np.ptp(np.argwhere(inside), axis=0) * 0.25
        assert abs(across - 21) <= 3.3
        assert abs(along - 21) <= 3.3


def test_panel_is_empty_outside_the_volume() -> None:
    shown = panel(numbers(), "coronal", (0, 0, 0), 60, 1.0)
    assert shown.shape == (60, 60)
    assert np.isnan(shown[0]).all()
    assert np.isfinite(shown[30]).sum() in (32, 33)  # 40 voxels of 0.8 mm
    assert np.isnan(panel(numbers(), "axial", (0, 0, 500), 60, 1.0)).all()


def test_panel_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(UsageError, match="found 'frontal'"):
        panel(numbers(), "frontal", (0, 0, 0), 60, 1.0)
    with pytest.raises(UsageError, match="smaller than the panel"):
        panel(numbers(), "axial", (0, 0, 0), 1.0, 60)


def test_window_is_of_what_is_shown() -> None:
    """Neither what is no number nor fat beyond the picture changes it."""
    volume = numbers()
    values = volume.array.astype(np.float32)
    values[0, 0] = np.nan
    low, high = display_window(volume.with_array(values), (0, 0, 0))
    assert 0 <= low < 200
    assert 12500 < high <= values[1:].max()
    assert display_window(volume.with_array(np.full(SHAPE, 7)), (0, 0, 0)) == (7, 8)
    near = display_window(volume, (0, 0, 0), 16)
    values[:8], values[-8:] = 1e6, -1e6
    assert display_window(volume.with_array(values), (0, 0, 0), 16) == near


@pytest.mark.parametrize(("slices", "told"), [(9, "slice 5/9"), (10, "slice 6/10")])
@pytest.mark.parametrize("codes", ["LPS", "SAR", "RAI"])
def test_the_picture_is_of_a_slice_and_not_of_a_gap(slices: int, told: str, codes: str) -> None:
    shape = (20, 22, slices)
    affine = phantom_affine(shape, spacing=(1.0, 1.0, 3.0), obliquity=8)
    volume = Volume(np.zeros(shape, np.float32), affine)
    centre, number = middle_slice(volume.reoriented(codes))
    index = (np.linalg.inv(volume.reoriented("RAS").affine) @ [*centre, 1])[:3]
    np.testing.assert_allclose(index, [9.5, 10.5, slices // 2], atol=1e-9)
    assert number == told


def columns(picture: bytes, count: int) -> list[np.ndarray]:
    """Grey panels of a picture, cut at equal widths after the margin with the row names."""
    grey = imread(io.BytesIO(picture))[..., :3].mean(axis=-1)
    return np.split(grey[:, 26:], count, axis=1)


def test_picture_shows_input_interpolation_and_result(
    source: Volume, repeated: Volume, smooth: Volume
) -> None:
    measured, interpolated, result = columns(qc_png(repeated, source, smooth, title="x2"), 3)
    assert measured.shape[0] > 3 * 360
    assert measured.std() > 0.1
    rows = slice(-3 * 364, None)  # less the labels
    np.testing.assert_allclose(measured[rows], result[rows], atol=0.01)  # edges of the letters
    assert np.abs(measured - interpolated)[rows].mean() > 0.005


def test_the_last_column_shows_the_standard_deviation(
    source: Volume, repeated: Volume, smooth: Volume
) -> None:
    """Dark where the result is sure, in colour where it is not."""
    values = np.zeros(repeated.shape, np.float32)
    values[repeated.shape[0] // 2 :] = 3.0  # one half of the patient
    drawn = qc_png(repeated, source, smooth, uncertainty=repeated.with_array(values))
    last = columns(drawn, 4)[-1][-3 * 364 :]
    rows = slice(None, 300)
    middle = last.shape[1] // 2
    halves = sorted(
        last[rows, part].mean() for part in (slice(20, middle - 20), slice(middle + 20, -20))
    )
    assert halves[0] < 0.1 < 0.4 < halves[1]


def test_more_pixels_are_shown_whole_and_enlarged(source: Volume) -> None:
    """Two rows; what is finer than a pixel of the page is averaged in it, not left out."""
    affine = source.affine @ np.diag([1 / 16, 1 / 16, 1, 1])
    affine[:3, 3] = (source.affine @ [-15 / 32, -15 / 32, 0, 1])[:3]
    array = np.kron(source.array[24:40, 24:40].astype(np.float32), np.ones((16, 16, 1)))
    affine[:3, 3] += affine[:3, :3] @ [24 * 16, 24 * 16, 0]
    checks = np.indices(array.shape[:2]).sum(0) % 2 * 2 - 1
    fine = source.with_array(array + 200 * checks[..., None], affine)
    shown = columns(qc_png(fine, source, source.with_array(array, affine), extent_mm=20), 3)
    side = (shown[0].shape[0] - 50) // 2  # less title and labels
    assert side < 200
    whole = slice(50, 50 + side - 8)
    assert np.abs(shown[1] - shown[2])[whole].mean() < 0.02
    assert np.abs(shown[1] - shown[2])[-side:].mean() > 0.05, "the enlarged part has its own pixels"


def test_picture_with_a_reference_shows_the_difference(
    source: Volume, repeated: Volume, smooth: Volume
) -> None:
    shown = columns(qc_png(smooth, source, None, reference=repeated), 4)
    assert len({c.tobytes() for c in shown}) == 4
    same = qc_png(repeated, source, None, reference=repeated)
    assert not np.array_equal(shown[3], columns(same, 4)[3])


def test_picture_is_reproducible_and_names_nobody(source: Volume, smooth: Volume) -> None:
    named = Volume(source.array, source.affine, name="DOE^JOHN.nii")
    first = qc_png(smooth, named, None)
    assert first == qc_png(smooth, source, None)
    assert b"DOE" not in first


# --- interpolated cuts ----------------------------------------------------------------------------


@pytest.mark.parametrize("plane", PLANES)
def test_interpolation_follows_a_smooth_function(plane: str) -> None:
    shape = (40, 36, 19)
    affine = phantom_affine(shape, spacing=(0.8, 0.9, 3.0), obliquity=11.0)

    def values(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(100 * np.sin(points / 12).sum(axis=-1))

    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    volume = Volume(values(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32), affine)
    centre = (affine @ [*((np.array(shape) - 1) / 2), 1])[:3] + [0.3, -0.2, 0.7]
    axes = np.eye(3)  # which are not the volume's
    found = panel(volume, plane, centre, 12.0, 0.5, axes, spline_of(volume))
    right, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
    run = (np.arange(24) - 11.5) * 0.5
    points = np.tile(centre, (24, 24, 1))
    points[..., right] -= run[None, :]
    points[..., down] -= run[:, None]
    np.testing.assert_allclose(found, values(points), atol=0.2)


def test_interpolation_of_one_slice_and_beyond_the_end() -> None:
    array = np.random.default_rng(0).normal(size=(12, 10, 1)).astype(np.float32)
    volume = Volume(array, phantom_affine((12, 10, 1), spacing=(0.8, 0.9, 3.0)))
    middle = (volume.affine @ [5.5, 4.5, 0, 1])[:3]
    spline = spline_of(volume)
    near = panel(volume, "axial", middle, 40.0, spline=spline)
    assert (np.isfinite(near) == np.isfinite(panel(volume, "axial", middle, 40.0))).all()
    assert np.isnan(panel(volume, "axial", middle + [0, 0, 500], 40.0, spline=spline)).all()
