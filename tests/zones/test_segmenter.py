"""Segmenters of every kind: which one is loaded, on what it is run, and the grid of its labels; and the
project's own on places, orientations and thin slices, with a network whose answer is known."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.models.store import load_model
from mrisr.zones.labels import PZ, TZ, LabelTable
from mrisr.zones.network import ZonesModel, load_zones_model
from mrisr.zones.segmenter import Segmenter, ZonesSegmenter, load_segmenter, make_segmenter
from tests.zones.models import bundle, image, random_zones_model


@dataclass(frozen=True, eq=False, kw_only=True)
class Everything(Segmenter):
    """Labels all it sees peripheral zone, and keeps what that was."""

    seen: list[Volume] = field(default_factory=list)

    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        self.seen.append(volume)
        return np.full(volume.shape, PZ, np.uint8), ("a note",)


EVERYTHING = Everything(kind="mrisr", name="all", sha256="0" * 64, device=torch.device("cpu"))


@pytest.mark.parametrize("codes", ["LPS", "SRA"])
def test_a_margin_is_left_out_in_the_plane(codes: str) -> None:
    volume, segment = image(codes, degrees=10), replace(EVERYTHING, margin=0.25, seen=[])
    found = segment(volume)
    along = geometry.world_axes(volume.affine)
    cut = [n if w == 2 else n - 2 * (n // 4) for n, w in zip(volume.shape, along, strict=True)]
    (seen,) = segment.seen
    assert seen.shape == tuple(cut)
    assert found.labels.shape == volume.shape
    assert int((found.labels.array == PZ).sum()) == np.prod(cut)
    at = np.argwhere(found.labels.array == PZ)[0]
    np.testing.assert_allclose(volume.affine @ [*at, 1], seen.affine @ [0, 0, 0, 1])
    np.testing.assert_array_equal(volume.array[tuple(at)], seen.array[0, 0, 0])
    assert found.notes == ("a note",)


def test_only_thick_slices_need_to_be_axial() -> None:  # thick ones: tests/reliability
    coronal = image("RSA", spacing=(1.0, 1.0, 1.0))
    assert EVERYTHING(coronal).labels.shape == coronal.shape


def test_the_digest_is_of_all_that_decides(tmp_path: Path) -> None:
    root, file = bundle(tmp_path / "bundle"), tmp_path / "table.yaml"
    file.write_text("{1: PZ, 2: TZ}")
    tables = (LabelTable.parse("1=PZ,2=TZ"), {1: "PZ", 2: "TZ"}, "1=PZ,2=TZ", file)
    alike = {load_segmenter(Segmenting(bundle=root, table=table)).sha256 for table in tables}
    others = [load_segmenter(Segmenting(bundle=root, margin=margin)) for margin in (0.0, 0.2, 0.25)]
    assert len(alike) == 1
    assert len({*alike, *(other.sha256 for other in others)}) == 4
    assert [other.margin for other in others] == [0.0, 0.2, 0.25]


def test_models_are_not_mistaken(tmp_path: Path, models: Path) -> None:
    with pytest.raises(UsageError, match="one that segments zones"):
        load_segmenter(Segmenting(model="partdiff-inplane"))
    with pytest.raises(UsageError, match="one that restores"):
        load_model(random_zones_model(tmp_path))


LPS = np.array([[-1.0, 0, 0, 40], [0, -1, 0, 50], [0, 0, 1, -20], [0, 0, 0, 1]])


class ByIntensity(nn.Module):
    """Bright is peripheral, middling transition zone, dark background; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.slices: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.slices.append(x.shape[2])
        levels = torch.tensor([0.1, 0.9, 0.5]).reshape(1, 3, 1, 1, 1)
        return -200 * (x - levels).square()


def segmenter(folder: Path, **card: object) -> tuple[ZonesSegmenter, ByIntensity]:
    model = load_zones_model(random_zones_model(folder))
    network = ByIntensity()
    made = model.card.model_copy(update={"pixel_mm": 1.0, "window": (64, 8), **card})
    return make_segmenter(ZonesModel(made, network), "cpu"), network  # type: ignore[arg-type]


