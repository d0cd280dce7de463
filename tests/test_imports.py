"""The command answers at once: what is heavy loads when it is used."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "monai", "SimpleITK", "nibabel", "pydicom", "matplotlib", "scipy")
COMMANDS = ("inplane", "throughplane", "prepare", "train", "models", "info", "demo")
SECONDS = 0.5


def run(*arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["mrisr", "mrisr.cli", "mrisr.io"])
def test_import_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run("-c", code)))
    assert module in loaded
    assert loaded.isdisjoint(HEAVY), sorted(loaded & set(HEAVY))


@pytest.mark.slow
def test_training_needs_no_image_library() -> None:
    """A machine that trains from a prepared cache may lack them all."""
    code = "import sys; sys.modules.update(dict.fromkeys(('nibabel', 'pydicom', 'SimpleITK')))"
    run("-c", f"{code}; import mrisr.training")


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import mrisr", id="import"),
        pytest.param(
            "import runpy; sys.argv = ['mrisr', '--help']; runpy.run_module('mrisr', run_name='__main__')",
            id="help",
        ),
    ],
)
def test_answers_in_half_a_second(statement: str) -> None:
    """Processor seconds, so that a busy machine does not fail the test; the best of three runs."""
    report = "atexit.register(lambda: print('\\n', time.process_time(), sep=''))"
    code = f"import atexit, sys, time; {report}; {statement}"
    said = [run("-c", code) for _ in range(3)]
    assert min(float(text.splitlines()[-1]) for text in said) < SECONDS
    assert "help" not in statement or all(name in said[0] for name in COMMANDS)
