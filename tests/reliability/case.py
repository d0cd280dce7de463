"""One row of the reliability table: what is done to mrisr, what should happen, and what did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: An experiment: gets an empty folder and returns in a few words what happened.
Run = Callable[[Path], str]


class Skipped(Exception):
    """A case that cannot run on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Case:
    """A promise and the experiment that checks it.

    Attributes:
        group: heading of the table it stands under.
        name: what is fed to mrisr, or what hits it; unique within the group.
        should: what mrisr promises to do then.
        run: raises AssertionError, with the few words of what happened, where that is not what
            should happen, and Skipped.
        slow: takes more than about ten seconds, or repeats what another case tries; left out of
            the gate.
    """

    group: str
    name: str
    should: str
    run: Run
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"
