"""The page of a batch: counts, rows, means, failures, and a thousand studies."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from mrisr.batch.outcome import study_outcome
from mrisr.batch.parts import Part
from mrisr.batch.report.charts import Chart
from mrisr.batch.report.overview import (
    StudyRow,
    faults,
    read_rows,
    scored,
    titles_of,
    worth,
    write_overview,
)
from mrisr.batch.report.subject import write_subject_page
from mrisr.batch.status import Status
from mrisr.io import write_json
from tests.batch.report_tree import add_part, outcome_of, write_batch, write_failed, write_many
from tests.batch.test_report_subject import NASTY, Page, check_alone


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch whose studies have their pages."""
    out = write_batch(tmp_path_factory.mktemp("batch") / "out")
    for folder in ("sub-01", "sub-02/ses-b", "sub-03"):
        write_subject_page(out / folder)
    return out


@pytest.fixture(scope="module")
def written(out: Path) -> str:
    path = write_overview(out, outcome_of(out))
    assert path == out / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(written: str) -> None:
    check_alone(written)
    assert "<svg" in written


def test_the_page_is_the_same_for_the_same_batch(out: Path, written: str) -> None:
    assert write_overview(out, outcome_of(out)).read_text(encoding="utf-8") == written


def test_the_page_counts_and_links(written: str) -> None:
    page = Page(written)
    text = page.text
    for part in (
        "Super-resolution of 3 studies",
        "Studies 3",
        "Done 2",
        "Failed 1",
        "1 study, at the stage “read and check the scans”: sub-03",
        "axial: expected 5000 bytes of voxels, found 1000",
        "Replace the file",
        "0.751",
        "0.793",
        "0.032%",
        "partdiff-throughplane",
    ):
        assert part in text, part
    links = [a["href"] for a in page.of("a")]
    assert links == [
        "sub-03/report.html",
        "sub-01/report.html",
        "sub-02/ses-b/report.html",
        "sub-03/report.html",
    ]
    assert [i.get("loading") for i in page.of("img")] == ["lazy"] * 4
    sort = [h.get("aria-sort") for h in page.of("th") if h.get("scope") == "col"]
    assert sort.count("none") > 8


def test_rows_hold_what_the_folders_say(out: Path) -> None:
    first, second, third = read_rows(out, outcome_of(out))
    assert (first.name, first.page, first.state) == ("sub-01", "sub-01/report.html", "done")
    assert (second.name, second.page) == ("sub-02 ses-b", "sub-02/ses-b/report.html")
    assert first.titles == {"throughplane": "through-plane ×3", "inplane-x2": "in-plane ×2"}
    assert first.dice["throughplane"] == {"PZ": 0.7934, "TZ": 0.8501}
    assert first.dice["inplane-x2"]["TZ"] is None
    assert second.dice == {}
    assert second.volumes_ml["source"]["PZ"] > 1
    assert first.total_seconds == pytest.approx(0.5 + 25 + 2.5 + 3 * 0.5)
    assert third.state == "failed"
    assert third.failures[0].reason.endswith("found 1000")
    assert third.thumbnails == ()
    rows = [first, second, third]
    assert scored(rows, "source", "PZ") == [0.7512]


def test_the_outcome_says_which_studies_there_are_and_how_they_ended(tmp_path: Path) -> None:
    add_part(tmp_path / "sub-01", "convert")
    add_part(tmp_path / "sub-old", "convert")  # of an earlier manifest
    failed = Part("upsample", "x", state="failed", reason="lost")
    outcome = [
        study_outcome("sub-01", Status("", (Part("convert", "axial"),))),
        study_outcome("sub-02", Status("", (failed,))),
        study_outcome("sub-03/ses-x", Status()),
    ]
    when = {"mrisr": "0.1.0", "finished": "2026-03-04T05:06:07+00:00"}
    write_json(tmp_path / "outcome.json", when)
    rows = read_rows(tmp_path, outcome)
    assert [(r.name, r.state) for r in rows] == [
        ("sub-01", "unfinished"),
        ("sub-02", "failed"),
        ("sub-03 ses-x", "unfinished"),
    ]
    text = Page(write_overview(tmp_path, outcome).read_text(encoding="utf-8")).text
    assert "Ended 2026-03-04 05:06:07 UTC, mrisr 0.1.0" in text
    assert "1 study, at the stage “super-resolve”: sub-02" in text
    assert "Not finished 2" in text


