"""Options are declared once and checked once, with the value in the message."""

import math
from dataclasses import fields
from typing import Any

import pytest

from mrisr.core.errors import UsageError
from mrisr.core.options import (
    Files,
    InPlane,
    Sampling,
    Segmenting,
    ThroughPlane,
    declared,
    split_options,
)

WRONG: dict[str, tuple[Any, ...]] = {
    "steps": (0, 1001),
    "eta": (-0.1, 1.5, math.nan),
    "consistency": (-0.01, 1.01, math.nan),
    "tile": (64,),
    "seed": (-1, 2**32),
    "precision": ("fp16",),
    "sampler": ("other",),
    "degradation": ("blur",),
    "noise": ("-0.1", "0.6", "much"),
}


@pytest.mark.parametrize("name", WRONG)
def test_out_of_range_is_refused_with_the_value(name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(UsageError) as caught:
            Sampling(**{name: value})
        message = str(caught.value)
        assert message.startswith(f"{name}: expected")
        assert (f"{value:g}" if isinstance(value, (int, float)) else value) in message


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Sampling(steps=1, eta=0, consistency=0, tile=128, seed=0)
    Sampling(steps=1000, eta=1, consistency=1, tile=4096, seed=2**32 - 1)


@pytest.mark.parametrize(
    ("kind", "wrong", "words"),
    [
        (Sampling, {"model": "a", "method": "b"}, "--model or --method"),
        (ThroughPlane, {"factor": 2.0, "spacing": 1.0}, "--factor or --spacing"),
        (Segmenting, {"model": "a", "bundle": "b"}, "only one of them"),
        (Segmenting, {"table": "1=TZ,2=PZ"}, "--table is for"),
        (Segmenting, {"margin": 0.5}, "margin: expected"),
    ],
)
def test_options_that_exclude_each_other(kind: Any, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        kind(**wrong)


@pytest.mark.parametrize("kind", [InPlane, ThroughPlane, Segmenting, Files])
def test_every_option_says_what_it_is(kind: type) -> None:
    assert [d.name for d in declared(kind)] == [f.name for f in fields(kind)]
    assert all(len(d.option.help) > 10 for d in declared(kind))


def test_keyword_arguments_are_shared_out() -> None:
    settings, files = split_options({"scale": 2.0, "churn": 0.5, "force": True}, InPlane, Files)
    assert settings == InPlane(scale=2.0, eta=0.5)
    assert files == Files(force=True)
    with pytest.raises(TypeError, match="sharpen"):
        split_options({"sharpen": True}, InPlane, Files)
    with pytest.raises(UsageError, match="old name"):
        split_options({"eta": 1.0, "churn": 1.0}, InPlane)
