"""Segmenters of every kind: which one is loaded, on what it is run, and the grid of its labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mrisr.core import geometry
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.models.store import load_model
from mrisr.zones.labels import PZ, LabelTable
from mrisr.zones.segmenter import Segmenter, load_segmenter
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


def test_only_thick_slices_need_to_be_axial() -> None:
    coronal = image("RSA", spacing=(1.0, 1.0, 1.0))
    assert EVERYTHING(coronal).labels.shape == coronal.shape
    thick = image("LIP", spacing=(0.5, 3.0, 0.5))
    with pytest.raises(
        InputError, match=r"expected axial slices, .* found a coronal stack with 3 mm"
    ):
        EVERYTHING(thick)


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
