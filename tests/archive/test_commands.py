"""`mrisr fetch` and `mrisr send`: exit codes, one line for an error, tables that show all words."""

from __future__ import annotations

import sys

from tests.archive.archive_server import Answer, failure
from tests.dicom.synthetic import hospital_series


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
