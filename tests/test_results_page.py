"""The page of results is what its commands make."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from mrisr.config import load_settings
from mrisr.evaluation.case import ORIGINAL
from mrisr.evaluation.settings import ComparisonSettings, EvaluationSettings, ZonesSettings
from mrisr.models.card import INTERPOLATIONS, available

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


@pytest.mark.parametrize(
    "name",
    [
        *("inplane", "inplane-noisy", "inplane-measured", "rescan"),
        *("throughplane", "throughplane-noisy", "throughplane-measured", "reference", "planes"),
        *("zones", "zones-throughplane", "zones-measured"),
    ],
)
def test_every_method_has_its_row_at_every_scale(script: ModuleType, name: str) -> None:
    """And every model is one of the bundled."""
    zones = name in script.ZONES
    file = ROOT / "configs" / (script.ZONES if zones else script.SECTIONS)[name]
    text = section(script, name)
    assert f"evaluate {'zones ' * zones}--config configs/{file.name}" in text
    kind: type[ComparisonSettings] = ZonesSettings if zones else EvaluationSettings
    settings = load_settings(file, kind)
    with (script.FOLDER / f"{name}-means.csv").open(encoding="utf-8") as given:
        means = list(csv.DictReader(given))
    for scale in settings.scales:
        assert f"**{scale}: {'against the labels, ' * zones}mean over" in text
        rows = {r["method"] for r in means if r["table"].startswith(f"{scale}: ")}
        original = {ORIGINAL[scale.scoring]} if zones else set()
        assert rows == original | {m.name for m in settings.compared}
    assert all(f"results/{file}" in text for file in _files(script, name))
    models = {m.model for m in settings.compared if m.model is not None}
    assert models <= {*available(), *INTERPOLATIONS}


def _files(script: ModuleType, name: str) -> list[str]:
    kinds = ("means", *script.WHOLE)
    files = [f"{name}-{kind}.csv" for kind in kinds]
    return [file for file in files if (script.FOLDER / file).exists()]


def test_a_section_is_replaced_and_nothing_else(script: ModuleType) -> None:
    page = "above\n<!-- begin a -->\nold\n<!-- end a -->\nbelow"
    found = script.with_section(page, "a", "new \\1\n")
    assert found == "above\n<!-- begin a -->\n\nnew \\1\n\n<!-- end a -->\nbelow"
    with pytest.raises(SystemExit, match="no section b"):
        script.with_section(page, "b", "text")
