"""One patient at one scale: scored, kept, and told apart by everything that decides the score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.zones.bench import Asked, Bench, ZonesStore, benches, item_of
from mrisr.evaluation.zones.cases import ZonesCase, part_for
from mrisr.evaluation.zones.frozen import Frozen
from mrisr.evaluation.zones.settings import Scale, ZonesSettings
from tests.evaluation.zones.conftest import (
    METHODS,
    SETTINGS,
    THROUGH,
    Blind,
    Oracle,
    Thresholds,
    case_of,
)


def bench_of(
    case: ZonesCase, scale: Scale, segmenter: Any, changes: dict[str, Any] = SETTINGS
) -> Bench:
    settings, frozen = ZonesSettings(**changes), Frozen(segmenter)
    part = part_for(case, scale, settings)
    return Bench(part, scale, settings, frozen, Asked(part.image, frozen))


def methods_of(bench: Bench) -> dict[str, Method]:
    return {m.name: m for m in load_methods(bench.settings, device="cpu")}


def test_a_segmenter_that_knows_the_anatomy(models: Path, case: ZonesCase) -> None:
    """Perfect on the stack's own grid; on a finer one as good as labels of thick slices allow."""
    bench = bench_of(case, Scale("degraded", 4), Oracle(3))
    original = bench.original()
    assert [s.dice for s in original.labels.values()] == [1, 1]
    assert original.agreement is None
    restored = bench.restored(methods_of(bench)["bicubic"])
    assert [s.dice for s in restored.labels.values()] == [1, 1]
    bench = bench_of(case, Scale("measured", 4), Oracle(3), THROUGH)
    restored = bench.restored(methods_of(bench)["bspline"])
    for score in restored.labels.values():
        assert score.dice > 0.93
        assert abs(score.volume_bias_ml) < 0.05 * score.reference_ml
    assert np.isnan(restored.psnr)


def test_a_segmenter_that_looks(models: Path, case: ZonesCase) -> None:
    """Agreement with the original's segmentation falls as the degradation grows, and so does the PSNR."""
    found = []
    for factor in (2, 8):
        bench = bench_of(case, Scale("degraded", factor), Thresholds())
        scored = bench.restored(methods_of(bench)["bicubic"])
        assert scored.agreement is not None
        found.append((scored.agreement["PZ"].dice, scored.psnr))
        assert scored.picture.image.shape == scored.picture.found.shape
    assert found[0] > found[1]
    assert found[0][1] > found[1][1]
    assert 0 < found[1][0] < found[0][0] < 1


def test_the_original_is_segmented_once(models: Path, case: ZonesCase, tmp_path: Path) -> None:
    segmenter = Thresholds()
    settings = ZonesSettings(**SETTINGS | {"factors": [2, 4], "measured": [2]})
    store = ZonesStore(tmp_path)
    for bench in benches(case, settings, Frozen(segmenter)):
        for method in (None, *methods_of(bench).values()):
            store.score(bench, method)
    whole, cropped, fine = (50, 46, 13), (48, 44, 13), (100, 92, 13)
    assert sorted(segmenter.asked) == sorted([whole] * 3 + [cropped] * 3 + [fine] * 2)


def test_nothing_found_is_told(models: Path, case: ZonesCase) -> None:
    bench = bench_of(case, Scale("degraded", 2), Blind())
    scored = bench.restored(methods_of(bench)["bicubic"])
    assert [s.dice for s in scored.labels.values()] == [0, 0]
    assert scored.agreement is not None
    assert np.isnan(scored.agreement["PZ"].dice)
    means = scored.means()
    assert "PZ.hd95_mm" not in means
    assert means["PZ.volume_bias_ml"] == -scored.labels["PZ"].reference_ml


def test_results_are_kept(models: Path, case: ZonesCase, tmp_path: Path) -> None:
    bench = bench_of(case, Scale("degraded", 4), Blind())
    method, store = methods_of(bench)["bicubic"], ZonesStore(tmp_path)
    made, kept = store.score(bench, method)
    assert not kept
    again, kept = ZonesStore(tmp_path).score(bench, method)
    assert kept
    assert again.figures().keys() == made.figures().keys()
    assert again.labels["PZ"].volume_bias_ml == made.labels["PZ"].volume_bias_ml
    assert np.isnan(again.labels["PZ"].hd95_mm)
    assert again.picture.step == made.picture.step
    np.testing.assert_array_equal(again.picture.wanted, made.picture.wanted)
    (file,) = tmp_path.glob("*.json")
    for damaged in (b"", b"{}", file.read_bytes().replace(b'"psnr"', b'"other"')):
        file.write_bytes(damaged)
        assert not store.score(bench, method)[1]
        assert store.score(bench, method)[1]
    assert "NaN" not in file.read_text()
    assert json.loads(file.read_text())["scored"]["labels"]["PZ"]["hd95_mm"] is None


def test_the_key_changes_with_everything_that_decides(models: Path, case: ZonesCase) -> None:
    base = bench_of(case, Scale("degraded", 2), Thresholds())
    methods = methods_of(base)
    other = Thresholds()
    other.sha256 = "1" * 64
    changed = [
        replace(base, scale=Scale("degraded", 4)),
        replace(base, scale=Scale("measured", 2)),
        replace(base, frozen=Frozen(other)),
        replace(base, part=case_of(4)),
        replace(base, settings=ZonesSettings(**SETTINGS | {"kind": "kspace"})),
    ]
    items = [item_of(b, methods["bicubic"]) for b in (base, *changed)]
    items.append(item_of(base, methods["zero"]))
    assert len({i.key for i in items}) == len(items)
    same = ZonesSettings(**SETTINGS | {"factors": [3], "methods": METHODS[:1]})
    assert item_of(replace(base, settings=same), methods["bicubic"]) == items[0]
    # The image as it is does not depend on how others are degraded.
    originals = [item_of(b, None).key for b in (base, *changed)]
    assert [key == originals[0] for key in originals[1:]] == [True, True, False, False, True]


@pytest.mark.parametrize(("sha256", "digest"), [("a" * 64, "a" * 64), ("", "thresholds")])
def test_a_segmenter_without_a_digest_goes_by_its_name(sha256: str, digest: str) -> None:
    segmenter = Thresholds()
    segmenter.sha256 = sha256
    assert Frozen(segmenter).digest == digest
