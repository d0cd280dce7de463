"""The page of results is what its commands make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from mrisr.evaluation.settings import load_evaluation
from mrisr.evaluation.zones.score import ORIGINAL
from mrisr.evaluation.zones.settings import load_zones_settings
from mrisr.models.find import INTERPOLATIONS, available

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = ROOT / "docs" / "scripts" / "results.py"
    specification = importlib.util.spec_from_file_location("results", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def section(script: ModuleType, name: str) -> str:
    page = script.PAGE.read_text(encoding="utf-8")
    return page.split(f"<!-- begin {name} -->")[1].split(f"<!-- end {name} -->")[0]


@pytest.mark.parametrize("name", ["inplane", "throughplane", "reference"])
def test_every_method_has_its_row_at_every_factor(script: ModuleType, name: str) -> None:
    file = ROOT / "configs" / script.SECTIONS[name]
    text = section(script, name)
    assert f"--config configs/{file.name}" in text
    settings = load_evaluation(file)
    for factor in settings.factors:
        (table,) = re.findall(rf"### x{factor:g}: mean over.*?\n\n(.*?)\n\n", text, re.DOTALL)
        rows = {line.split("|")[1].strip("* ") for line in table.splitlines()[2:]}
        assert rows == {m.name for m in settings.compared}


@pytest.mark.parametrize("name", ["inplane", "throughplane", "reference"])
def test_every_model_of_a_comparison_is_bundled(script: ModuleType, name: str) -> None:
    settings = load_evaluation(ROOT / "configs" / script.SECTIONS[name])
    models = {m.model for m in settings.compared if m.model is not None}
    assert models <= {*available(), *INTERPOLATIONS}


@pytest.mark.parametrize("name", ["zones", "zones-throughplane", "zones-measured"])
def test_every_method_has_its_row_of_zones(script: ModuleType, name: str) -> None:
    file = ROOT / "configs" / script.ZONES[name]
    text = section(script, name)
    assert f"evaluate zones --config configs/{file.name}" in text
    settings = load_zones_settings(file)
    for scale in settings.scales:
        heading = f"### {scale}: against the labels, mean over \\d+ patients?"
        (table,) = re.findall(rf"{heading}\n\n(.*?)\n\n", text, re.DOTALL)
        rows = {line.split("|")[1].strip("* ") for line in table.splitlines()[2:]}
        assert rows == {ORIGINAL[scale.scoring], *(m.name for m in settings.compared)}


def test_a_section_is_replaced_and_nothing_else(script: ModuleType) -> None:
    page = "above\n<!-- begin a -->\nold\n<!-- end a -->\nbelow"
    found = script.with_section(page, "a", "new \\1\n")
    assert found == "above\n<!-- begin a -->\n\nnew \\1\n\n<!-- end a -->\nbelow"
    with pytest.raises(SystemExit, match="no section b"):
        script.with_section(page, "b", "text")
