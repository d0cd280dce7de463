"""Results on the disk: kept, found again, told apart by everything that decides them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrisr.evaluation.case import Scored
from mrisr.evaluation.methods import Method, load_methods
from mrisr.evaluation.results import Store, centre, key_of
from mrisr.evaluation.settings import EvaluationSettings
from tests.evaluation.conftest import SETTINGS
from tests.evaluation.made import scored


class MadeCase:
    """A case without data."""

    def __init__(self, name: str = "one/../two", digest: str = "0") -> None:
        self.name, self.series, self.digest = name, "t2w", digest

    def score(self, method: Method, factor: float) -> Scored:
        raise NotImplementedError


@pytest.fixture
def methods(models: Path) -> dict[str, Method]:
    return {m.name: m for m in load_methods(EvaluationSettings(**SETTINGS), device="cpu")}


def test_what_is_kept_is_found_again(tmp_path: Path, methods: dict[str, Method]) -> None:
    case, method = MadeCase(), methods["three"]
    made = scored([20.5, math.inf], facts={"notes": ["a"]})
    store = Store(tmp_path / "cases")
    assert store.load(case, method, 2.0, "k" * 64) is None
    given_back = store.save(case, method, 2.0, "k" * 64, made)
    found = store.load(case, method, 2.0, "k" * 64)
    assert found is not None
    for other in (given_back, found):
        assert other.slices["psnr"][0] == 20.5
        assert math.isnan(other.slices["psnr"][1])
        assert (other.volume, other.facts) == (made.volume, made.facts)
        assert (other.seconds, other.cpu_seconds, other.evaluations) == (0.5, 0.4, 1)
        np.testing.assert_allclose(other.reference, made.reference, atol=1e-3)
    assert "psnr" not in found.means()
    assert store.load(case, method, 2.0, "l" * 64) is None
    assert all(p.parent == tmp_path / "cases" for p in tmp_path.rglob("*.*"))
    (file,) = tmp_path.rglob("*.json")
    for damaged in (b"", b"[]", file.read_bytes()[:-9], json.dumps({"key": "k" * 64}).encode()):
        file.write_bytes(damaged)
        assert store.load(case, method, 2.0, "k" * 64) is None


def test_the_key_changes_with_everything_that_decides(methods: dict[str, Method]) -> None:
    settings = EvaluationSettings(**SETTINGS)

    def key(case: MadeCase, method: str = "three", factor: float = 2.0, **changes: Any) -> str:
        asked = settings.model_copy(update=changes)
        return key_of(case, methods[method], factor, asked)

    keys = [
        key(MadeCase()),
        key(MadeCase("other")),
        key(MadeCase(digest="1")),
        key(MadeCase(), "default"),
        key(MadeCase(), factor=4.0),
        key(MadeCase(), crop=64),
    ]
    assert len(set(keys)) == len(keys)
    assert key(MadeCase(), factors=(2.0,)) == keys[0]


def test_pictures_show_the_centre() -> None:
    image = np.zeros((320, 400), np.float32)
    image[160, 200] = 1
    cut = centre(image)
    assert cut.shape == (128, 160)
    assert cut[64, 80] == 1
    assert centre(image[:60, :50]).shape == (60, 50)