def test_an_empty_folder_is_a_page_as_well(tmp_path: Path) -> None:
    text = Page(write_overview(tmp_path, outcome_of(tmp_path)).read_text(encoding="utf-8")).text
    assert "There is no study in this folder." in text


def test_everything_is_escaped(tmp_path: Path) -> None:
    write_failed(tmp_path / "sub-01", NASTY)
    write_json(tmp_path / "batch.json", {NASTY: {"x": [NASTY, True, 0.25]}})
    page = write_overview(tmp_path, outcome_of(tmp_path)).read_text(encoding="utf-8")
    check_alone(page)
    assert "<img src=x" not in page


def test_failures_alike_stand_together(tmp_path: Path) -> None:
    for number in range(15):
        write_failed(tmp_path / f"sub-{number:02d}", f"axial: found {number}.5 bytes")
    write_failed(tmp_path / "sub-99", "out of memory", "upsample")
    first, second = faults(read_rows(tmp_path, outcome_of(tmp_path)))
    assert (first.stage, len(first.rows)) == ("convert", 15)
    assert second.reasons == ["axial: out of memory"]
    text = Page(write_overview(tmp_path, outcome_of(tmp_path)).read_text(encoding="utf-8")).text
    assert "and 3 more" in text
    assert "For example: axial: found 0.5 bytes" in text


def test_titles_of_volumes_whose_factors_differ() -> None:
    def titles(*pairs: tuple[str, str]) -> StudyRow:
        return StudyRow("sub-1", titles=dict(pairs))

    assert titles_of([titles(("a", "through-plane ×6")), titles(("a", "through-plane ×5.7"))]) == {
        "a": "through-plane"
    }
    assert titles_of([titles(("a", "in-plane ×2"), ("b", "in-plane ×2"))]) == {"a": "a", "b": "b"}
    assert titles_of([titles(("a", "in-plane ×2"), ("b", "in-plane ×4"))])["b"] == "in-plane ×4"


def test_means_are_over_studies_and_gains_are_paired() -> None:
    rows = [
        StudyRow("1", dice={"source": {"PZ": 0.7}, "up": {"PZ": 0.8}}),
        StudyRow("2", dice={"source": {"PZ": 0.9}, "up": {"PZ": 0.9}}),
        StudyRow("3", dice={"source": {"PZ": 0.5}}),
        StudyRow("4", dice={"up": {"PZ": None}}),
    ]
    measured, up = worth(rows, {"up": "in-plane ×2"})
    assert (measured.measured, measured.dice.n, measured.gain) == (True, 3, None)
    assert measured.dice.value == pytest.approx(0.7)
    assert up.gain is not None
    assert (up.gain.n, up.gain.value) == (2, pytest.approx(0.05))
    assert up.undefined == 1


def test_a_chart_is_small_and_has_a_dot_for_each_study() -> None:
    values = [0.5 + 0.4 * (n % 97) / 97 for n in range(1000)]
    svg = Chart("zone", "Dice", "", {"a b": values, "c": []}, limits=(0, 1)).drawn()
    assert len(svg) < 80_000
    assert max(path.count("M") for path in re.findall(r' d="([^"]*)"', svg)) == 1000
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert "n = 1000" in svg


def test_a_thousand_studies_are_quick_and_small(out: Path, tmp_path: Path) -> None:
    page = (out / "sub-01" / "report.html").read_bytes()[: 1 << 16]
    many = write_many(tmp_path / "many", 1000, page)
    outcome = outcome_of(many)
    began = time.process_time()
    path = write_overview(many, outcome)
    assert time.process_time() - began < 20  # a few seconds where nothing else runs
    assert path.stat().st_size < 15e6
    text = path.read_text(encoding="utf-8")
    assert text.count("<tr data-state=") == 1000
    assert text.count('loading="lazy"') == 2 * 900
    assert "and 88 more" in text
    assert text.count('<tr data-state="failed"') == 100
