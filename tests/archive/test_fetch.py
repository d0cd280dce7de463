"""Series out of an archive that does not always do what it should."""

from __future__ import annotations

import json

import pytest

from mrisr.archive import client
from mrisr.archive.transfer import fetch_series, list_series
from mrisr.core.errors import InputError, OutputError, UsageError
from tests.archive.archive_server import MULTIPART, Answer, multipart, serving
from tests.dicom.synthetic import hospital_series

HTML = Answer(body=b"<html>SECRET login</html>", kind="text/html; charset=utf-8")
WADO = r"GET .*/instances/"


@pytest.fixture
def refused(archive, study, tmp_path, told):
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
        (Answer(wait=0.3), "no answer in time"),
    ],
)
@pytest.mark.parametrize("where", ["GET .*/series$", WADO])
def test_no_answer_is_told_at_once(archive, refused, monkeypatch, answer, words, where):
    if answer.wait:
        monkeypatch.setattr(client, "TIMEOUT", (1.0, 0.1))
    archive.scripted = [(where, answer)]
    refused(words)
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
def test_what_does_not_pass_is_given_up(archive, refused, answer, words):
    archive.scripted = [("GET", answer)] * 9
    refused(words)
    assert len(archive.requests) == 3


def test_nobody_there(archive, refused, monkeypatch):
    with serving() as gone:
        pass
    monkeypatch.setattr(archive, "url", gone.url)
    refused("Connection refused")


@pytest.mark.parametrize("body", [b"", b"not json", b'["a", 1]', b"[{}]", b'{"a": 1}', b"null"])
def test_listings_that_are_none(archive, refused, body):
    archive.scripted = [("GET .*/series$", Answer(body=body))]
    refused()


def test_listing_and_count_must_agree(archive, refused):
    first, second, _ = archive.stored
    del archive.stored[second]
    one = {"00080018": {"vr": "UI", "Value": [first]}}
    answers = [Answer(body=json.dumps([one, one]).encode()), Answer()]
    archive.scripted = [("GET .*/instances$", answer) for answer in answers]
    refused("1 instances listed where it counts 2")


def test_an_unknown_study(archive, refused):
    refused("expected a study with series", study="1.2.3")
    with pytest.raises(UsageError, match="StudyInstanceUID"):
        list_series(archive.url, "../patients")


def test_a_body_that_ends_early(archive, refused):
    data = multipart(next(iter(archive.stored.values())))
    cut = Answer(body=data[:-600], kind=MULTIPART, length=False)
    archive.scripted = [(WADO, cut)]
    refused("truncated answer")
    archive.scripted = [(WADO, Answer(body=data[:-600], kind=MULTIPART, length=len(data)))] * 3
    refused("the connection broke")


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
def test_what_arrives_must_be_the_instance_asked_for(archive, refused, change, words):
    second = list(archive.stored)[1]
    archive.retrieved = lambda uid, data: change(uid, data) if uid == second else data
    refused(words, f"instance {second}")


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
