"""Who is asked, with which credentials, and that nobody else ever sees them."""

import base64
import logging
import re
import shutil
import ssl
import subprocess
import traceback
from itertools import product, zip_longest

import pytest

from mrisr.archive import client
from mrisr.archive.transfer import fetch_series, list_series, send_series
from mrisr.core.errors import InputError, MrisrError, OutputError, UsageError
from tests.archive.conftest import PASSWORD, USER, Answer, serving

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKEN = "SECRET.token-123"


@pytest.fixture
def environment(monkeypatch):
    def put(*given: str | None) -> None:
        for name, value in zip_longest(("USER", "PASSWORD", "TOKEN"), given):
            monkeypatch.delenv(f"MRISR_DICOMWEB_{name}", raising=False)
            if value is not None:
                monkeypatch.setenv(f"MRISR_DICOMWEB_{name}", value)

    return put


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ((USER, PASSWORD), BASIC),
        ((None, None, TOKEN), f"Bearer {TOKEN}"),
        (("", "", ""), None),
        ((), None),
    ],
)
def test_credentials_come_from_the_environment_only(
    archive, study, environment, monkeypatch, tmp_path, given, sent
):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login SECRET password SECRET\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    environment(*given)
    list_series(archive.url, study)
    assert {r["Authorization"] for r in archive.requests} == {sent}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((USER,), "found half"),
        ((None, PASSWORD), "found half"),
        ((USER, PASSWORD, TOKEN), "or both"),
        (("SECRET:user", PASSWORD), "without a colon"),
        ((None, None, TOKEN + "\nX: y"), "printable ASCII"),
        ((None, None, "SECRET token"), "printable ASCII"),
    ],
)
def test_credentials_that_cannot_be_meant(archive, study, environment, given, words):
    environment(*given)
    with pytest.raises(UsageError, match=words) as caught:
        list_series(archive.url, study)
    assert "SECRET" not in str(caught.value)
    assert not archive.requests


URLS = """
    https://SECRET:SECRET@host/dicom-web https://SECRET@host SECRET:SECRET@host/dicom-web
    https:/SECRET@host https://host:port/SECRET https://[SECRET https://host/?token=SECRET
    https://host/#SECRET ftp://host/SECRET /SECRET
""".split()


@pytest.mark.parametrize("url", [*URLS, "https://host/\nSECRET", ""])
def test_a_url_that_is_none_is_not_repeated(study, url):
    with pytest.raises(UsageError, match="the URL") as caught:
        list_series(url, study)
    shown = "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in shown.replace(f'"{url}"', "")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_neither_credentials_nor_images_follow_a_redirect(archive, study, source, tmp_path, status):
    with serving() as other:
        moved = Answer(status, b"", headers={"Location": f"{other.url}/studies?SECRET"})
        archive.scripted = [("GET", moved), ("POST", moved)]
        words = re.escape(f"a redirect to http://{other.host}, which is not followed")
        with pytest.raises(InputError, match=words) as fetched:
            fetch_series(archive.url, study, None, tmp_path / "out")
        with pytest.raises(OutputError, match=words) as sent:
            send_series(archive.url, source)
        assert not other.requests
        assert "SECRET" not in f"{fetched.value} {sent.value}"


def test_nothing_leaks_whatever_goes_wrong(archive, study, source, tmp_path, caplog, capsys):
    """Messages, tracebacks with what caused them, the log at its loudest, and what is printed."""
    caplog.set_level(logging.DEBUG)
    shown = []
    wrong = [Answer(s, b"SECRET", headers={"X-Echo": BASIC}) for s in (401, 404, 500, 503, 0)]
    wrong += [Answer(200, b"SECRET", "text/html"), Answer(body=b"SECRET")]
    calls = {
        "GET": lambda: fetch_series(archive.url, study, None, tmp_path / "out"),
        "POST": lambda: send_series(archive.url, source),
    }
    for answer, (method, call) in product(wrong, calls.items()):
        archive.scripted = [(method, answer)] * 3
        with pytest.raises(MrisrError) as caught:
            call()
        shown += [*traceback.format_exception(caught.value), repr(caught.value)]
    with client.connect(archive.url, lambda where, reason: OutputError(reason)) as connected:
        shown.append(repr(connected))
    text = "\n".join([*shown, caplog.text, *capsys.readouterr()])
    for secret in (USER, PASSWORD, BASIC.split()[1], "Secret^", "SYNTH-4711", "ACC-0815"):
        assert secret not in text, secret


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl for a certificate")
    path = tmp_path / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", path, "-out", tmp_path / "part"]
    subprocess.run([*command, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "part").read_bytes())
    return path


def test_certificates_are_verified(archive, study, source, certificate, monkeypatch):
    def wrap(server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        more = {"server_side": True, "do_handshake_on_connect": False}
        server.socket = context.wrap_socket(server.socket, **more)

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(wrap, "https") as secure:
        secure.add(source)
        with pytest.raises(InputError, match="TLS failed: self-signed certificate"):
            list_series(secure.url, study)
        assert not secure.requests
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert len(list_series(secure.url, study)) == 1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
        with pytest.raises(InputError, match=r"/nowhere/bundle\.pem"):
            list_series(secure.url, study)
