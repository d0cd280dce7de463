"""Faults of the machine: kills, disks, memory, two runs at once, training that is cut short."""

from __future__ import annotations

from tests.reliability import contests, disks, kills, memory, resumes
from tests.reliability.case import Case

CASES: list[Case] = [
    *kills.CASES,
    *disks.CASES,
    *contests.CASES,
    *memory.CASES,
    *resumes.CASES,
]
