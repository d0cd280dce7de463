"""Series into an archive that does not always say what it did."""

from __future__ import annotations

import json
import os

import pydicom
import pytest

from mrisr.archive.transfer import send_series
from mrisr.core.errors import InputError, OutputError
from tests.archive.archive_server import Answer, failure
from tests.dicom.synthetic import hospital_series

XML = """<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
<DicomAttribute keyword="FailedSOPSequence" tag="00081198" vr="SQ"><Item number="1">
<DicomAttribute keyword="FailureReason" tag="00081197" vr="US"><Value number="1">43264</Value>
</DicomAttribute></Item></DicomAttribute></NativeDicomModel>"""


STORED = Answer(body=b'{"00081199": {"vr": "SQ", "Value": []}}')


@pytest.fixture
def uids(source) -> list[str]:
    return [str(pydicom.dcmread(p).SOPInstanceUID) for p in sorted(source.iterdir())]


@pytest.fixture
def refused(empty_archive, source, told):
    """Send, and expect a refusal with these words."""

    def check(*words: str) -> None:
        with told(OutputError, *words):
            send_series(empty_archive.url, source)

    return check


def test_all_that_was_sent_is_there_byte_for_byte(empty_archive, source, uids):
    (source / "notes.txt").write_text("no image")
    seen = []
    count = send_series(empty_archive.url, source, progress=lambda *n: seen.append(n))
    assert count == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert list(empty_archive.stored) == uids
    files = [p.read_bytes() for p in sorted(source.glob("IM*"))]
    assert list(empty_archive.stored.values()) == files
    assert {r["Host"] for r in empty_archive.requests} == {empty_archive.host}
    assert send_series(empty_archive.url, source) == 3


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize("kind", ["application/dicom+json", "application/JSON; charset=utf-8"])
def test_a_refused_instance_is_named_with_the_reason(empty_archive, refused, uids, status, kind):
    answer = Answer(status, failure(uids[1], 0xA700), kind)
    empty_archive.scripted = [("POST", STORED), ("POST", answer)]
    refused(f"IM0002 ({uids[1]}): ", "refused: out of resources (A700)")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(409, failure("1.2", 0x0122)), "Conflict (refused: SOP class not supported (0122))"),
        (Answer(409, failure("1.2", 0xA900)), "does not match its SOP class (A900)"),
        (Answer(409, failure("1.2", 0xC123)), "cannot understand (C123)"),
        (Answer(409, failure("1.2", 0x0001)), "no known reason (0001)"),
        (Answer(202, XML.encode(), "application/dicom+xml"), "its SOP class (A900)"),
        (Answer(409, b"SECRET"), "HTTP 409 Conflict"),
        (Answer(200, b"<html>SECRET</html>", "text/html"), "HTML page"),
        (Answer(200, b"SECRET"), "not DICOM JSON"),
        (Answer(200, b"[]"), "not DICOM JSON"),
        (Answer(409, b"[1]"), "HTTP 409 Conflict"),
        (Answer(200, b"<SECRET", "application/dicom+xml"), "not DICOM JSON"),
    ],
)
def test_answers_that_refuse_or_say_nothing(empty_archive, refused, answer, words):
    empty_archive.scripted = [("POST", answer)]
    refused("IM0001", words)
    assert len(empty_archive.requests) == 1


def test_what_passes_is_tried_again_with_the_whole_body(empty_archive, source, uids):
    empty_archive.scripted = [("POST", Answer(503)), ("POST", Answer(0))]
    assert send_series(empty_archive.url, source) == 3
    assert list(empty_archive.stored) == uids


def test_accepted_and_forgotten_is_found_out(empty_archive, refused, uids):
    empty_archive.forgets = {uids[2]}
    refused("1 of 3 instances sent are not listed", f"IM0003 ({uids[2]})")


def test_a_listing_that_comes_late_is_waited_for(empty_archive, source):
    empty_archive.scripted = [("GET .*/instances$", Answer())]
    assert send_series(empty_archive.url, source) == 3


def test_a_changed_instance_is_reported(empty_archive, source):
    lines: list[str] = []
    item = {"00081196": {"vr": "US", "Value": [0xB000]}}
    body = json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()
    empty_archive.add(source)
    empty_archive.scripted = [("POST", Answer(body=body))]
    send_series(empty_archive.url, source, report=lines.append)
    assert lines == ["IM0001: stored, but attributes were coerced (B000)"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda f: os.truncate(f / "IM0003", (f / "IM0003").stat().st_size - 8),
            "IM0003: expected whole pixel data, found truncated",
        ),
        (lambda f: (f / "IM0004").write_bytes((f / "IM0001").read_bytes()), "each SOPInstanceUID"),
        (lambda f: (f / "IM0004.dcm").write_bytes(b""), "IM0004.dcm: expected a DICOM image"),
        (lambda f: hospital_series(f, slices=1, size=16, patient="other"), "2 studies"),
        (lambda f: [p.unlink() for p in f.iterdir()], "no DICOM image file"),
        (lambda f: ([p.unlink() for p in f.iterdir()], f.rmdir()), "nothing at that path"),
    ],
    ids=["truncated", "twice", "empty", "studies", "none", "missing"],
)
def test_nothing_is_sent_of_a_folder_that_is_not_in_order(empty_archive, source, damage, words):
    damage(source)
    with pytest.raises(InputError, match=words):
        send_series(empty_archive.url, source)
    assert not empty_archive.requests
