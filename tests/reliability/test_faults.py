"""The experiments with faults notice writers that are careless."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.disks import full_and_read_only, limited_and_forbidden
from tests.reliability.kills import kill_at_random, kill_at_steps
from tests.reliability.runner import Skipped
from tests.reliability.writers import CARELESS

IN_PLACE, OLD_FIRST, UNTIDY = CARELESS


def test_kills_show_what_is_written_in_place(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="corrupt"):
        kill_at_random(IN_PLACE, tmp_path, 60)


def test_kills_show_what_removes_the_old_output_first(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the old output is gone"):
        kill_at_steps(OLD_FIRST, tmp_path)


def test_kills_show_what_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="left behind"):
        kill_at_steps(UNTIDY, tmp_path)


@pytest.mark.parametrize("writer", [IN_PLACE, OLD_FIRST, UNTIDY], ids=lambda w: w.name)
def test_limits_show_carelessness(writer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"exit 1|not as it was|corrupt"):
        limited_and_forbidden(writer, tmp_path)


def test_full_disks_show_carelessness(tmp_path: Path) -> None:
    try:
        with pytest.raises(AssertionError, match="the path is not named"):
            full_and_read_only(UNTIDY, tmp_path)
    except Skipped as reason:
        pytest.skip(str(reason))
