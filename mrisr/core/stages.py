"""Stages of a run, and a clock for them: what a benchmark sees is the run that users get.

Functions that do a stage's work are marked by it, ``@stage("read")``. A mark costs nothing unless a clock
runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Stage: TypeAlias = Literal[
    "start-up", "read", "to grid", "network", "sampling", "consistency", "write", "rest"
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Spent:
    """Time in seconds, of the clock and of this process's processors."""

    wall: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.processor - other.processor)


def now() -> Spent:
    """Readings of both clocks; the first is one for all processes of the machine."""
    return Spent(time.monotonic(), time.process_time())


class Clock:
    """Time spent in each stage while it is entered, that of stages within a stage left out.

    What no stage claims is *start-up* until the first image is restored, and *rest* after it.

    Args:
        began: reading at which the work began, if that was before the clock is entered.
        settle: waits until the device has done what it was told.
        label: names a stage to a profiler.
    """

    def __init__(
        self,
        began: Spent | None = None,
        settle: Callable[[], None] = lambda: None,
        label: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.spent: dict[Stage, Spent] = dict.fromkeys(STAGES, Spent())
        self.first: Spent | None = None  #: time until the first image was restored
        self._began, self._settle, self._label = began, settle, label
        self._stack: list[Stage] = ["start-up"]

    def __enter__(self) -> "Clock":
        self._began = self._last = self._began or now()
        self._token = _RUNNING.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._turn()
        _RUNNING.reset(self._token)

    def _turn(self) -> None:
        """Charge the time since the last turn to the stage that has been going on."""
        self._settle()
        last, self._last = self._last, now()
        self.spent[self._stack[-1]] += self._last - last

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Charge the time within to a stage."""
        self._turn()
        if name == "sampling" and self.first is None and self._began is not None:
            self.first = self._last - self._began
            self._stack[0] = "rest"
        self._stack.append(name)
        try:
            with self._label(name):
                yield
        finally:
            self._turn()
            self._stack.pop()


_RUNNING: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def stage(name: Stage) -> Iterator[None]:
    """Mark the work of a stage, as a decorator or in a ``with``."""
    clock = _RUNNING.get()
    if clock is None:
        yield
    else:
        with clock.stage(name):
            yield
