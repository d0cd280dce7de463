"""ECLARE's environment: made in a folder of its own, and asked what it holds. Standard library only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ECLARE = "eclare==1.0.1"
TORCH = "torch>=2.8,<2.14"
#: scipy 1.11.4, which ECLARE pins, has no wheels for later ones.
PYTHONS = ((3, 10), (3, 12))
PACKAGES = ("eclare", "radifox-utils", "torch", "numpy", "scipy", "nibabel")


class Failure(Exception):
    """What went wrong, in one line."""


def install(env: Path, python: str, torch_index: str | None) -> None:
    """Make ECLARE's environment in ``env``. Raises Failure; an environment of mrisr is never touched."""
    asked = "import sys, json; print(json.dumps(sys.version_info[:2]))"
    found = tuple(json.loads(output_of([python, "-c", asked])))
    if not PYTHONS[0] <= found <= PYTHONS[1]:
        raise Failure(
            f"{python}: expected Python 3.10 to 3.12 (ECLARE pins scipy 1.11), found"
            f" {found[0]}.{found[1]}; name another by --python"
        )
    if env.exists() and any(env.iterdir()):
        if not (env / "pyvenv.cfg").is_file():
            raise Failure(f"{env}: expected an empty folder or an environment, found other files")
        if "mrisr" in versions(env, ("mrisr",)):
            raise Failure(f"{env}: this is mrisr's own environment; ECLARE needs another")
    output_of([python, "-m", "venv", str(env)])
    pip = [str(env / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    # PyTorch first and by itself: the index of its CPU build must not be asked for anything else.
    output_of([*pip, *(("--index-url", torch_index) if torch_index else ()), TORCH])
    output_of([*pip, TORCH, ECLARE])
    print(f"{env}: " + ", ".join(f"{k} {v}" for k, v in versions(env).items()))


def versions(env: Path, names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Python and those of ``names`` that the environment has."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    return json.loads(output_of([str(env / "bin" / "python"), "-c", code, *names]))


def device_name(env: Path, gpu: int) -> str:
    """``cpu``, or what the environment's PyTorch calls the GPU."""
    if gpu < 0:
        return "cpu"
    code = "import sys, torch; print(torch.cuda.get_device_name(int(sys.argv[1])))"
    return output_of([str(env / "bin" / "python"), "-c", code, str(gpu)]).strip()


def output_of(command: list[str]) -> str:
    """Standard output of a command. Raises Failure by the last line that it says."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise Failure(f"{command[0]}: {problem.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise Failure(f"{Path(command[0]).name}: exit code {done.returncode}: {said[-1]}")
    return done.stdout
