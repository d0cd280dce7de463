"""A derived DICOM series: what it carries, who accepts it, what it leaves behind. And files of others:
pydicom's test files, and real odd series where they are at hand."""

import gzip
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pydicom.data

from mrisr.dicom.conformance import check_derived
from mrisr.dicom.source import read_source
from mrisr.io import read_volume, write_volume
from tests.dicom.synthetic import SECRETS, hospital_series
from tests.reliability.expect import Cases, assert_line, done, refused, said, same, upsample
from tests.reliability.runner import Outcome, Skipped, run_cli
from tests.reliability.volume_files import late

CASES = Cases("DICOM out")


def hospital(folder: Path) -> Path:
    source = folder / "hospital"
    return source if source.is_dir() else hospital_series(source, size=32, slices=4)


def derived(folder: Path, *options: object, job: str = "inplane") -> tuple[Path, Path, Outcome]:
    """A hospital's series, the series derived from it, and the run."""
    source = hospital(folder)
    outcome = upsample(folder, source, "--output", "sr", *options, job=job)
    assert outcome.code == 0, outcome.stderr[-300:]
    return source, folder / "work" / "sr", outcome


@late
def _own(folder: Path, job: str) -> str:
    source, out, _ = derived(folder, job=job)
    wrong = check_derived(out, read_source(source))
    assert not wrong, "; ".join(wrong)
    d = pydicom.dcmread(out / "0001.dcm")
    return f"{len(list(out.iterdir()))} files: {d.SeriesDescription}"


@late
def _validated(folder: Path, job: str) -> str:
    programs = {name: shutil.which(name) for name in ("dciodvfy", "dcentvfy", "dcmftest")}
    missing = [name for name, found in programs.items() if found is None]
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)} (Debian: dicom3tools, dcmtk)")
    source, out, _ = derived(folder, job=job)
    files = sorted(out.iterdir())
    calls: list[list[object]] = [["dciodvfy", "-new", path] for path in files]
    calls.append(["dcentvfy", *sorted(source.iterdir()), *files])
    for call in calls:
        told = _run(call)
        errors = [line for line in told.splitlines() if line.startswith("Error")]
        assert not errors, errors[0]
    told = _run(["dcmftest", *files])
    assert told.count("yes:") == len(files), told
    return f"no errors in {len(files)} files, nor against the source"


def _run(call: list[object]) -> str:
    done = subprocess.run([str(c) for c in call], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@late
def _geometry(folder: Path, job: str) -> str:
    """Independent readers find the last voxel of a series where our reader finds it."""
    import highdicom as hd
    import SimpleITK as sitk

    _, out, _ = derived(folder, job=job)
    volume = read_volume(out)
    corner = [n - 1 for n in volume.shape]
    lps = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ [*corner, 1.0])[:3]
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(out)))
    by_itk = np.array(image.TransformIndexToPhysicalPoint(corner))
    files = [pydicom.dcmread(path) for path in out.iterdir()]
    seen = hd.get_volume_from_series(files)
    index = seen.map_reference_to_indices(lps[None])[0]
    off = max(np.abs(by_itk - lps).max(), np.abs(index - np.rint(index)).max())
    assert off < 1e-3, f"{off:.2g} mm or voxels apart"
    assert seen.array[tuple(np.rint(index).astype(int))] == volume.array[tuple(corner)]
    return f"within {max(off, 1e-6):.0e} mm"


def _by_dcm2niix(folder: Path) -> str:
    program = shutil.which("dcm2niix")
    if program is None:
        raise Skipped("not installed: dcm2niix")
    _, out, _ = derived(folder)
    (folder / "nifti").mkdir()
    _run([program, "-o", folder / "nifti", "-f", "out", out])
    image, volume = nib.load(folder / "nifti" / "out.nii"), read_volume(out)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.io_orientation(volume.affine)
    )
    image = image.as_reoriented(turn)
    off = float(np.abs(image.affine - volume.affine).max())
    different = int(np.count_nonzero(np.asarray(image.dataobj) != volume.array))
    assert off < 1e-3, f"{off:.2g} mm apart"
    assert different == 0, f"{different} voxels differ"
    return f"the same voxels, within {max(off, 1e-6):.0e} mm"


