"""Make the comparison of docs/results.md: prepare, score every method, and put the tables into the page.

    python docs/scripts/results.py --data studies/ --output runs/results

What an earlier run has scored is kept. With ``--train`` the models of configs/comparison are trained
first, into ``OUTPUT/models``, instead of taking the bundled ones: minutes of one core for each.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"
#: Section of the page -> evaluation file.
SECTIONS = {
    "inplane": "evaluate_inplane.yaml",
    "throughplane": "evaluate_throughplane.yaml",
    "reference": "evaluate_throughplane_reference.yaml",
}
#: The same of `mrisr evaluate zones`, which reads the patients' own files.
ZONES = {
    "zones": "evaluate_zones.yaml",
    "zones-throughplane": "evaluate_zones_throughplane.yaml",
    "zones-measured": "evaluate_zones_measured.yaml",
}
#: Trained last: what freezes another model's denoiser.
LAST = "invsr"


def mrisr(*arguments: str | Path, models: Path | None = None) -> int:
    """Run a command of mrisr; its exit code."""
    environment = os.environ | ({"MRISR_MODELS": str(models)} if models else {})
    command = [sys.executable, "-m", "mrisr", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False).returncode


def train_all(cache: Path, output: Path) -> Path:
    """Train every model of the comparison; the folder that then holds them, as a folder of models."""
    runs, models = output / "training", output / "models"
    models.mkdir(parents=True, exist_ok=True)
    files = (ROOT / "configs" / "comparison").glob("*-*plane.yaml")
    for file in sorted(files, key=lambda p: (p.stem.startswith(LAST), p.stem)):
        run = runs / file.stem
        arguments = ("train", "--config", file, "--data", cache, "--output", run, "--resume")
        if mrisr(*arguments, models=models):
            raise SystemExit(f"{file.name}: training failed")
        for suffix in (".json", ".safetensors"):
            data = (run / f"model{suffix}").read_bytes()
            (models / f"{file.stem}{suffix}").write_bytes(data)
    return models


def score_all(
    data: Path, cache: Path, output: Path, models: Path | None, only: list[str]
) -> Iterator[tuple[str, str]]:
    """Run every evaluation, or those named; the name of a section and its text."""
    for name, file in (SECTIONS | ZONES).items():
        if only and name not in only:
            continue
        folder = output / name
        given = cache if name in ("inplane", "throughplane") else data
        arguments = ["--config", ROOT / "configs" / file, "--data", given, "--output", folder]
        if name in ZONES:
            arguments.insert(0, "zones")
        elif models is not None and name != "reference":
            arguments.append("--card")
        if mrisr("evaluate", *arguments, models=models) not in (0, 8):
            raise SystemExit(f"{file}: evaluation failed")
        yield name, (folder / "results.md").read_text(encoding="utf-8")


def with_section(page: str, name: str, text: str) -> str:
    """The page with other text between the marks of a section."""
    marks = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(marks[0])}.*?{re.escape(marks[1])}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: no section {name}")
    return pattern.sub(lambda _: f"{marks[0]}\n\n{text.strip()}\n\n{marks[1]}", page)


def main() -> None:
    """Score what is missing and write the page anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per patient")
    parser.add_argument("--output", type=Path, required=True, help="folder for cache and scores")
    parser.add_argument("--cache", type=Path, help="a cache of the same data, if there is one")
    parser.add_argument("--train", action="store_true", help="train the models anew first")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*SECTIONS, *ZONES], help="sections to make anew"
    )
    asked = parser.parse_args()
    cache = asked.cache or asked.output / "cache"
    needed = not asked.only or not set(asked.only) <= set(ZONES)
    if (
        needed
        and not (cache / "index.json").exists()
        and mrisr("prepare", "--data", asked.data, "--output", cache)
    ):
        raise SystemExit("prepare: some volumes could not be read")
    models = train_all(cache, asked.output) if asked.train else None
    page = PAGE.read_text(encoding="utf-8")
    for name, text in score_all(asked.data, cache, asked.output, models, asked.only):
        page = with_section(page, name, text)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
