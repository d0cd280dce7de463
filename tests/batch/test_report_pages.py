"""The pages of a study and of a batch: what they say, whether all went through or not."""

import re
import time
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mrisr.batch.report import pictures
from mrisr.batch.report.overview import chart, titles_of, worth, write_overview
from mrisr.batch.report.page import StudyResults, advice, agreement, read_study, write_subject_page
from mrisr.batch.report.pictures import make_pictures
from mrisr.batch.status import Part, Status
from mrisr.io import write_json
from mrisr.runs.record import DISCLAIMER
from tests.batch.conftest import (
    add_part,
    outcome_of,
    record_of,
    write_batch,
    write_failed,
    write_made,
)

VOID = {"meta", "link", "img", "input", "br"}
NASTY = '<img src=x onerror="alert(1)">&"\''


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps the text and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def of(self, tag: str, attribute: str) -> list[str | None]:
        """An attribute of all tags of a kind that have it."""
        return [a[attribute] for name, a in self.tags if name == tag and attribute in a]

    def holds(self, *parts: str) -> None:
        for part in parts:
            assert part in self.text, part


def study_page(folder: Path) -> Page:
    return Page(write_subject_page(folder).read_text(encoding="utf-8"))


def batch_page(out: Path, outcome: Mapping[str, Status] | None = None) -> Page:
    told = outcome_of(out) if outcome is None else outcome
    return Page(write_overview(out, told).read_text(encoding="utf-8"))


def check_alone(page: Page) -> None:
    """Everything that a page shows is in it, and nothing lets it ask for more."""
    forbidden = r"https?:|@import|fetch\(|XMLHttp|WebSocket|sendBeacon|eval\(|innerHTML"
    assert not re.search(forbidden, page.source)
    assert "default-src 'none'" in page.source
    assert {str(src).partition(",")[0] for src in page.of("img", "src")} <= {
        "data:image/jpeg;base64"
    }
    assert set(page.of("link", "href")) == {"data:,"}
    assert not page.of("script", "src")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