def _again(folder: Path) -> str:
    def made(*options: object) -> list[str]:
        _, out, _ = derived(folder, *options)
        return [pydicom.dcmread(p).SOPInstanceUID for p in sorted(out.iterdir())]

    first = made()
    assert first == made("--force")
    assert not set(first) & set(made("--force", "--seed", 1))
    return "the same UIDs; others with another seed"


def _clutter(folder: Path) -> str:
    _, out, _ = derived(folder)
    for path in out.iterdir():
        for element in pydicom.dcmread(path).iterall():
            assert not element.tag.is_private, element.tag
            assert not 0x6000 <= element.tag.group <= 0x60FF, element.tag
            assert element.keyword not in ("IconImageSequence", "PixelPaddingValue"), element.tag
    return "none of them left"


def _without_the_patient(folder: Path) -> str:
    source, out, outcome = derived(folder, "--deidentify")
    for path in (*out.iterdir(), out.with_suffix(".json")):
        for secret in SECRETS:
            assert secret.encode("latin-1") not in path.read_bytes(), f"{secret} in {path.name}"
    old, new = (pydicom.dcmread(next(f.iterdir())) for f in (source, out))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert old[keyword].value != new[keyword].value, keyword
    assert "not complete de-identification" in outcome.stderr
    return "no patient attribute, no old UID; told that this is not complete"


def _template(folder: Path) -> str:
    source = hospital(folder)
    write_volume(read_volume(source), folder / "t2.nii.gz")
    outcome = upsample(folder, folder / "t2.nii.gz", "--output", "sr", "--template", source)
    assert outcome.code == 0, outcome.stderr
    wrong = check_derived(folder / "work" / "sr", read_source(source))
    assert not wrong, "; ".join(wrong)
    return "patient, study and frame of reference of the template"


def _elsewhere(folder: Path) -> str:
    source = hospital(folder)
    volume = read_volume(source)
    affine = volume.affine.copy()
    affine[2, 3] += 300
    write_volume(volume.with_array(volume.array, affine), folder / "t2.nii.gz")
    outcome = upsample(folder, folder / "t2.nii.gz", "--output", "sr", "--template", source)
    assert_line(outcome, 2, source, "300 mm away")
    assert not list((folder / "work").iterdir())
    return said(outcome, folder)


def _not_ours(folder: Path) -> str:
    source = hospital(folder)
    kept = folder / "work" / "sr"
    kept.mkdir(parents=True)
    (kept / "thesis.txt").write_text("mine")
    outcome = upsample(folder, source, "--output", "sr", "--force")
    assert_line(outcome, 3, None, "not a series made by mrisr")
    assert (kept / "thesis.txt").read_text() == "mine"
    return said(outcome, folder)


for reader, should, run in (
    ("our own checker", "nothing is wrong", _own),
    ("dciodvfy, dcentvfy, dcmftest", "no errors", _validated),
    ("SimpleITK and highdicom", "the same geometry", _geometry),
):
    for job in ("in-plane", "through-plane"):
        CASES.add(f"{job}, {reader}", should, run(job.replace("-", "")))
CASES.add("dcm2niix", "the same voxels in the same places", _by_dcm2niix)
CASES.add("the same run again", "the same UIDs", _again)
CASES.add("private groups, overlays, an icon, padding", "left behind", _clutter)
CASES.add("--deidentify", "no patient, no old UID, and a warning", _without_the_patient)
CASES.add("NIfTI in, --template", "a series of the template's study", _template)
CASES.add("a template of another place", "refused", _elsewhere)
CASES.add("--force over files that mrisr did not write", "exit 3, nothing replaced", _not_ours)


CASES.group = "Files of others"
#: Development data beside the checkout, which are no part of the repository.
AWKWARD = Path(__file__).resolve().parents[3] / "shared" / "dicom" / "awkward"
_PYDICOM = Path(pydicom.data.__file__).parent / "test_files"


def _need(name: str) -> Path:
    path = AWKWARD / name
    if not path.exists():
        raise Skipped("needs real series that are no part of the repository")
    return path


