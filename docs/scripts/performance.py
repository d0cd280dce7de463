"""Make the tables and the picture of docs/performance.md: benchmark, ways to be faster, batch.

    python docs/scripts/performance.py --output runs/performance

On a machine that does nothing else. ``--only`` makes some sections anew, or the baseline of ``make bench``;
``--again`` takes the outputs that an earlier run has left in the folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from results import with_section

from mrisr.benchmark.report import remarks, tables
from mrisr.benchmark.run import read_benchmark

HERE = Path(__file__).resolve().parent
PAGE, PICTURE = HERE.parent / "performance.md", HERE.parent / "_static" / "performance.png"
BASELINE = HERE.parents[1] / "configs" / "benchmark.json"
SECTIONS = ("benchmark", "faster", "batch")


def ran(*arguments: str | Path) -> str:
    """What a Python program says on standard output; stops if it fails."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def section(name: str, output: Path, again: bool) -> str:
    """The text of a section, measured, or as an earlier run has left it."""
    if name == "benchmark":
        file, picture = output / "benchmark.json", output / "benchmark.png"
        if not again:
            asked = ("--device", "cpu", "--json", file, "--plot", picture, "--force")
            code = subprocess.run([sys.executable, "-m", "mrisr", "benchmark", *asked], check=False)
            if code.returncode not in (0, 8):
                raise SystemExit("the benchmark failed")
        shutil.copyfile(picture, PICTURE)
        done = read_benchmark(file)
        said = "\n".join(f"- {line}" for line in remarks(done))
        return "\n".join(
            [f"`{done.command}`:\n", said, "", *(t.as_markdown() for t in tables(done))]
        )
    file = output / f"{name}.txt"
    if not again:
        script = HERE / ("faster.py" if name == "faster" else "batch_overhead.py")
        batch = ("--studies", "4", "--shape", "256", "256", "20", "--spacing", "0.7", "0.7", "3.0")
        file.write_text(ran(script, *(batch if name == "batch" else ())), encoding="utf-8")
    text = file.read_text(encoding="utf-8").strip()
    if name == "faster":
        return text
    kept = [line for line in text.splitlines() if line.startswith(("clock", "processor"))]
    return "\n".join(["```text", *kept, "```"])


def main() -> None:
    """Measure and write the page anew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for what was measured")
    parser.add_argument("--only", nargs="+", default=SECTIONS, choices=[*SECTIONS, "baseline"])
    parser.add_argument("--again", action="store_true", help="measure nothing, write the page")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    for name in asked.only:
        if name == "baseline":
            ran(
                "-m",
                "mrisr",
                "benchmark",
                "--device",
                "cpu",
                "--quick",
                "--json",
                BASELINE,
                "--force",
            )
            continue
        text = section(name, asked.output, asked.again)
        page = PAGE.read_text(encoding="utf-8")  # which may have been edited meanwhile
        PAGE.write_text(with_section(page, name, text), encoding="utf-8")


if __name__ == "__main__":
    main()
