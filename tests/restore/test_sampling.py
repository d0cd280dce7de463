"""Options are checked once, with the value in the message."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mrisr.core.errors import UsageError
from mrisr.restore.engine import resolve_device, resolve_precision
from mrisr.restore.sampling import Options


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1001},
        {"churn": -0.1},
        {"churn": 1.5},
        {"churn": math.nan},
        {"consistency": -0.01},
        {"consistency": 1.01},
        {"consistency": math.nan},
        {"tile": 64},
        {"seed": -1},
        {"seed": 2**32},
        {"precision": "fp16"},
        {"update": "other"},
        {"degradation": "blur"},
    ],
)
def test_out_of_range_is_refused_with_the_value(wrong: dict[str, Any]) -> None:
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(UsageError) as caught:
        Options(**wrong)
    message = str(caught.value)
    assert message.startswith(f"{name}: expected")
    assert (f"{value:g}" if isinstance(value, (int, float)) else value) in message


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="sharpness"):
        Options(sharpness=3)  # type: ignore[call-arg]


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Options(steps=1, churn=0, consistency=0, tile=128, seed=0)
    Options(steps=1000, churn=1, consistency=1, tile=4096, seed=2**32 - 1)


def test_a_job_fills_in_its_degradation_and_refuses_others() -> None:
    kinds = ("bicubic", "kspace")
    assert Options().for_job(kinds).degradation == "bicubic"
    assert Options(degradation="kspace").for_job(kinds).degradation == "kspace"
    with pytest.raises(UsageError, match="bicubic, kspace, found box"):
        Options(degradation="box").for_job(kinds)


@pytest.mark.parametrize("name", ["tpu", "meta", "cuda:x", "", "cuda:99"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="device"):
        resolve_device(name)


def test_devices_and_precisions() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == torch.float32
    assert resolve_precision("bf16", cpu) == torch.bfloat16
    assert resolve_precision("auto", cpu) in (torch.float32, torch.bfloat16)
