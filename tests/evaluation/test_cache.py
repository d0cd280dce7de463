"""Results on the disk: found again by everything that decides them, the program's version included."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mrisr.evaluation import case as module
from mrisr.evaluation.case import ResultCache, Scored

TITLE = ("one/../two", "t2w", "x2", "three")


def test_a_result_is_found_again(tmp_path: Path) -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    slices, pictures = {"psnr": [20.5, math.inf]}, {"image": image, "labels": labels}
    made = Scored({"residual": 1e-3}, slices, pictures, {"notes": ["a"]})
    cache = ResultCache(tmp_path / "cases")
    assert cache.load(TITLE, {"a": 1}) is None
    given_back = cache.save(TITLE, {"a": 1}, made)
    found = cache.load(TITLE, {"a": 1})
    assert found is not None
    for other in (given_back, found):
        assert other.slices["psnr"][0] == 20.5
        assert math.isnan(other.slices["psnr"][1])
        assert (other.figures, other.facts) == (made.figures, made.facts)
        np.testing.assert_allclose(other.pictures["image"], image, atol=1e-3)
        np.testing.assert_array_equal(other.pictures["labels"], labels)
    assert "psnr" not in found.means()
    assert cache.load(TITLE, {"a": 2}) is None
    assert all(p.parent == tmp_path / "cases" for p in tmp_path.rglob("*.*"))
    (file,) = tmp_path.rglob("*.json")
    assert "NaN" not in file.read_text()
    whole = file.read_bytes()
    other_content = whole.replace(b'"figures"', b'"other"')
    for damaged in (b"", b"[]", b"{}", whole[:-9], json.dumps({"key": 1}).encode(), other_content):
        file.write_bytes(damaged)
        assert cache.load(TITLE, {"a": 1}) is None


@pytest.mark.parametrize("name", ["__version__", "FORMAT"])
def test_another_version_makes_results_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cache = ResultCache(tmp_path)
    cache.save(TITLE, {"a": 1}, Scored({}))
    assert cache.load(TITLE, {"a": 1}) is not None
    monkeypatch.setattr(module, name, "other")
    assert cache.load(TITLE, {"a": 1}) is None
