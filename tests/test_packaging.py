"""What describes the package to others says what the package says."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import mrisr

tomllib = pytest.importorskip("tomllib", reason="Python 3.11")

ROOT = Path(__file__).parents[1]
#: PyPI's name -> conda-forge's, where they differ.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_recipe_for_conda() -> None:
    """The same dependencies in the same versions."""
    recipe = yaml.safe_load((ROOT / "pipelines" / "conda" / "recipe.yaml").read_text())
    expected = []
    for line in PROJECT["dependencies"]:
        if ";" not in line:
            name, limits = re.fullmatch(r"([A-Za-z0-9-]+)(.*)", line).groups()
            name = CONDA.get(name, name.lower())
            expected.append(f"{name} {limits}".strip())
    python, *others = recipe["requirements"]["run"]
    assert others == expected
    assert python.endswith(PROJECT["requires-python"].split(",")[1])


def test_citation() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["license"] == PROJECT["license"]
    assert cited["title"].startswith(PROJECT["name"])
    assert cited["version"] == mrisr.__version__


def test_changelog() -> None:
    """The newest release is the program's version."""
    released = re.findall(
        r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert released[0] == mrisr.__version__


@pytest.mark.slow
def test_wheel_and_sdist(tmp_path: Path) -> None:
    """Each below 30 MB: with the released weights and what runs need, without those of the comparison."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        top = f"mrisr-{mrisr.__version__}/"
        parts = {"sdist": [n.removeprefix(top) for n in file.getnames()]}
    parts["wheel"] = zipfile.ZipFile(wheel).namelist()
    for path, names in zip((sdist, wheel), parts.values(), strict=True):
        assert path.stat().st_size < 30e6, path.name
        weights = {n for n in names if n.endswith(".safetensors")}
        released = ("partdiff-inplane", "partdiff-throughplane", "zones")
        assert weights == {f"mrisr/models/{name}.safetensors" for name in released}
        assert "mrisr/models/comparison/sr3-inplane.json" in names
        assert not [n for n in names if "__pycache__" in n or n.endswith((".nii.gz", ".npz"))]
    for name in ("configs/finetune-inplane.yaml", "pipelines/Snakefile", "py.typed"):
        assert f"mrisr/{name}" in parts["wheel"]
    assert {"tests/conftest.py", "docs/conf.py", "configs/smoke.yaml", "LICENSE"} <= {
        *parts["sdist"]
    }