def study(spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> tuple[Volume, Volume]:
    """A gland of two boxes, off the middle, and its labels; 96 x 80 x 36 mm."""
    size = tuple(round(n / s) for n, s in zip((96, 80, 36), spacing, strict=True))
    affine = LPS @ np.diag([*spacing, 1.0])
    mm = [(np.arange(n) + 0.5) * s for n, s in zip(size, spacing, strict=True)]
    x, y, z = np.meshgrid(*mm, indexing="ij")
    gland = (abs(x - 56) < 20) & (abs(y - 34) < 14) & (abs(z - 17) < 12)
    inner = (abs(x - 56) < 12) & (abs(y - 30) < 8) & (abs(z - 17) < 9)
    labels = np.where(inner, 2, np.where(gland, 1, 0)).astype(np.uint8)
    image = np.array([100, 900, 500], np.uint16)[labels]
    image[0, 0, 0] = 0
    return Volume(image, affine), Volume(labels, affine)


def dice(a: Volume, b: Volume, label: int) -> float:
    x, y = a.array == label, b.array == label
    return float(2 * (x & y).sum() / (x.sum() + y.sum()))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI", "SPL", "IAR", "PSR"])
def test_the_order_of_the_array_makes_no_difference(tmp_path: Path, codes: str) -> None:
    segment, _ = segmenter(tmp_path)
    image, labels = (v.reoriented(codes) for v in study())
    found = segment(image)
    assert found.notes == ()
    assert np.array_equal(found.labels.affine, image.affine)
    assert np.array_equal(found.labels.array, labels.array)


@pytest.mark.parametrize("pixel", [0.5, 0.6, 0.993, 1.3])
def test_other_pixels(tmp_path: Path, pixel: float) -> None:
    segment, _ = segmenter(tmp_path)
    volume, labels = study((pixel, pixel, 3.0))
    found = segment(volume).labels
    assert found.shape == volume.shape
    for label in (1, 2):
        assert dice(found, labels, label) > 0.93


def test_thin_slices_are_dealt_out(tmp_path: Path) -> None:
    segment, network = segmenter(tmp_path)
    volume, labels = study((1.0, 1.0, 0.5))
    found = segment(volume).labels
    assert np.array_equal(found.array, labels.array)
    assert max(network.slices) == 8  # windows over 12 slices of 3 mm, none over 72 of 0.5 mm
    # One pass to find the gland, then two looks at each of six stacks, in windows of 8 of 12 slices.
    assert network.slices.count(8) == len(network.slices)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_thin_slices_than_stacks(tmp_path: Path, count: int) -> None:
    segment, _ = segmenter(tmp_path)
    volume, labels = study((1.0, 1.0, 0.5))
    middle = slice(34, 34 + count)
    found = segment(volume.with_array(volume.array[..., middle].copy())).labels
    assert np.array_equal(found.array, labels.array[..., middle])


def test_places_do_not_drift_where_pixels_are_nearly_those_of_the_network(tmp_path: Path) -> None:
    """Half a percent, far from the first pixel: the borders of the labels stay where the image has them."""
    segment, _ = segmenter(tmp_path)
    affine = LPS @ np.diag([1.005, 1.005, 3.0, 1.0])
    labels = np.zeros((300, 300, 8), np.uint8)
    labels[240:280, 236:276], labels[250:270, 246:266] = 1, 2
    image = np.array([100, 900, 500], np.uint16)[labels]
    image[0, 0, 0] = 0
    found = segment(Volume(image, affine)).labels.array
    for axis in (0, 1):
        ends = [np.flatnonzero((v > 0).any((1 - axis, 2)))[[0, -1]] for v in (found, labels)]
        assert abs(ends[0] - ends[1]).max() <= 1
        centres = [
            np.average(np.arange(300), weights=(v > 0).sum((1 - axis, 2))) for v in (found, labels)
        ]
        assert abs(centres[0] - centres[1]) < 0.6  # a border may round up by a pixel


def test_nothing_is_found_in_nothing(tmp_path: Path) -> None:
    segment, _ = segmenter(tmp_path)
    volume, _ = study()
    dark = np.full(volume.shape, 100, np.uint16)
    dark[0, :, :], dark[-1, :12, 0] = 0, 5000  # so bright that the rest is scaled to a fiftieth
    found = segment(volume.with_array(dark))
    assert not found.labels.array.any()
    assert found.check == ("no prostate was found",)


def test_only_the_largest_gland_is_kept(tmp_path: Path) -> None:
    segment, _ = segmenter(tmp_path)
    volume, labels = study()
    volume.array[30:34, 30:34, 3:5] = 900  # within the window around the gland
    assert np.array_equal(segment(volume).labels.array, labels.array)


def test_a_second_look_finds_the_gland_beside_something_larger(tmp_path: Path) -> None:
    """A bright mass at the edge of the field is taken for the gland, until only the middle is searched."""
    segment, _ = segmenter(tmp_path)
    labels = np.zeros((180, 160, 12), np.uint8)
    labels[70:110, 70:100, 3:10], labels[78:102, 66:80, 3:10] = 1, 2
    array = np.array([100, 900, 500], np.uint16)[labels]
    plain = segment(Volume(array, LPS @ np.diag([1, 1, 3, 1])))
    assert plain.notes == plain.check == ()
    array[5:60, 125:158] = 900
    found = segment(plain.labels.with_array(array))
    assert "second look" in found.notes[0]
    assert found.check == ()
    gland = found.labels.array > 0
    assert gland[:60].sum() == 0
    assert (gland & (labels > 0)).sum() > 0.8 * gland.sum()


def test_same_answer_twice_and_from_its_path(tmp_path: Path) -> None:
    card = random_zones_model(tmp_path)
    volume, _ = study((2.0, 2.0, 3.0))
    first, second = (
        load_segmenter(Segmenting(model=str(path), device="cpu"))
        for path in (card, card.with_suffix(".safetensors"))
    )
    assert first.sha256 == second.sha256 != ""
    assert np.array_equal(first(volume).labels.array, second(volume).labels.array)


@pytest.mark.parametrize(
    ("text", "meanings"),
    [
        ("1=TZ,2=PZ", {0: 0, 1: TZ, 2: PZ}),
        (" 7 = Peripheral zone , 3=central gland,9=tz", {0: 0, 3: TZ, 7: PZ, 9: TZ}),
        ("0=background,1=pz,2=transitional_zone,3=none", {0: 0, 1: PZ, 2: TZ, 3: 0}),
    ],
)
def test_tables_in_words(text: str, meanings: dict[int, int]) -> None:
    table = LabelTable.parse(text)
    assert table.meanings == meanings
    assert LabelTable.parse(str(table)) == table


@pytest.mark.parametrize(
    "text",
    ["", "TZ", "1=TZ", "1=TZ,2=PZ,2=TZ", "1=TZ,2=prostate", "x=TZ,2=PZ", "-1=TZ,2=PZ", "0=TZ,2=PZ"],
)
def test_tables_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="label table: expected"):
        LabelTable.parse(text)


