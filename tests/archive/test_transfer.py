"""Series out of an archive and into one that does not always do what it should, and both by command."""

import json
import os
import sys

import pydicom
import pytest

from mrisr.archive import client
from mrisr.archive.transfer import fetch_series, list_series, send_series
from mrisr.core.errors import InputError, OutputError, UsageError
from tests.archive.conftest import MULTIPART, Answer, failure, multipart, serving
from tests.dicom.synthetic import hospital_series

HTML = Answer(body=b"<html>SECRET login</html>", kind="text/html; charset=utf-8")
WADO = r"GET .*/instances/"
XML = """<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">
<DicomAttribute keyword="FailedSOPSequence" tag="00081198" vr="SQ"><Item number="1">
<DicomAttribute keyword="FailureReason" tag="00081197" vr="US"><Value number="1">43264</Value>
</DicomAttribute></Item></DicomAttribute></NativeDicomModel>"""
STORED = Answer(body=b'{"00081199": {"vr": "SQ", "Value": []}}')


@pytest.fixture
def no_fetch(archive, study, tmp_path, told):
    """Fetch, and expect a refusal with these words."""

    def check(*words: str, study: str = study) -> None:
        with told(InputError, *words):
            fetch_series(archive.url, study, None, tmp_path / "out")

    return check


def test_a_series_arrives_byte_for_byte_in_the_order_of_its_numbers(
    archive, source, study, tmp_path
):
    archive.stored = dict(reversed(archive.stored.items()))
    seen = []
    more = {"progress": lambda *n: seen.append(n)}
    folder = fetch_series(archive.url + "/", study, None, tmp_path / "out", **more)
    assert folder == tmp_path / "out"
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == ["0001.dcm", "0002.dcm", "0003.dcm"]
    assert [f.read_bytes() for f in files] == [p.read_bytes() for p in sorted(source.iterdir())]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert {r["Host"] for r in archive.requests} == {archive.host}
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert archive.requests[-1]["Accept"] == wanted


@pytest.mark.parametrize("wanted", ["6", "T2_tse_tra_6 ", "uid", None, "7"])
def test_one_series_of_several_is_chosen_as_in_a_folder(archive, study, tmp_path, wanted):
    archive.add(hospital_series(tmp_path / "second", size=16, slices=2, number=6))
    found = list_series(archive.url, study)
    assert [(s.number, s.instances, s.modality) for s in found] == [("5", 3, "MR"), ("6", 2, "MR")]
    wanted = found[1].uid if wanted == "uid" else wanted
    refused = {None: r"one series \(--series picks\), found 2", "7": "'7', found 0 of 2"}
    if wanted in refused:
        with pytest.raises(InputError, match=refused[wanted]):
            fetch_series(archive.url, study, wanted, tmp_path / "out")
        return
    assert len(list(fetch_series(archive.url, study, wanted, tmp_path / "out").iterdir())) == 2


def test_pages_are_turned_and_instances_need_not_be_counted(archive, study, tmp_path):
    archive.page, archive.counts = 2, False
    folder = fetch_series(archive.url, study, "5", tmp_path / "out")
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(400, b"SECRET"), "HTTP 400 Bad Request"),
        (Answer(401, b"SECRET"), "HTTP 401 Unauthorized (credentials are taken from MRISR_DICOM"),
        (Answer(403, b"SECRET"), "HTTP 403 Forbidden (these credentials may not"),
        (Answer(404, b"SECRET"), "HTTP 404 Not Found (not there"),
        (Answer(500, b"SECRET"), "HTTP 500 Internal Server Error"),
        (Answer(599, b"SECRET"), "HTTP 599"),
        (HTML, "HTML page"),
        (Answer(wait=1.0), "no answer in time"),
    ],
)
@pytest.mark.parametrize("where", ["GET .*/series$", WADO])
def test_no_answer_is_told_at_once(archive, no_fetch, monkeypatch, answer, words, where):
    if answer.wait:
        monkeypatch.setattr(client, "TIMEOUT", (5.0, 0.5))
    archive.scripted = [(where, answer)]
    no_fetch(words)
    assert not archive.scripted
    assert len(archive.requests) == (1 if where != WADO else 5)