def _no_crash(folder: Path, sources: Iterable[Path]) -> Counter[str]:
    """Run on files of unknown content: a result, or one line and nothing written."""
    work, counts = folder / "work", Counter[str]()
    for source in sources:
        path = source
        if source.suffix == ".gz":
            path = folder / source.stem
            path.write_bytes(gzip.decompress(source.read_bytes()))
        outcome = upsample(folder, path, "--output", "out.nii.gz", "--quiet", seconds=60)
        left = sorted(p.name for p in work.iterdir())
        try:
            if outcome.code == 0:
                assert left == ["out.json", "out.nii.gz"], left
                assert np.isfinite(nib.load(work / "out.nii.gz").get_fdata()).all()
            else:
                assert_line(outcome, 2, path)
                assert left == [], left
        except AssertionError as error:
            raise AssertionError(f"{source.name}: {error}") from error
        for name in left:
            (work / name).unlink()
        counts["refused" if outcome.code else "read"] += 1
    return counts


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))


def _all_of_pydicom(folder: Path) -> str:
    files = sorted(p for p in _PYDICOM.rglob("*") if p.is_file() and p.suffix != ".py")
    assert len(files) > 100, f"only {len(files)} files"
    counts = _no_crash(folder, files)
    assert counts["read"] > 10, counts
    return _told(counts)


def _folder_of_pydicom(folder: Path) -> str:
    outcome = run_cli(["info", _PYDICOM], folder, seconds=100)
    assert outcome.code in (0, 2), outcome.stderr[-300:]
    assert "Traceback" not in outcome.stderr, outcome.stderr[-300:]
    return f"{len(outcome.stdout.splitlines())} lines"


def _syntaxes(folder: Path) -> str:
    """Nine files of one slice in seven transfer syntaxes."""
    results = {}
    for path in sorted(_need("dcm_qa_ts/In").glob("*.dcm")):
        part = folder / path.stem
        part.mkdir()
        results[path.name] = done(part, upsample(part, path))
    clean = results.pop("1.dcm")
    for name, result in results.items():
        try:
            same(result, clean)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    return f"{len(results)} files equal the first, bit for bit"


def _missing(folder: Path) -> str:
    return refused(folder, _need("dwi_missing_slice"), "missing slice")


def _packed(folder: Path) -> str:
    for path in sorted(_need("dcm_qa_philips_enh/In").rglob("*.dcm.gz")):
        line = refused(folder, path, "gzip")
    return line


def _unpacked(folder: Path) -> str:
    """Philips enhanced MR and raw data objects, unpacked."""
    return _told(_no_crash(folder, sorted(_need("dcm_qa_philips_enh/In").rglob("*.dcm.gz"))))


def _mixed(folder: Path) -> str:
    outcome = upsample(folder, _need("dcm_qa_enh/In/Philips/IM_0027_fMAP.dcm"))
    assert_line(outcome, 2, None, "2 volumes")
    return said(outcome, folder)


def _siemens(folder: Path) -> str:
    return _told(_no_crash(folder, sorted(_need("dcm_qa_enh/In/Siemens/XA10").glob("*.dcm"))))


_READ_OR_REFUSED = "a result, or refused in one line"
_BIT_FOR_BIT = "the same result, bit for bit"
CASES.add(
    "each of pydicom's test files", f"{_READ_OR_REFUSED}; no crash", _all_of_pydicom, slow=True
)
CASES.add("mrisr info on pydicom's test files", "no crash", _folder_of_pydicom, slow=True)
CASES.add("one real slice in seven transfer syntaxes", _BIT_FOR_BIT, _syntaxes, slow=True)
CASES.add("a real diffusion series with a slice missing", "refused", _missing)
CASES.add("real enhanced MR with two volumes mixed", "refused, naming both", _mixed)
CASES.add("real enhanced MR of single volumes", _READ_OR_REFUSED, _siemens, slow=True)
CASES.add("real .dcm.gz files", "refused", _packed)
CASES.add("real enhanced MR and raw data objects", _READ_OR_REFUSED, _unpacked, slow=True)
