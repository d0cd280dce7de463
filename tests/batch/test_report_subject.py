"""The page of a study: what it says, of studies that went through and of those that did not."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mrisr.batch.report import words
from mrisr.batch.report.subject import write_subject_page
from mrisr.data.phantom import label_volume, phantom, phantom_affine
from mrisr.io import write_json, write_volume
from mrisr.runs.record import DISCLAIMER
from tests.batch.report_tree import add_part, record_of, repeated, write_failed, write_study

VOID = {"meta", "link", "img", "input", "br"}
NASTY = '<img src=x onerror="alert(1)">&"\''


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps the text and the tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

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

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_alone(page: str) -> None:
    """Everything that a page shows is in it, and nothing lets it ask for more."""
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"@import|fetch\(|XMLHttp|WebSocket|sendBeacon|eval\(|innerHTML", page)
    assert "default-src 'none'" in page
    parsed = Page(page)
    assert {i["src"].partition(",")[0] for i in parsed.of("img") if i["src"]} <= {
        "data:image/jpeg;base64"
    }
    assert all(link["href"] == "data:," for link in parsed.of("link"))
    assert not any("src" in script for script in parsed.of("script"))
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("out") / "sub-01")


@pytest.fixture(scope="module")
def written(study: Path) -> str:
    path = write_subject_page(study)
    assert path == study / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(written: str) -> None:
    check_alone(written)
    assert len(written) < 2.5e6


def test_the_page_is_the_same_for_the_same_study(study: Path, written: str) -> None:
    assert write_subject_page(study).read_text(encoding="utf-8") == written


def test_the_page_says_what_was_made_and_what_it_is_worth(written: str) -> None:
    page = Page(written)
    for part in (
        "sub-01 done",
        "Two super-resolved volumes were made: through-plane ×3, in-plane ×2.",
        "1.00 × 1.00 × 3.00 mm",
        "0.793 +0.042",  # Dice of the peripheral zone and its gain
        "0.850 −0.002",
        "−1.5",  # bias in ml
        "0.032%",
        "Agrees with the measurement",
        "25.0 s",
        "0.75 GiB",
        "partdiff-throughplane",
        "c0" * 32,
        "5a" * 32,
        "95% Hausdorff distance",
        DISCLAIMER,
    ):
        assert part in page.text, part
    assert "What went wrong" not in page.text
    rows = re.findall(r"<tr[^>]*>\s*<th scope=\"row\">in-plane ×2</th>(.*?)</tr>", written, re.S)
    assert sum("–" in row for row in rows) == 1  # the zone whose Dice is not defined
    assert [a["href"] for a in page.of("a")][:1] == ["../report.html"]
    assert {i["aria-label"] for i in page.of("input") if i.get("type") == "range"} >= {
        "Axial: slice",
        "Coronal: where the line lies between the left and the right volume",
    }
    assert all(image.get("alt") for image in page.of("img"))


def test_the_summary_for_the_page_of_all_stands_at_the_beginning(written: str) -> None:
    text = re.search(r'<script type="application/json" id="summary">(.*?)</script>', written)
    assert text is not None
    assert text.end() < 1 << 16
    summary = json.loads(text[1])
    assert len(summary["thumbnails"]) == 2


def test_a_study_without_labels_states_volumes_only(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-02" / "ses-b", labels=False)
    text = write_subject_page(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "no reference labels" in page.text
    assert "HD95" not in page.text
    assert "sub-02 ses-b" in page.text
    assert page.of("a")[0]["href"] == "../../report.html"
    assert 'class="show-reference"' not in text
    assert 'class="show-zones"' in text


def test_a_study_without_zones_has_no_outlines(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-01", labels=False, zones=False)
    text = write_subject_page(folder).read_text(encoding="utf-8")
    assert "legend>Outlines" not in text
    assert 'class="zones"' not in text
    assert re.search(r"slice [67] of 12, counted from the feet", text)


def test_a_failed_study_has_a_page_that_says_why(tmp_path: Path) -> None:
    folder = write_failed(tmp_path / "sub-03", "axial: expected 5000 bytes of voxels, found 1000")
    add_part(folder, "upsample", "skipped", reason="axial failed in convert")
    page = write_subject_page(folder).read_text(encoding="utf-8")
    check_alone(page)
    text = Page(page).text
    assert "sub-03 failed" in text
    assert "Stage “read and check the scans” failed." in text
    assert "expected 5000 bytes of voxels, found 1000" in text
    assert "Replace the file, or correct its row of the manifest." in text
    assert "it redoes this study and leaves the finished ones alone" in text
    assert "axial failed in convert" in text
    assert "Before and after" not in text


def test_a_study_that_failed_late_shows_what_there_is(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-01", labels=False)
    add_part(folder, "segment", "failed", reason="source: out of memory")
    text = Page(write_subject_page(folder).read_text(encoding="utf-8")).text
    assert "Give its rule more in the profile" in text
    assert "Before and after" in text
    assert "Then a stage failed." in text


def test_notes_of_scans_volumes_and_zones_are_told(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-01", labels=False)
    add_part(folder, "convert", name="axial", notes=("sform used",))
    record = record_of("throughplane", {"factor": 3.0}, notes=["tiles of 256"])
    write_json(folder / "upsampled" / "throughplane.json", record)
    write_json(folder / "zones" / "source.json", {"notes": ["thin slices dealt out"]})
    text = Page(write_subject_page(folder).read_text(encoding="utf-8")).text
    assert "axial: sform used" in text
    assert "through-plane ×3: tiles of 256" in text
    assert "zones, measured: thin slices dealt out" in text


def test_nothing_at_all_is_a_page_as_well(tmp_path: Path) -> None:
    (tmp_path / "sub-01").mkdir()
    text = Page(write_subject_page(tmp_path / "sub-01").read_text(encoding="utf-8")).text
    assert "sub-01 not finished" in text
    assert "No super-resolved volume was made." in text


def test_everything_is_escaped(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-01", labels=False)
    record = record_of("throughplane", {"factor": 3.0, NASTY: NASTY}, notes=[NASTY])
    record["model"]["name"] = NASTY
    write_json(folder / "upsampled" / "throughplane.json", record)
    add_part(folder, "score", "failed", reason=NASTY, parameters={NASTY: [NASTY]})
    page = write_subject_page(folder).read_text(encoding="utf-8")
    check_alone(page)
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=" in page


def test_odd_files_are_told_and_do_no_harm(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "sub-01", labels=False)
    (folder / "upsampled" / "throughplane.json").write_text("{")
    (folder / "upsampled" / "inplane-x2.json").write_text('{"parameters": 3, "residual": []}')
    (folder / "status.json").write_text("[]")
    text = Page(write_subject_page(folder).read_text(encoding="utf-8")).text
    assert "upsampled/throughplane.json holds no record." in text
    assert "status.json holds no record." in text
    assert "The record states no residual." in text


@pytest.mark.parametrize(
    ("share", "consistency", "grade", "told"),
    [
        (0.0003, 1.0, "good", "nothing that was measured has been lost"),
        (0.004, 1.0, "fair", "may not be what the scanner did"),
        (0.02, 0.0, "poor", "it was not held to the measurement"),
        (None, 1.0, "unknown", "states no residual"),
    ],
)
def test_agreement_in_words(share: float | None, consistency: float, grade: str, told: str) -> None:
    record = {"residual": {"rms_of_range": share}, "parameters": {"consistency": consistency}}
    assert words.agreement(record)[0] == grade
    assert told in words.agreement(record)[1]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("throughplane: out of memory", "more memory"),
        ("the process died here 2 times (killed, out of memory, or a crash)", "more memory"),
        ("JOB 7 CANCELLED DUE TO TIME LIMIT", "more time"),
        ("OSError: No space left on device", "Make room"),
        ("axial: expected a stack, found nothing at that path", "Replace the file"),
        ("ValueError: surprise", "MRISR_TRACEBACK=1"),
    ],
)
def test_advice_fits_the_reason(reason: str, told: str) -> None:
    assert told in words.advice(reason)


@pytest.mark.slow
def test_a_study_of_the_usual_size_is_quick_and_small(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01"
    for room in ("source", "upsampled", "zones"):
        (folder / room).mkdir(parents=True)
    shape, spacing = (384, 384, 19), (0.5, 0.5, 3.0)
    axial = phantom(shape, spacing=spacing, noise=0.03)
    labels = label_volume(shape, phantom_affine(shape, spacing=spacing))
    write_volume(axial, folder / "source" / "axial.nii.gz")
    write_volume(labels, folder / "source" / "labels.nii.gz")
    for name, factors in {
        "source": (1, 1, 1),
        "throughplane": (1, 1, 6),
        "inplane-x2": (2, 2, 1),
    }.items():
        write_volume(repeated(labels, factors), folder / "zones" / f"{name}.nii.gz")
        if name != "source":
            write_volume(repeated(axial, factors), folder / "upsampled" / f"{name}.nii.gz")
    write_subject_page(folder)  # what is imported is imported once for a chunk of studies
    began = time.process_time()
    page = write_subject_page(folder)
    assert time.process_time() - began < 6
    assert page.stat().st_size < 2.5e6
