"""Which slices are looked at, and means with intervals over patients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mrisr.analysis.scoring import cases_in, job_of, per_patient, read_slices
from mrisr.core.errors import InputError, UsageError


def test_the_central_slices_of_the_job_s_plane(data: Path) -> None:
    found = read_slices(data, "inplane", ["unseen"], factor=2.0, count=2, crop=48)
    assert [(s.case, s.series, s.images.shape) for s in found] == [
        ("unseen", "t2w_axial", (2, 1, 48, 48))
    ]
    (whole,) = read_slices(data, "inplane", ["unseen"], factor=2.0, count=99, crop=48)
    assert torch.equal(whole.images[1:3], found[0].images)
    coronal = read_slices(data, "throughplane", [], factor=2.0, count=2, crop=48)
    assert [s.case for s in coronal] == ["seen", "unseen"]
    assert cases_in(data, "throughplane", ["stranger", "unseen"]) == ["unseen"]


def test_refusals(data: Path) -> None:
    how = {"count": 8, "crop": 48}
    with pytest.raises(InputError, match="coronal series of stranger, found seen, unseen"):
        read_slices(data, "throughplane", ["stranger", "unseen"], factor=2.0, **how)
    for factor in (0.5, 1.0, 6.5):
        with pytest.raises(UsageError, match=f"at most 6, found {factor:g}"):
            read_slices(data, "inplane", [], factor=factor, **how)
    assert read_slices(data, "inplane", [], factor=6.0, **how)


def test_an_interpolation_has_no_job() -> None:
    model = SimpleNamespace(card=SimpleNamespace(job=None, name="bicubic"))
    with pytest.raises(UsageError, match="bicubic: expected a trained model"):
        job_of(model)


def test_patients_count_once_however_many_series_they_have() -> None:
    rows = [("a", np.array([1.0])), ("b", np.array([2.0])), ("b", np.array([6.0]))]
    assert per_patient(rows) == {"a": [1.0], "b": [4.0]}
