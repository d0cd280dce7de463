"""The notebooks of the tutorials: small, whole, and still saying what they say when they are run."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_kept(path: Path) -> None:
    """Every cell was run, in order and without an error, and nothing of the machine is in the file."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not re.search(r"/(home|root|tmp|Users)/", text)
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert all(output.get("name") != "stderr" for output in outputs)


def said(cells: list[dict]) -> str:  # type: ignore[type-arg]
    """What a notebook has printed."""
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_run(path: Path) -> None:
    """They run, and print the same words and, but for what processors differ in, the same numbers."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from docs.scripts.notebooks import executed

    kept, again = said(json.loads(path.read_text())["cells"]), said(executed(path).cells)
    number = r"-?\d+\.?\d*"
    assert re.sub(number, "#", again) == re.sub(number, "#", kept)
    assert [float(n) for n in re.findall(number, again)] == pytest.approx(
        [float(n) for n in re.findall(number, kept)], abs=1.0, rel=0.02
    )
