"""Cuts files short and turns single bits over, and counts what mrisr makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from tests.reliability.damage_files import Sample
from tests.reliability.worker import Answer, reader


class Tally:
    """Counts answers; raises AssertionError for one that breaks the promise."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._counts: Counter[str] = Counter()

    def __call__(
        self, answer: Answer, where: object, *, wrong: bool = False, whole: Answer | None = None
    ) -> None:
        """Count one. ``wrong`` says that a volume should not have come out as it did."""
        self._counts[answer.kind] += 1
        self._counts["unchanged"] += answer == whole
        if answer.kind == "failed" or wrong:
            raise AssertionError(f"{where}: {answer.kind}: {answer.detail[:300]}")

    def __str__(self) -> str:
        refused, read = self._counts["refused"], self._counts["read"]
        same = self._counts["unchanged"]
        unchanged = f" ({same} unchanged)" if same else ""
        return f"{refused + read} {self._what}: {refused} refused, {read} read{unchanged}, 0 failed"


def cut(sample: Sample, count: int | None = None) -> str:
    """Cut to every length, or to some: always refused, as long as more than padding is lost."""
    tally = Tally("lengths")
    whole = _whole(sample)
    size = len(sample.whole)
    for length in _some(range(size), sample.header, count):
        answer = reader()(sample.put(sample.whole[:length]))
        lost = answer.kind == "read" and (
            answer != whole or length < size - sample.padding or sample.padding == 0
        )
        tally(answer, f"cut to {length} of {size} bytes", wrong=lost, whole=whole)
    return str(tally)


def flip(sample: Sample, count: int | None = None) -> str:
    """Turn over every bit of the header and each third of the voxels, or some.

    What a checksum covers is refused, unless the bit is one that bears on nothing. A volume of another
    shape is never read: there are more voxels than its header says, or fewer.
    """
    tally = Tally("bits")
    whole = _whole(sample)
    start = 8 * sample.header
    rest = range(start, 8 * len(sample.whole), 3)
    for bit in (*_some(range(start), start, count), *_some(rest, start, count)):
        damaged = bytearray(sample.whole)
        damaged[bit // 8] ^= 1 << bit % 8
        answer = reader()(sample.put(bytes(damaged)))
        covered = sample.checked and bit >= start
        other = answer.detail.split()[0] != whole.detail.split()[0]
        wrong = answer.kind == "read" and answer != whole and (covered or other)
        tally(answer, f"bit {bit % 8} of byte {bit // 8}", wrong=wrong, whole=whole)
    return str(tally)


def _whole(sample: Sample) -> Answer:
    answer = reader()(sample.put(sample.whole))
    assert answer.kind == "read", f"the whole file: {answer.detail}"
    return answer


def _some(positions: range, start: int, count: int | None) -> Iterable[int]:
    """All positions, or about ``count``: half of them before ``start``, and always the first and the last."""
    if count is None or len(positions) <= count:
        return positions
    early = [p for p in positions if p < start] or [*positions]
    late = [p for p in positions if p >= start] or [*positions]
    rng = np.random.default_rng(len(positions))
    drawn = {*rng.choice(early, count // 2).tolist(), *rng.choice(late, count // 2).tolist()}
    return sorted({positions[0], positions[-1], *drawn})