@pytest.mark.parametrize("text", ["- TZ\n- PZ\n", "1: [", "\xff", "TZ"])
def test_files_that_are_no_tables(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_bytes(text.encode("latin-1"))
    for given in (LabelTable.read, lambda p: LabelTable.given(str(p))):
        with pytest.raises(InputError, match=r"table\.yaml: expected a .*") as no:
            given(path)
        assert "\n" not in str(no.value)


def test_unknown_labels_are_named() -> None:
    table = LabelTable.parse("1=TZ,2=PZ")
    values = np.array([[0.0, 1.0], [2.0, 1.0]])
    np.testing.assert_array_equal(table.apply(values, "m"), [[0, TZ], [PZ, TZ]])
    with pytest.raises(
        InputError, match=r"^m: expected labels of the table 1=TZ,2=PZ, found 1\.5, 3$"
    ):
        table.apply(np.array([0, 1.5, 3.0]), "m")
    with pytest.raises(InputError, match="found 3, 4, 5, 6, 7 and others"):
        table.apply(np.arange(12), "m")
    with pytest.raises(InputError, match="found nan"):
        table.apply(np.array([0.0, np.nan]), "m")


def test_names_that_models_give() -> None:
    zoo = {0: "background", 1: "central gland", 2: "peripheral zone"}
    assert LabelTable.recognised(zoo, Path("m")).meanings == {0: 0, 1: TZ, 2: PZ}
    for names in ({}, {1: "TZ"}, {**zoo, 3: "urethra"}):
        with pytest.raises(InputError, match="--table"):
            LabelTable.recognised(names, Path("m"))
