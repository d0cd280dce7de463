"""The command answers at once: what is heavy loads when it is used."""

import json
import os
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


@pytest.mark.parametrize("module", ["mrisr", "mrisr.cli", "mrisr.cli.cards", "mrisr.io"])
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


def test_a_user_without_a_name() -> None:
    """As in a container that runs as any number, without a home; and no library says a word of it."""
    code = """if True:
    import os, pwd, sys
    def nobody(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
    pwd.getpwuid = nobody
    import mrisr.cli
    sys.argv = ["mrisr", "--help"]
    try: mrisr.cli.main()
    except SystemExit: import mrisr.zones.network, matplotlib
    matplotlib.get_cachedir()
    """
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "MPLCONFIGDIR")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"HOME": "/dev/null"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
@pytest.mark.parametrize("imports", ["parent", "child"])
def test_a_forked_child_goes_on(imports: str) -> None:
    """PyTorch's threads do not survive a fork; here they have been used before."""
    code = f"import multiprocessing, torch{', mrisr' if imports == 'parent' else ''}\n"
    code += "torch.set_num_threads(2)\n"
    code += "def work(_): x = torch.ones(600, 600); return float((x @ x).sum())\n"
    code += "def child(_): import mrisr; return work(_)\n"
    code += "first = work(0)\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n"
    code += "    assert pool.map(child, range(2)) == [first, first]"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False, env=environment)
    assert done.returncode == 0