@pytest.fixture(scope="module", autouse=True)
def _few_pictures() -> Iterator[None]:
    """What pictures show has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "SLICES", 3)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_batch(tmp_path_factory.mktemp("batch") / "out")


# --- a study --------------------------------------------------------------------------------------


def test_what_was_made_and_what_it_is_worth(out: Path) -> None:
    page = Page((out / "sub-01" / "report.html").read_text(encoding="utf-8"))
    check_alone(page)
    assert len(page.source) < 2.5e6
    page.holds(
        "sub-01 done",
        "Super-resolved: through-plane ×3, in-plane ×2.",
        "1.00 × 1.00 × 3.00 mm",
        "0.793 +0.042",  # Dice of the peripheral zone and its gain
        "0.850 −0.002",
        "−1.5",  # bias in ml
        "0.032%",
        "it gives back the scan",
        "25.0 s",
        "0.75 GiB",
        "partdiff-throughplane",
        "c0" * 32,
        "5a" * 32,
        "95% Hausdorff distance",
        DISCLAIMER,
    )
    assert "What went wrong" not in page.text
    row = r"<tr[^>]*>\s*<th scope=\"row\">in-plane ×2</th>(.*?)</tr>"
    undefined = ["–" in found for found in re.findall(row, page.source, re.S)]
    assert sum(undefined) == 1, "the zone whose Dice is not defined"
    assert page.of("a", "href")[0] == "../report.html"
    assert "Axial: slice" in page.of("input", "aria-label")
    assert all(page.of("img", "alt"))
    assert study_page(out / "sub-01").source == page.source, "the same for the same study"


@pytest.mark.parametrize("zones", [True, False])
def test_a_study_without_labels(tmp_path: Path, zones: bool) -> None:
    page = study_page(write_made(tmp_path / "sub-02" / "ses-b", labels=False, zones=zones))
    page.holds("sub-02 ses-b", " of 12, counted from the feet")
    assert page.of("a", "href")[0] == "../../report.html"
    assert ("no reference labels" in page.text) == zones
    assert "HD95" not in page.text
    assert ("show-zones" in page.of("input", "class")) == zones
    assert "show-reference" not in page.of("input", "class")


def test_a_failed_study_has_a_page_that_says_why(tmp_path: Path) -> None:
    folder = write_failed(tmp_path / "sub-03", "axial: expected 5000 bytes of voxels, found 1000")
    add_part(folder, "upsample", "skipped", reason="axial failed in convert")
    page = study_page(folder)
    check_alone(page)
    page.holds(
        "sub-03 failed",
        "Stage “read and check the scans” failed.",
        "expected 5000 bytes of voxels, found 1000",
        "Replace the file, or correct its row of the manifest.",
        "it redoes this study and leaves the finished ones alone",
        "axial failed in convert",
        "No super-resolved volume was made.",
    )
    assert "Before and after" not in page.text


def test_a_study_that_failed_late_shows_what_there_is(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "sub-01", labels=False)
    add_part(folder, "segment", "failed", reason="source: out of memory")
    page = study_page(folder)
    page.holds("Give its rule more in the profile", "Before and after", "Then a stage failed.")


def test_notes_of_scans_volumes_and_zones_are_told(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "sub-01", labels=False)
    add_part(folder, "convert", name="axial", notes=("sform used",))
    record = record_of("throughplane", {"factor": 3.0}, notes=["tiles of 256"])
    write_json(folder / "upsampled" / "throughplane.json", record)
    write_json(folder / "zones" / "source.json", {"notes": ["thin slices dealt out"]})
    study_page(folder).holds(
        "axial: sform used",
        "through-plane ×3: tiles of 256",
        "zones, measured: thin slices dealt out",
    )


def test_odd_files_are_told_and_do_no_harm(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "sub-01", labels=False)
    (folder / "upsampled" / "throughplane.json").write_text("{")
    (folder / "upsampled" / "inplane-x2.json").write_text('{"parameters": 3, "residual": []}')
    (folder / "status.json").write_text("[]")
    study_page(folder).holds(
        "sub-01 not finished",
        "upsampled/throughplane.json holds no record.",
        "status.json holds no record.",
        "The record states no residual.",
    )


@pytest.mark.parametrize(
    ("share", "consistency", "grade", "told"),
    [
        (0.0003, 1.0, "good", "says nothing of added detail"),
        (0.004, 1.0, "fair", "may not be what the scanner did"),
        (0.02, 0.0, "poor", "it was not held to the measurement"),
    ],
)
def test_agreement_in_words(share: float, consistency: float, grade: str, told: str) -> None:
    record = {"residual": {"rms_of_range": share}, "parameters": {"consistency": consistency}}
    assert agreement(record)[0] == grade
    assert told in agreement(record)[1]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the process died here 2 times (killed, out of memory, or a crash)", "more memory"),
        ("JOB 7 CANCELLED DUE TO TIME LIMIT", "more time"),
        ("OSError: No space left on device", "Make room"),
        ("ValueError: surprise", "MRISR_TRACEBACK=1"),
    ],
)
def test_advice_fits_the_reason(reason: str, told: str) -> None:
    assert told in advice(reason)


# --- all studies ----------------------------------------------------------------------------------


def test_the_page_of_all_counts_and_links(out: Path) -> None:
    page = batch_page(out)
    check_alone(page)
    assert "<svg" in page.source
    page.holds(
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
        "29.5 s",
        "partdiff-throughplane",
    )
    pages = ["sub-01/report.html", "sub-02/ses-b/report.html", "sub-03/report.html"]
    assert page.of("a", "href") == [pages[2], *pages]
    assert page.of("th", "aria-sort").count("none") > 8
    assert batch_page(out).source == page.source, "the same for the same batch"


def test_rows_show_the_measured_volume_beside_the_upsampled_one(out: Path) -> None:
    page = batch_page(out)
    assert page.of("img", "alt") == ["before", "after"] * 2, "the failed study has none"
    assert len(set(page.of("img", "src"))) == 4
    (viewer, *_), _ = make_pictures(read_study(out / "sub-01"))
    assert page.of("img", "src")[:2] == viewer.thumbnails


def test_the_outcome_says_which_studies_there_are_and_how_they_ended(tmp_path: Path) -> None:
    add_part(tmp_path / "sub-01", "convert")
    add_part(tmp_path / "sub-old", "convert")  # of an earlier manifest
    outcome = {
        "sub-01": Status("", (Part("convert", "axial"),)),
        "sub-02": Status("", (Part("upsample", "x", state="failed", reason="lost"),)),
        "sub-03/ses-x": Status(),
    }
    when = {"mrisr": "0.1.0", "finished": "2026-03-04T05:06:07+00:00"}
    write_json(tmp_path / "outcome.json", when)
    page = batch_page(tmp_path, outcome)
    page.holds(
        "Ended 2026-03-04 05:06:07 UTC, mrisr 0.1.0",
        "1 study, at the stage “super-resolve”: sub-02",
        "Not finished 2",
        "sub-03 ses-x",
    )
    assert "sub-old" not in page.text
    batch_page(tmp_path, {}).holds("There is no study in this folder.")


def test_failures_alike_stand_together(tmp_path: Path) -> None:
    for number in range(15):
        write_failed(tmp_path / f"sub-{number:02d}", f"axial: found {number}.5 bytes")
    write_failed(tmp_path / "sub-99", "out of memory", "upsample")
    page = batch_page(tmp_path)
    page.holds("15 studies, at the stage", "and 3 more", "For example: axial: found 0.5 bytes")
    page.holds("1 study, at the stage “super-resolve”: sub-99")


def test_everything_is_escaped(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "sub-01", labels=False)
    record = record_of("throughplane", {"factor": 3.0, NASTY: NASTY}, notes=[NASTY])
    record["model"]["name"] = NASTY
    write_json(folder / "upsampled" / "throughplane.json", record)
    add_part(folder, "score", "failed", reason=NASTY, parameters={NASTY: [NASTY]})
    write_json(tmp_path / "batch.json", {NASTY: {"x": [NASTY, True, 0.25]}})
    for page in (study_page(folder), batch_page(tmp_path)):
        check_alone(page)
        assert "&lt;img src=x onerror=" in page.source


def row(
    dice: Mapping[str, float | None], records: Mapping[str, tuple[str, float]] | None = None
) -> StudyResults:
    """A study with Dice of the peripheral zone, and upsampled volumes of a job and a factor."""
    parts = (Part("score", v, state="done", scores={"PZ": {"dice": d}}) for v, d in dice.items())
    told = {
        v: {"job": job, "parameters": {"factor": factor}}
        for v, (job, factor) in (records or {}).items()
    }
    return StudyResults(Path("out/sub-1"), Status("", tuple(parts)), told, {})


@pytest.mark.parametrize(
    ("studies", "titles"),
    [
        ([{"a": ("throughplane", 6)}, {"a": ("throughplane", 5.7)}], {"a": "a"}),
        ([{"a": ("inplane", 2), "b": ("inplane", 2)}], {"a": "a", "b": "b"}),
        ([{"a": ("inplane", 2), "b": ("inplane", 4)}], {"a": "in-plane ×2", "b": "in-plane ×4"}),
    ],
)
def test_titles_tell_volumes_apart(studies: list[Any], titles: dict[str, str]) -> None:
    assert titles_of([row({}, records) for records in studies]) == titles


def test_means_are_over_studies_and_gains_are_paired() -> None:
    dice: list[dict[str, float | None]] = [
        {"source": 0.7, "up": 0.8},
        {"source": 0.9, "up": 0.9},
        {"source": 0.5},
        {"up": None},
    ]
    measured, up = worth([row(values) for values in dice], {"up": "in-plane ×2"})
    assert (measured.volume, measured.dice.n, measured.gain) == ("measured", 3, None)
    assert measured.dice.value == pytest.approx(0.7)
    assert up.gain is not None
    assert (up.gain.n, up.gain.value) == (2, pytest.approx(0.05))


def test_a_chart_is_small_and_has_a_dot_for_each_study() -> None:
    values = [0.5 + 0.4 * (n % 97) / 97 for n in range(1000)]
    drawn = chart("zone", "Dice", "", {"a b": values, "c": []}, limits=(0, 1))
    (column,) = drawn["columns"]
    assert (column["dots"].count("M"), column["lines"]) == (1000, ["a", "b", "n = 1000"])
    assert len(column["dots"]) < 20_000
    assert [text for text, _ in drawn["ticks"]] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert chart("zone", "Dice", "", {"c": []}) == {}


@pytest.mark.slow
def test_a_thousand_studies_are_quick_and_small(out: Path, tmp_path: Path) -> None:
    kinds = [out / "sub-01"] * 9 + [out / "sub-03"]
    statuses = outcome_of(out)
    outcome = {}
    for number in range(1000):
        kind = kinds[number % 10]
        (tmp_path / f"sub-{number:04d}").symlink_to(kind)
        outcome[f"sub-{number:04d}"] = statuses[kind.name]
    began = time.process_time()
    page = write_overview(tmp_path, outcome)
    assert time.process_time() - began < 20  # a few seconds where nothing else runs
    assert page.stat().st_size < 15e6
    text = page.read_text(encoding="utf-8")
    assert text.count("<tr data-state=") == 1000
    assert "and 88 more" in text