@pytest.mark.parametrize("passing", [Answer(502), Answer(503), Answer(0)])
def test_what_passes_is_tried_again(archive, study, tmp_path, passing):
    archive.scripted = [("GET .*/series$", passing), (WADO, passing), (WADO, passing)]
    folder = fetch_series(archive.url, study, None, tmp_path / "out")
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [(Answer(503), "HTTP 503 Service Unavailable"), (Answer(0), "no answer: the connection broke")],
)
def test_what_does_not_pass_is_given_up(archive, no_fetch, answer, words):
    archive.scripted = [("GET", answer)] * 9
    no_fetch(words)
    assert len(archive.requests) == 3


def test_nobody_there(archive, no_fetch, monkeypatch):
    with serving() as gone:
        pass
    monkeypatch.setattr(archive, "url", gone.url)
    no_fetch("Connection refused")


@pytest.mark.parametrize("body", [b"", b"not json", b'["a", 1]', b"[{}]", b'{"a": 1}', b"null"])
def test_listings_that_are_none(archive, no_fetch, body):
    archive.scripted = [("GET .*/series$", Answer(body=body))]
    no_fetch()


def test_listing_and_count_must_agree(archive, no_fetch):
    first, second, _ = archive.stored
    del archive.stored[second]
    one = {"00080018": {"vr": "UI", "Value": [first]}}
    answers = [Answer(body=json.dumps([one, one]).encode()), Answer()]
    archive.scripted = [("GET .*/instances$", answer) for answer in answers]
    no_fetch("1 instances listed where it counts 2")


def test_an_unknown_study(archive, no_fetch):
    no_fetch("expected a study with series", study="1.2.3")
    with pytest.raises(UsageError, match="StudyInstanceUID"):
        list_series(archive.url, "../patients")


def test_a_body_that_ends_early(archive, no_fetch):
    data = multipart(next(iter(archive.stored.values())))
    cut = Answer(body=data[:-600], kind=MULTIPART, length=False)
    archive.scripted = [(WADO, cut)]
    no_fetch("truncated answer")
    archive.scripted = [(WADO, Answer(body=data[:-600], kind=MULTIPART, length=len(data)))] * 3
    no_fetch("the connection broke")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda uid, data: data[:-8], "truncated pixel data"),
        (lambda uid, data: data[:400], "instance"),
        (lambda uid, data: b"", "not one whole DICOM object"),
        (lambda uid, data: b"PK\3\4" * 99, "not one whole DICOM object"),
        (lambda uid, data: data.replace(uid[-9:].encode(), b"123456789"), "another SOPInstanceUID"),
        (lambda uid, data: data + multipart(data)[:-20], "not one whole DICOM object"),
    ],
    ids=["pixels", "header", "empty", "zip", "instance", "two"],
)
def test_what_arrives_must_be_the_instance_asked_for(archive, no_fetch, change, words):
    second = list(archive.stored)[1]
    archive.retrieved = lambda uid, data: change(uid, data) if uid == second else data
    no_fetch(words, f"instance {second}")


def test_an_existing_folder_stays_unless_forced(archive, study, tmp_path):
    folder = fetch_series(archive.url, study, None, tmp_path / "out")
    (folder / "0009.dcm").write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        fetch_series(archive.url, study, None, folder)
    archive.scripted = [(WADO, Answer(500))]
    with pytest.raises(InputError):
        fetch_series(archive.url, study, None, folder, force=True)
    assert (folder / "0009.dcm").read_text() == "old"
    fetch_series(archive.url, study, None, folder, force=True)
    assert len(list(folder.iterdir())) == 3


def test_force_replaces_nothing_but_a_fetched_series(archive, study, tmp_path):
    folder = tmp_path / "out"
    (folder / "0001.dcm").mkdir(parents=True)
    (folder / "thesis.doc").write_text("precious")
    with pytest.raises(OutputError, match="nothing replaced"):
        fetch_series(archive.url, study, None, folder, force=True)
    assert not archive.requests
    assert (folder / "thesis.doc").exists()


