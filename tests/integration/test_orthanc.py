"""From a real archive and back to it: Orthanc over DICOMweb, its own REST interface, and C-STORE."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from mrisr.archive.transfer import fetch_series, list_series, send_series
from mrisr.io import read_volume
from tests.dicom.synthetic import SECRETS, hospital_series
from tests.integration.conftest import PASSWORD, USER, Orthanc

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run: Run) -> Run:
    """Run the program in this process, and let no secret through."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code, out, err = run(*arguments)
        for secret in (*SECRETS, USER, PASSWORD):
            assert secret not in out + err
        return code, out, err

    return call


@pytest.fixture
def done(run) -> Callable[..., str]:
    def call(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    return call


def files(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in sorted(folder.iterdir()))


def header(folder: Path) -> pydicom.Dataset:
    return pydicom.dcmread(min(folder.iterdir()), stop_before_pixels=True)


@pytest.fixture
def fetched(orthanc, done, tmp_path) -> Path:
    """A series that was uploaded by REST and fetched by the program."""
    source = hospital_series(tmp_path / "source")
    assert {orthanc.upload(path) for path in source.iterdir()} == {"Success"}
    study = header(source).StudyInstanceUID
    out = done("fetch", "--url", orthanc.web, "--study", study, "-o", tmp_path / "fetched")
    assert out == f"{tmp_path / 'fetched'}: 6 instances\n"
    assert list(files(tmp_path / "fetched")) == list(files(source))
    return tmp_path / "fetched"


@pytest.mark.parametrize(
    ("command", "slices"),
    [
        (("inplane", "--scale", "2", "--format", "dicom", "--input"), 6),
        (("throughplane", "--factor", "2", "--axial"), 12),
    ],
    ids=["inplane", "throughplane"],
)
@pytest.mark.usefixtures("models")
def test_fetch_upsample_send_find(orthanc, done, fetched, tmp_path, command, slices):
    derived, source = tmp_path / "derived", header(fetched)
    done(*command, fetched, "--output", derived)
    out = done("send", "--url", orthanc.web, "--input", derived)
    assert out == f"{derived}: {slices} instances sent, all of them listed by the archive\n"

    uid = header(derived).SeriesInstanceUID
    found = orthanc.find("Series", SeriesInstanceUID=uid)
    assert [len(series["Instances"]) for series in found] == [slices]
    study = orthanc.find("Study", StudyInstanceUID=source.StudyInstanceUID)
    assert len(study) == 1
    assert len(study[0]["Series"]) == 2
    assert len(orthanc.get("/patients")) == 1
    tags = orthanc.get(f"/instances/{found[0]['Instances'][0]}/simplified-tags")
    assert tags["FrameOfReferenceUID"] == source.FrameOfReferenceUID
    assert tags["PatientID"] == source.PatientID
    assert tags["PatientName"] == str(source.PatientName)
    assert {s.uid: s.instances for s in list_series(orthanc.web, source.StudyInstanceUID)} == {
        source.SeriesInstanceUID: 6,
        uid: slices,
    }

    back = fetch_series(orthanc.web, source.StudyInstanceUID, uid, tmp_path / "back")
    assert list(files(back)) == list(files(derived))
    assert (read_volume(back).array == read_volume(derived).array).all()


@pytest.mark.usefixtures("models")
def test_a_rerun_doubles_nothing(orthanc, done, fetched, tmp_path):
    for name in ("first", "second"):
        done("inplane", "--input", fetched, "--scale", "2", "-o", tmp_path / name)
        done("send", "--url", orthanc.web, "--input", tmp_path / name)
    uids = [
        [str(pydicom.dcmread(p).SOPInstanceUID) for p in sorted((tmp_path / name).iterdir())]
        for name in ("first", "second")
    ]
    assert uids[0] == uids[1]
    assert {orthanc.upload(p) for p in (tmp_path / "second").iterdir()} == {"AlreadyStored"}
    found = orthanc.find("Series", SeriesInstanceUID=header(tmp_path / "second").SeriesInstanceUID)
    assert [len(series["Instances"]) for series in found] == [6]
    assert orthanc.get("/statistics")["CountInstances"] == 12


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_transfer_syntaxes_stay_as_they_are(orthanc, tmp_path, syntax):
    source = hospital_series(tmp_path / "source", slices=3, syntax=syntax)
    assert send_series(orthanc.web, source) == 3
    back = fetch_series(orthanc.web, header(source).StudyInstanceUID, "5", tmp_path / "back")
    assert header(back).file_meta.TransferSyntaxUID == syntax
    assert list(files(back)) == list(files(source))


def test_one_series_of_several(orthanc, run, done, tmp_path):
    for number in (5, 6):
        send_series(orthanc.web, hospital_series(tmp_path / str(number), slices=2, number=number))
    request = ("fetch", "--url", orthanc.web, "--study", header(tmp_path / "5").StudyInstanceUID)
    code, out, err = run(*request, "--output", tmp_path / "out")
    assert code == 2
    assert "expected one series (--series picks), found 2 series" in err
    assert err.count("\n") == 1
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["5", "MR", "2", "t2_tse_tra_5"],
        ["6", "MR", "2", "t2_tse_tra_6"],
    ]
    assert done(*request, "--list") == out
    done(*request, "--series", "T2_TSE_tra_6", "--output", tmp_path / "out")
    assert header(tmp_path / "out").SeriesNumber == 6


def test_wrong_credentials(orthanc, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MRISR_DICOMWEB_PASSWORD", "wrong")
    source = hospital_series(tmp_path / "source", slices=2)
    code, _, err = run("send", "--url", orthanc.web, "--input", source, "--quiet")
    assert (code, err.count("\n")) == (3, 1)
    assert "HTTP 401 Unauthorized" in err
    code, _, err = run("fetch", "--url", orthanc.web, "--study", "1.2.3", "-o", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "HTTP 401 Unauthorized" in err


@pytest.mark.usefixtures("models")
def test_a_scanner_would_be_understood_too(orthanc: Orthanc, done, fetched, tmp_path):
    """The derived series by classic DICOM: C-ECHO, C-STORE."""
    if shutil.which("storescu") is None:
        pytest.skip("needs storescu (Debian: dcmtk)")
    peer = ("-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port))
    subprocess.run(["echoscu", *peer], check=True, timeout=30)
    derived = tmp_path / "derived"
    done("inplane", "--input", fetched, "--scale", "2", "--output", derived)
    command = ["storescu", *peer, *map(str, sorted(derived.iterdir()))]
    subprocess.run(command, check=True, timeout=60)
    sent = header(derived)
    study, uid = sent.StudyInstanceUID, sent.SeriesInstanceUID
    back = fetch_series(orthanc.web, study, uid, tmp_path / "back")
    pairs = zip(sorted(back.iterdir()), sorted(derived.iterdir()), strict=True)
    for ours, theirs in ((pydicom.dcmread(a), pydicom.dcmread(b)) for a, b in pairs):
        assert ours == theirs
