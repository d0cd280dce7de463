"""The Snakemake workflow: its profiles, what this machine has for it, and the command that runs it."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from mrisr.batch.names import HIDDEN
from mrisr.core.errors import InputError, UsageError
from mrisr.core.shipped import shipped
from mrisr.io.atomic import json_bytes, write_bytes

#: Studies that share a process where the profile does not say.
CHUNK = 10
#: Where Linux states a limit of the memory of a container, in bytes.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Profile:
    """A Snakemake profile: where and how jobs run."""

    path: Path  #: its folder or file
    chunk: int  #: studies that share a process
    local: bool  #: whether jobs run on this machine
    has_resources: bool = False  #: whether it says what this machine has for all jobs together


def check_snakemake() -> None:
    """Say what to do where Snakemake, or the way to run it, is missing. Raises UsageError."""
    if not sys.executable:
        raise UsageError(
            "this Python does not know its own program (sys.executable), which would run Snakemake"
        )
    if importlib.util.find_spec("snakemake") is None:
        needed = "mrisr batch needs Python 3.11 or later, as Snakemake 9 does; this is"
        if sys.version_info < (3, 11):
            raise UsageError(f"{needed} {sys.version_info[0]}.{sys.version_info[1]}")
        raise UsageError("Snakemake is not installed; pip install 'mrisr[batch]' brings it")


def find_profile(name: str) -> Profile:
    """One of the package's profiles by name, or any other by its path.

    Raises:
        UsageError: there is no such profile.
        InputError: its file cannot be read.
    """
    bundled = shipped("pipelines") / "profiles"
    path = bundled / name if (bundled / name).is_dir() and os.sep not in name else Path(name)
    file = path
    if path.is_dir():
        found = [p for p in (path / "profile.yaml", path / "config.yaml") if p.is_file()]
        file = found[0] if found else path / "config.yaml"
    if not file.is_file():
        names = ", ".join(sorted(p.name for p in bundled.iterdir() if p.is_dir()))
        raise UsageError(f"no profile {name!r}; there are {names}, or the folder of one of yours")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        config = content.get("config") or ()  # a mapping, or a list of key=value
        if not isinstance(config, dict):
            config = dict(str(entry).split("=", 1) for entry in config if "=" in str(entry))
        chunk = int(config.get("chunk", CHUNK))
        if chunk < 1:
            raise ValueError(f"chunk {chunk}")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError, AttributeError) as error:
        found_text = " ".join(str(error).split())
        raise InputError(file, expected="a Snakemake profile", found=found_text) from error
    local = content.get("executor", "local") == "local"
    return Profile(path.absolute(), chunk, local, "resources" in content)


def chunk_size(studies: int, profile: Profile, jobs: int | None, gpu: bool) -> int:
    """Studies that share a process: what the profile says, or fewer where more cores would stand idle."""
    if not profile.local or gpu:
        return profile.chunk
    return max(1, min(profile.chunk, -(-studies // (jobs or cores()))))


def snakemake_command(out: Path, profile: Profile, jobs: int | None, gpu: bool) -> list[str]:
    """The command that runs the workflow of a planned batch; writes its configuration. Raises OutputError.

    The batch has a lock of its own, so Snakemake's, which outlives a killed run, is not used.

    Args:
        jobs: how many at a time; on this machine, how many cores.
        gpu: whether jobs on this machine share a GPU.
    """
    hidden = out.absolute() / HIDDEN
    command = " ".join(shlex.quote(word) for word in (sys.executable, "-m", "mrisr"))
    write_bytes(hidden / "config.json", json_bytes({"mrisr": command}))
    limits = [] if jobs is None else ["--cores" if profile.local else "--jobs", str(jobs)]
    memory = memory_mb()
    if profile.local and not profile.has_resources and (memory or gpu):
        limits += ["--resources", *([f"mem_mb={memory}"] if memory else [])]
        limits += ["gpu=1"] if gpu else []
    return [
        *(sys.executable, "-m", "snakemake", "--nolock"),
        *("--snakefile", str(shipped("pipelines") / "Snakefile")),
        *("--workflow-profile", str(profile.path)),
        *("--directory", str(hidden)),
        *("--configfile", str(hidden / "config.json")),
        *limits,
    ]


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_mb(limits: Sequence[str] = _LIMITS) -> int | None:
    """Memory that jobs may ask for together, 90% of all; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    for path in limits:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return int(total * 0.9 / 2**20)


def has_gpu() -> bool:
    """Tell whether there is a GPU that PyTorch may find."""
    return any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd"))
