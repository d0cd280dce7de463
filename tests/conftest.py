"""What every test shares: quiet plots, a sensible number of threads, and the optional real data."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "Agg"
# Set before torch loads. Many containers show more cores than they may use; four are plenty here. Where
# pytest-xdist runs several processes, each has one thread, whatever it inherits from the one that started
# it: threads that outnumber the cores wait for each other, up to fifty times as long as they compute.
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", str(min(4, _CORES)))

# The same examples in every run, and no deadline: the first call of a kernel may be slow.
settings.register_profile("mrisr", deadline=None, derandomize=True)
settings.load_profile("mrisr")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real patients that may lie beside the checkout; elsewhere the test is skipped."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the development data in {folder}, which are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two small models with random weights under the names of the released ones, and of two
    that answer with the interpolated image (``zero-inplane``, ``zero-throughplane``)."""
    from tests.reliability.models import build_models

    folder = tmp_path_factory.mktemp("models")
    build_models(folder)
    return folder


@pytest.fixture
def models(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of small models, which take the place of the released ones in this test."""
    monkeypatch.setenv("MRISR_MODELS", str(tiny_models))
    return tiny_models


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the program in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from mrisr.cli import main

        monkeypatch.setattr(sys, "argv", ["mrisr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call
