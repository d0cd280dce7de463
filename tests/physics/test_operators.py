"""Operators against their definitions: adjoint, pseudo-inverse, references in torch and scipy."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from mrisr.core.errors import UsageError
from mrisr.core.options import KINDS, Kind
from mrisr.physics.rows import (
    Interpolation,
    condition_length,
    degradation_matrix,
    interpolation_matrix,
)
from mrisr.physics.separable import (
    CONDITION,
    Axis,
    SeparableOperator,
    blocks_of,
    describe,
    in_plane_operator,
    through_plane_operator,
)

FACTORS = (1.0, 1.5, 2.0, 2.7, 4.0, 5.76, 6.0, 8.0)
#: The gate tries four of them, `make slow` the others.
TRIED = [
    f if f in (1.0, 2.0, 2.7, 6.0) else pytest.param(f, marks=pytest.mark.slow) for f in FACTORS
]
INTERPOLATIONS: tuple[Interpolation, ...] = (
    "bicubic",
    "bicubic-sharp",
    "bspline",
    "lanczos",
    "linear",
)
HIGH = 48


def low_size(high: int, factor: float) -> int:
    return max(1, round(high / factor))


def in_plane(kind: Kind, factor: float, high: tuple[int, int] = (48, 40)) -> SeparableOperator:
    low = (low_size(high[0], factor), low_size(high[1], factor))
    return in_plane_operator(low, high, factor, kind)


def operators() -> list[tuple[str, SeparableOperator]]:
    """Every kind at every factor, slice profiles with gap and overlap, and one on three axes."""
    named = [
        (f"{kind} x{factor:g}", in_plane(kind, factor)) for kind in KINDS for factor in FACTORS
    ]
    for kind in ("gaussian", "box"):
        for thickness in (0.8, 1.2):
            op = through_plane_operator(
                low_size(48, 5.76), 48, 5.76, kind=kind, thickness=thickness
            )
            named.append((f"{kind} x5.76 thickness {thickness}", op))
    axes = {
        -1: Axis(40, 20, 2.0),
        -2: Axis(48, 32, 1.5, "kspace"),
        -3: Axis(30, 5, 6.0, "gaussian", 1.2, "bspline"),
    }
    return [*named, ("three axes", SeparableOperator(axes))]


OPERATORS = [pytest.param(op, id=name) for name, op in operators()]


def random_pair(op: SeparableOperator) -> tuple[torch.Tensor, torch.Tensor]:
    """A random image on the target grid and one on the measured grid, float64."""
    generator = torch.Generator().manual_seed(3)
    high, low = [2, 30, 48, 40], [2, 30, 48, 40]
    for dim, axis in op.axes.items():
        high[dim], low[dim] = axis.n_high, axis.n_low
    return tuple(  # type: ignore[return-value]
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (high, low)
    )


@pytest.mark.parametrize("op", OPERATORS)
def test_adjoint(op: SeparableOperator) -> None:
    x, y = random_pair(op)
    torch.testing.assert_close((op(x) * y).sum(), (x * op.adjoint(y)).sum(), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("op", OPERATORS)
def test_pseudo_inverse_reproduces_the_measurement(op: SeparableOperator) -> None:
    _, y = random_pair(op)
    torch.testing.assert_close(op(op.pinv(y)), y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("op", OPERATORS)
def test_pseudo_inverse_has_minimum_norm(op: SeparableOperator) -> None:
    """A^+ A is an orthogonal projection: it is its own square and its own adjoint."""
    x, y = random_pair(op)
    once = op.pinv(op(x))
    torch.testing.assert_close(op.pinv(op(once)), once, rtol=0, atol=1e-9)
    other = op.pinv(y)
    torch.testing.assert_close((once * other).sum(), (x * other).sum(), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("op", OPERATORS)
def test_projection_agrees_with_the_measurement(op: SeparableOperator) -> None:
    x, y = (v.float() for v in random_pair(op))
    y = y * 0.1 + op(x)
    exact = op.project(x.double(), y.double())
    assert float((op(exact) - y.double()).abs().max()) < 1e-9
    assert float((op(op.project(x, y)) - y).square().mean().sqrt()) < 1e-6
    half = op.project(x.double(), y.double(), weight=0.5)
    torch.testing.assert_close(half, (x.double() + exact) / 2, rtol=0, atol=1e-12)
    assert op.project(x, y, weight=0) is x


@pytest.mark.parametrize("kind", [*KINDS, *INTERPOLATIONS])
@pytest.mark.parametrize("factor", TRIED)
@pytest.mark.parametrize("high", [9, 47])
def test_rows_sum_to_one(kind: Any, factor: float, high: int) -> None:
    low = low_size(high, factor)
    if kind in KINDS:
        rows = degradation_matrix(kind, high, factor)
        assert rows.shape == (low, high)
        assert not rows.flags.writeable  # they are shared
    else:
        rows = interpolation_matrix(kind, low, factor, high)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-9)


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.5, 2.0, 2.5, 4.0, 8.0])
def test_bicubic_equals_torch(factor: float) -> None:
    x = torch.rand(1, 1, 80, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    size = (expected.shape[-2], expected.shape[-1])
    op = in_plane_operator(size, (80, 40), factor, "bicubic")
    torch.testing.assert_close(op(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [2.0, 3.0, 4.0])
def test_bicubic_interpolation_equals_torch_inside(factor: float) -> None:
    """At the border torch renormalises around positions outside the samples; ours are clipped."""
    y = torch.rand(1, 1, 12, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    high = (int(12 * factor), int(15 * factor))
    expected = F.interpolate(y, size=high, mode="bicubic", antialias=True)
    op = in_plane_operator((12, 15), high, factor)
    edge = int(2 * factor)
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(op.interpolate(y)[inside], expected[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
def test_sharp_bicubic_equals_torch(factor: float) -> None:
    y = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    high = (int(12 * factor), int(16 * factor))
    expected = F.interpolate(y, size=high, mode="bicubic", align_corners=False)
    op = in_plane_operator((12, 16), high, factor).interpolating_by("bicubic-sharp")
    torch.testing.assert_close(op.interpolate(y), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1.5, 2.0, 5.76, 6.0])
def test_bspline_equals_scipy(factor: float) -> None:
    y = np.random.default_rng(0).random(13)
    high = round(13 * factor)
    position = (np.arange(high) + 0.5) / factor - 0.5
    expected = ndimage.map_coordinates(y, [position], order=3, mode="reflect")
    result = interpolation_matrix("bspline", 13, factor, high) @ y
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("kind", INTERPOLATIONS)
def test_interpolation_passes_through_the_samples(kind: Interpolation) -> None:
    """At an odd factor every sample is a voxel centre of the target grid."""
    y = np.random.default_rng(0).random(9)
    result = interpolation_matrix(kind, 9, 3.0, 27) @ y
    np.testing.assert_allclose(result[1::3], y, atol=1e-9)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.0, 6.0])
def test_kspace_keeps_what_the_band_holds(factor: float) -> None:
    """A periodic signal inside the band is sampled exactly, at the new voxel centres."""
    low = low_size(HIGH, factor)
    centres = (np.arange(low) + 0.5) * factor - 0.5
    rows = degradation_matrix("kspace", HIGH, factor)
    for k in range(int(np.ceil(HIGH / (2 * factor)))):
        for phase in (0.0, 1.1):
            signal = np.cos(2 * np.pi * k * np.arange(HIGH) / HIGH + phase)
            expected = np.cos(2 * np.pi * k * centres / HIGH + phase)
            np.testing.assert_allclose(rows @ signal, expected, atol=1e-12)


@pytest.mark.parametrize(("low", "factor"), [(18, 2.7), (20, 2.22), (37, 5.76), (64, 1.53)])
def test_kspace_rows_are_independent_at_fractional_factors(low: int, factor: float) -> None:
    """Where factor and sizes do not divide, the band still holds as many frequencies as samples."""
    for high in (int(low * factor), int(low * factor) + 1):
        values = np.linalg.svd(degradation_matrix("kspace", high, factor, n_low=low))[1]
        assert values[-1] > 0.2 * values[0]


@pytest.mark.parametrize("factor", [2.0, 3.0, 5.0])
def test_kspace_removes_what_the_band_does_not_hold(factor: float) -> None:
    rows = degradation_matrix("kspace", 60, factor)
    for k in range(int(np.floor(60 / (2 * factor))) + 1, 31):
        signal = np.cos(2 * np.pi * k * np.arange(60) / 60 + 0.4)
        assert np.abs(rows @ signal).max() < 1e-12


# --- geometry -------------------------------------------------------------------------------------


def centroid(y: torch.Tensor, dim: int, factor: float) -> float:
    """Centroid along ``dim``, in voxels of the target grid."""
    along = y.movedim(dim, -1).reshape(-1, y.shape[dim]).sum(0)
    index = (torch.arange(len(along), dtype=y.dtype) + 0.5) * factor - 0.5
    return float((along * index).sum() / along.sum())


@pytest.mark.parametrize("factor", TRIED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_stays_where_it_is(kind: Kind, factor: float) -> None:
    """The degraded and the interpolated blob lie where the original does, to a hundredth of a voxel."""
    high = (160, 144)
    r, c = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in high), indexing="ij")
    width = max(4.0, 1.2 * factor)
    blob = torch.exp(-((r - 81.3) ** 2 + (c - 69.8) ** 2) / (2 * width**2))
    op = in_plane(kind, factor, high)
    y = op(blob)
    back = op.interpolate(y)
    for dim in (-2, -1):
        where = centroid(blob, dim, 1.0)
        assert centroid(y, dim, factor) == pytest.approx(where, abs=0.01)
        assert centroid(back, dim, 1.0) == pytest.approx(where, abs=0.01)


# --- the object -----------------------------------------------------------------------------------


def test_leading_dimensions_and_dtypes() -> None:
    op = in_plane("bicubic", 2.0)
    x = torch.rand(2, 3, 48, 40)
    assert op(x).shape == (2, 3, 24, 20)
    torch.testing.assert_close(op(x)[1, 2], op(x[1, 2]))
    assert op((x * 100).short()).dtype == torch.float32
    assert op(x.bfloat16()).dtype == torch.float32
    assert op(x.double()).dtype == torch.float64


def test_wrong_sizes_and_axes_are_named() -> None:
    with pytest.raises(ValueError, match="expected 48 voxels, got 40"):
        in_plane("bicubic", 2.0)(torch.zeros(40, 40))
    with pytest.raises(ValueError, match="negative"):
        SeparableOperator({0: Axis(4, 2, 2.0)})
    with pytest.raises(ValueError, match="rows and columns"):
        describe(SeparableOperator({-3: Axis(30, 5, 6.0)}))


@pytest.mark.parametrize(
    "arguments", [("bicubic", 10, 0.5), ("box", 10, 2.0, 0.0), ("blur", 10, 2.0)]
)
def test_impossible_degradations_are_refused(arguments: tuple[Kind, int, float]) -> None:
    with pytest.raises(ValueError, match=r"factor|thickness|blur"):
        degradation_matrix(*arguments)


def test_describe() -> None:
    both = describe(in_plane("kspace", 4.0))
    assert both.shape == (CONDITION,)
    assert both.tolist() == [2, 2, 0, 1, 0, 0, 0]
    rows = describe(through_plane_operator(8, 48, 6.0, thickness=0.5))
    assert rows.tolist() == pytest.approx([np.log2(6), 0, 0, 0, 1, 0, -1])
    columns = describe(through_plane_operator(8, 48, 6.0, kind="box", dim=-1))
    assert columns.tolist() == pytest.approx([0, np.log2(6), 0, 0, 0, 1, 0])


def test_a_model_is_told_the_kinds_that_its_card_lists() -> None:
    """A new kind of degradation leaves the vector of an older model as it was."""
    known = ("kspace", "bicubic")
    found = describe(in_plane_operator((8, 8), (16, 16), 2.0, "bicubic"), known)
    assert found.tolist() == [1, 1, 0, 1, 0]
    assert len(found) == condition_length(known)
    with pytest.raises(UsageError, match="knows kspace, bicubic, not gaussian"):
        describe(through_plane_operator(8, 48, 6.0), known)


def test_only_lines_that_disagree_are_iterated() -> None:
    """Along one axis the result is that of iterating all lines, and the others stay as they are."""
    operator = through_plane_operator(6, 36, 6.0, kind="gaussian", thickness=1.0)
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(36, 40, generator=generator) * 2 - 1
    truth[:, :5] = -1  # touches the bound: interpolation overshoots it
    truth[10:14, :5] = 1
    y = operator(truth)
    x = operator.project(operator.interpolate(y), y)
    found = operator.project_within(x, y, (-1.0, 1.0), tolerance=6e-4)
    whole = operator.iterated(x.clamp(-1, 1), y, (-1.0, 1.0), 6e-4, 200)
    torch.testing.assert_close(found, whole, atol=5e-3, rtol=0)
    assert float((operator(found) - y).square().mean().sqrt()) <= 6.1e-4
    inside = (x.abs() <= 1).all(0)
    assert bool(inside.any())
    assert not bool(inside.all())
    assert torch.equal(found[:, inside], x[:, inside])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("role", ["degrade", "adjoint", "pinv", "interpolate"])
@pytest.mark.parametrize("kind", KINDS)
def test_matrices_in_blocks_are_the_whole_ones(kind: Kind, role: str, dtype: torch.dtype) -> None:
    """Also where every block reaches over few of the columns."""
    operator = SeparableOperator({dim: Axis(400, 200, 2.0, kind) for dim in (-1, -2, -3)})
    for dim in operator.axes:
        matrix = operator.matrix(role, dim)
        shape = [3, 4, 5]
        shape[dim] = matrix.shape[1]
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        blocks = blocks_of(matrix, dtype, x.device)
        found = torch.cat([block(x.to(dtype), dim) for block in blocks], dim)
        wanted = np.moveaxis(np.moveaxis(x.numpy(), dim, -1) @ matrix.T, -1, dim)
        scale = np.abs(matrix).sum(1).max()
        np.testing.assert_allclose(found, wanted, atol=16 * torch.finfo(dtype).eps * scale)
    if kind == "bicubic" and role != "pinv":
        assert max(block.columns.stop - block.columns.start for block in blocks[:-1]) < 200
