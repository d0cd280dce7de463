"""What describes the package to others says what the package says."""

import re
from pathlib import Path

import pytest
import yaml

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