# --- into an archive -------------------------------------------------------------------------------


@pytest.fixture
def uids(source) -> list[str]:
    return [str(pydicom.dcmread(p).SOPInstanceUID) for p in sorted(source.iterdir())]


@pytest.fixture
def no_send(empty_archive, source, told):
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
def test_a_refused_instance_is_named_with_the_reason(empty_archive, no_send, uids, status, kind):
    answer = Answer(status, failure(uids[1], 0xA700), kind)
    empty_archive.scripted = [("POST", STORED), ("POST", answer)]
    no_send(f"IM0002 ({uids[1]}): ", "refused: out of resources (A700)")


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
def test_answers_that_refuse_or_say_nothing(empty_archive, no_send, answer, words):
    empty_archive.scripted = [("POST", answer)]
    no_send("IM0001", words)
    assert len(empty_archive.requests) == 1


def test_what_passes_is_tried_again_with_the_whole_body(empty_archive, source, uids):
    empty_archive.scripted = [("POST", Answer(503)), ("POST", Answer(0))]
    assert send_series(empty_archive.url, source) == 3
    assert list(empty_archive.stored) == uids


def test_accepted_and_forgotten_is_found_out(empty_archive, no_send, uids):
    empty_archive.forgets = {uids[2]}
    no_send("1 of 3 instances sent are not listed", f"IM0003 ({uids[2]})")


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


# --- by command ------------------------------------------------------------------------------------


def test_fetch_then_send(archive, run, study, tmp_path):
    folder = tmp_path / "out"
    code, out, err = run("fetch", "--url", archive.url, "--study", study, "--output", folder)
    assert (code, out) == (0, f"{folder}: 3 instances\n")
    assert err.splitlines()[-1] == "3 of 3 instances"
    archive.stored.clear()
    code, out, err = run("send", "--url", archive.url, "--input", folder, "--quiet")
    assert (code, out, err) == (0, "", "")
    assert len(archive.stored) == 3


def test_the_words_of_the_archive_are_shown_as_they_are(archive, run, study, tmp_path):
    names = {"SeriesDescription": "[bold]T2[/] x"}
    archive.add(hospital_series(tmp_path / "more", size=16, slices=1, number=12, **names))
    code, out, _ = run("fetch", "--url", archive.url, "--study", study, "--list")
    assert code == 0
    assert "12      MR        1          [bold]T2[/] x" in out
    code, again, err = run("fetch", "--url", archive.url, "--study", study, "-o", tmp_path / "out")
    assert (code, again) == (2, out)
    expected = "expected one series (--series picks), found 2 series"
    assert err == f"mrisr: study {study}: {expected}\n"
    assert not (tmp_path / "out").exists()


def test_errors_are_one_line(archive, run, study, source, tmp_path, caplog):
    code, out, err = run("fetch", "--url", archive.url, "--study", study)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "--output" in err
    assert not archive.requests
    secret = "http://SECRET:SECRET@host/"
    code, _, err = run("fetch", "--url", secret, "--study", study, "-o", tmp_path / "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "SECRET" not in err
    aside = {"Warning": '299 host: "SECRET, 5 more"'}
    archive.scripted = [(".*/series$", Answer(500)), ("GET", Answer(headers=aside))]
    for words in ("HTTP 500", "a study with series"):
        code, _, err = run("fetch", "--url", archive.url, "--study", study, "-o", tmp_path / "out")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    assert "SECRET" not in caplog.text
    archive.scripted = [("POST", Answer(409, failure("1.2", 0x0110)))]
    code, _, err = run("send", "--url", archive.url, "--input", source)
    assert (code, err.count("\n")) == (3, 1)
    assert "IM0001" in err
    assert "processing failure (0110)" in err


def test_without_the_library(run, study, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "requests", None)
    code, _, err = run("fetch", "--url", "http://host/", "--study", study, "-o", tmp_path / "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "pip install" in err
