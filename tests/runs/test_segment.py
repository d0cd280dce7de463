"""Zones of studies on files and of images in memory: labels, record and picture, whole or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

import mrisr
from mrisr.core.errors import UsageError
from mrisr.core.options import Files, Segmenting
from mrisr.core.volume import Volume, VolumeFile
from mrisr.data.labels import read_labels
from mrisr.dicom.segmentation import read_segmentation
from mrisr.io import read_file, read_volume, write_volume
from mrisr.runs.outputs import FileRun
from mrisr.runs.results import segment
from mrisr.runs.run import write
from mrisr.zones.labels import PZ, TZ, LabelTable
from mrisr.zones.picture import COLOURS, zones_png
from mrisr.zones.segmenter import load_segmenter
from tests.dicom.conftest import errors_of, tool
from tests.dicom.synthetic import SECRETS, hospital_series
from tests.zones.models import INFERENCE, bundle, expected, image, random_zones_model

STEPS = INFERENCE["postprocessing"]["transforms"]
PLAIN = {"_target_": "Compose", "transforms": [STEPS[0], STEPS[2]]}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that labels by intensity."""
    return bundle(tmp_path_factory.mktemp("bundles") / "zoo", postprocessing=PLAIN)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study beside an empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return write_volume(image("LAS"), tmp_path / "t2w.nii.gz")


@pytest.fixture
def segmented(run: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """Run ``mrisr segment``: exit code, standard output, standard error."""
    return partial(run, "segment")


def here() -> list[str]:
    return sorted(p.name for p in Path.cwd().iterdir())


# --- files ----------------------------------------------------------------------------------------


def test_labels_record_and_picture(study, zoo, segmented) -> None:
    code, out, err = segmented("--input", study, "--bundle", zoo, "--qc", "qc.png", "--json")
    assert code == 0, err
    assert here() == ["qc.png", "t2w_zones.json", "t2w_zones.nii.gz"]
    volume, labels = read_volume(study), read_volume("t2w_zones.nii.gz")
    np.testing.assert_array_equal(labels.array, expected(volume))
    np.testing.assert_allclose(labels.affine, volume.affine, atol=1e-6)
    assert labels.storage.dtype == np.uint8
    record = json.loads(Path("t2w_zones.json").read_text())
    assert json.loads(out) == {"path": str(Path.cwd() / "t2w_zones.nii.gz"), **record}
    assert record["job"] == "segment"
    assert "research use only" in record["use"]
    assert record["model"] == {
        "name": "by intensity",
        "method": "bundle",
        "sha256": record["model"]["sha256"],
    }
    assert record["parameters"] == {
        "labels": {"PZ": 1, "TZ": 2},
        "table": "1=TZ,2=PZ",
    }
    assert record["input"]["sha256"] == read_file(study).sha256
    assert (record["input"]["dtype"], record["output"]["dtype"]) == ("int16", "uint8")
    voxels = {zone: int((labels.array == n).sum()) for zone, n in (("PZ", PZ), ("TZ", TZ))}
    assert record["volumes_ml"] == {zone: n / 1000 for zone, n in voxels.items()}
    (note,) = record["notes"]
    assert f"note: {note}\n" in err
    described = bytes(nib.load("t2w_zones.nii.gz").header["descrip"]).rstrip(b"\0").decode()
    assert described.startswith(f"mrisr {mrisr.__version__} zones by by intensity ")
    assert described.endswith("research use")
    assert str(study.parent) not in Path("t2w_zones.json").read_text()


def test_our_own_model(study, segmented, tmp_path) -> None:
    card = random_zones_model(tmp_path, "tiny")
    code, out, err = segmented("--input", study, "--model", card, "--output", "zones.mha")
    assert (code, err) == (0, "") or "no prostate" in err
    assert out.startswith("zones.mha: PZ ")
    record = json.loads(Path("zones.json").read_text())
    assert (record["model"]["name"], record["model"]["method"]) == ("tiny", "mrisr")
    assert "table" not in record["parameters"]
    code, _, err = segmented(
        "--input", study, "--model", card, "--table", "1=TZ,2=PZ", "-o", "x.nii"
    )
    assert code == 1
    assert "--table is for --bundle and --nnunet" in err


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ((), "t2w_zones.nii.gz"),
        (("--format", "nrrd"), "t2w_zones.nrrd"),
        (("-o", "z.mhd"), "z.mhd"),
    ],
)
def test_formats(study, zoo, segmented, more, name) -> None:
    assert segmented("--input", study, "--bundle", zoo, "--quiet", *more) == (0, "", "")
    np.testing.assert_array_equal(read_volume(name).array, expected(read_volume(study)))


def test_a_model_that_fails_leaves_nothing(study, zoo, segmented) -> None:
    code, out, err = segmented(
        "-i", study, "--bundle", zoo, "--table", "1=TZ,3=PZ", "--qc", "qc.png"
    )
    assert (code, out, here()) == (2, "", [])
    assert err == f"mrisr: {zoo}: expected labels of the table 1=TZ,3=PZ, found 2\n"


def test_tables_from_files(study, zoo, segmented, tmp_path) -> None:
    wanted = expected(read_volume(study))
    swapped = (3 - wanted) * (wanted > 0)
    for name, text in (
        ("t.yaml", "1: peripheral zone\n2: TZ\n"),
        ("t.json", '{"1":"PZ","2":"TZ"}'),
    ):
        (tmp_path / name).write_text(text)
        assert segmented("-i", study, "--bundle", zoo, "--table", tmp_path / name, "-q")[0] == 0
        np.testing.assert_array_equal(read_volume("t2w_zones.nii.gz").array, swapped)
        record = json.loads(Path("t2w_zones.json").read_text())
        assert record["parameters"]["table"] == "1=PZ,2=TZ"
        for file in here():
            Path(file).unlink()
    for table, code in (("1=TZ", 1), ("1=TZ,2=PZ,1=PZ", 1), ("1=TZ,2=tumour", 1), ("no.yaml", 2)):
        assert segmented("-i", study, "--bundle", zoo, "--table", table)[0] == code


def test_a_coronal_stack_is_refused(zoo, segmented, study) -> None:
    write_volume(image("LIP", spacing=(0.5, 3.0, 0.5)), "coronal.nii.gz")
    code, _, err = segmented("--input", "coronal.nii.gz", "--bundle", zoo)
    assert code == 2
    assert err.startswith("mrisr: coronal.nii.gz: expected axial slices")
    assert here() == ["coronal.nii.gz"]


def test_options_that_do_not_go_together(study, zoo, segmented) -> None:
    for arguments, code, words in (
        (("--bundle", zoo, "--nnunet", zoo), 1, "only one of them"),
        (("--bundle", zoo, "--deidentify"), 1, "--deidentify needs a DICOM output"),
        (("--bundle", zoo, "--output", "z.dcm"), 1, "--template"),
        (("--bundle", zoo, "--output", "z"), 3, ".dcm"),
        (("--bundle", zoo, "--output", "z.nii", "--format", "dicom"), 1, "--template"),
        (("--bundle", zoo, "--margin", "0.5"), 1, "margin"),
        (("--model", "no-such-model"), 1, "no-such-model"),
        (("--model", "partdiff-inplane"), 1, "partdiff-inplane"),
    ):
        found, _, err = segmented("--input", study, *arguments)
        assert found == code, err
        assert words in err
        assert err.count("\n") == 1
    assert here() == []


# --- DICOM ----------------------------------------------------------------------------------------


@pytest.fixture
def series(study, tmp_path) -> Path:
    return hospital_series(tmp_path / "hospital", size=48, slices=8)


@pytest.mark.parametrize("more", [("--output", "zones.dcm"), ("--format", "dicom")])
def test_a_dicom_segmentation(series, zoo, segmented, more) -> None:
    name = more[1] if more[0] == "--output" else "hospital_zones.dcm"
    code, out, err = segmented("--input", series, "--bundle", zoo, *more)
    assert code == 0, err
    assert here() == sorted([name, Path(name).stem + ".json"])
    back, volume = read_segmentation(Path(name)).volume, read_volume(series)
    wanted = mrisr.segment(volume, bundle=zoo)
    np.testing.assert_array_equal(back.array, wanted.array)
    assert {0, PZ, TZ} == set(np.unique(back.array))
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)
    d, source = pydicom.dcmread(name), pydicom.dcmread(series / "IM0001")
    assert (d.Modality, d.SeriesNumber, d.PatientID) == ("SEG", 583, source.PatientID)
    assert d.SeriesDescription == "t2_tse_tra_5 prostate zones segmentation"
    assert d.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert [s.SegmentLabel for s in d.SegmentSequence] == ["Peripheral zone", "Transition zone"]
    told = d.ContributingEquipmentSequence[-1].ContributionDescription
    record = json.loads(Path(name).with_suffix(".json").read_text())
    for word in (record["model"]["sha256"], record["input"]["sha256"], "table 1=TZ,2=PZ"):
        assert word in told
    assert not any(s in out + err + json.dumps(record) for s in SECRETS)


def stored_otherwise(series: Path, folder: Path, swap: bool, left: bool, up: bool) -> Path:
    """The same slices with rows and columns exchanged, and with cosines negated."""
    folder.mkdir()
    for path in series.iterdir():
        d = pydicom.dcmread(path)
        pixels, place = d.pixel_array, np.array(d.ImagePositionPatient, float)
        row, column = np.array(d.ImageOrientationPatient, float).reshape(2, 3)
        if swap:  # pixels are square
            pixels, row, column = pixels.T, column, row
        if left:
            place, row, pixels = place + row * (d.Columns - 1), -row, pixels[:, ::-1]
        if up:
            place, column, pixels = place + column * (d.Rows - 1), -column, pixels[::-1]
        d.ImageOrientationPatient = [f"{v:.12f}" for v in (*row, *column)]
        d.ImagePositionPatient = [f"{v:.10f}" for v in place]
        d.PixelData = np.ascontiguousarray(pixels).tobytes()
        d.save_as(folder / path.name)
    return folder


def test_labels_lie_on_the_tissue_whatever_the_cosines(series, zoo, tmp_path) -> None:
    """None is mirrored: neither in a volume nor in a DICOM SEG."""
    volume = read_volume(series)
    wanted = mrisr.segment(volume, bundle=zoo).array
    assert {0, PZ, TZ} == set(np.unique(wanted))
    for number, (swap, left, up) in enumerate(product((False, True), repeat=3)):
        turned = stored_otherwise(series, tmp_path / f"turned{number}", swap, left, up)
        for name in (f"{number}.nii.gz", f"{number}-seg.dcm"):
            path = mrisr.segment(turned, bundle=zoo, output=name)
            found = read_labels(path, volume).volume
            np.testing.assert_array_equal(found.array, wanted, err_msg=f"{turned} {name}")


def test_validators_and_reruns(series, zoo, segmented) -> None:
    arguments = ("--input", series, "--bundle", zoo, "--output", "zones.dcm", "--quiet")
    assert segmented(*arguments)[0] == 0
    first = pydicom.dcmread("zones.dcm").SOPInstanceUID
    assert segmented(*arguments)[0] == 3
    assert segmented(*arguments, "--force")[0] == 0
    assert pydicom.dcmread("zones.dcm").SOPInstanceUID == first
    assert segmented(*arguments, "--force", "--table", "1=PZ,2=TZ")[0] == 0
    assert pydicom.dcmread("zones.dcm").SOPInstanceUID != first
    assert errors_of(tool("dciodvfy"), "-new", "zones.dcm") == []
    assert errors_of(tool("dcentvfy"), *series.iterdir(), "zones.dcm") == []


def test_another_volume_of_the_series_has_other_uids(series, zoo) -> None:
    """In a batch the source's zones and those of its super-resolved volume go out side by side."""
    volume = read_volume(series)
    segmenter = load_segmenter(Segmenting(bundle=zoo))
    finer = replace(volume, array=np.repeat(volume.array, 2, axis=2), affine=volume.affine.copy())
    finer.affine[:3, 3] -= finer.affine[:3, 2] / 4
    finer.affine[:3, 2] /= 2
    uids = set()
    for name, image_ in (("a.dcm", volume), ("b.dcm", finer)):
        on = FileRun(series, Files(output=Path(name)), labels=True)
        source = on.dicom_source(on.read())
        made = segment(VolumeFile(image_), segmenter=segmenter)
        write(made, on.output("zones"), source)
        uids.add(pydicom.dcmread(name).SeriesInstanceUID)
    assert len(uids) == 2
    assert read_segmentation(Path("b.dcm")).volume.shape == finer.shape


def test_template_and_deidentification(series, zoo, segmented) -> None:
    write_volume(read_volume(series), "t2.nii.gz")
    arguments = ("--input", "t2.nii.gz", "--bundle", zoo, "--template", series, "--deidentify")
    assert segmented(*arguments, "--output", "zones.dcm", "--quiet")[0] == 0
    d = pydicom.dcmread("zones.dcm")
    assert d.PatientIdentityRemoved == "YES"
    data = Path("zones.dcm").read_bytes()
    assert not any(secret.encode("latin-1") in data for secret in SECRETS)
    notes = json.loads(Path("zones.json").read_text())["notes"]
    assert any("not complete de-identification" in note for note in notes)


def test_a_segmentation_does_not_go_among_the_slices(series, zoo, segmented) -> None:
    code, _, err = segmented("--input", series, "--bundle", zoo, "--output", series / "zones.dcm")
    assert code == 3
    assert "lies in the input folder" in err
    code, _, err = segmented("--input", series, "--bundle", zoo, "--force", "-o", series / "IM0001")
    assert code == 3
    assert len(list(series.iterdir())) == 8


# --- images in memory -----------------------------------------------------------------------------


def test_every_kind_comes_back(study, zoo) -> None:
    volume = read_volume(study)
    wanted = expected(volume)
    path = mrisr.segment(str(study), bundle=str(zoo), output="zones.nii.gz", qc="qc.png")
    assert path == Path("zones.nii.gz")
    np.testing.assert_array_equal(read_volume(path).array, wanted)
    nifti = mrisr.segment(nib.load(study), bundle=zoo)
    assert nifti.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(nifti.dataobj), wanted)
    itk = mrisr.segment(sitk.ReadImage(str(study)), bundle=zoo, table={1: "PZ", 2: "TZ"})
    assert itk.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk).T, (3 - wanted) * (wanted > 0))
    values = torch.from_numpy(volume.array.astype(np.float32))[None]
    tensor = mrisr.segment(MetaTensor(values, affine=torch.from_numpy(volume.affine)), bundle=zoo)
    np.testing.assert_array_equal(tensor[0].numpy(), wanted)
    same = mrisr.segment(volume, bundle=zoo, table=LabelTable.parse("1=TZ,2=PZ"))
    assert isinstance(same, Volume)
    np.testing.assert_array_equal(same.array, wanted)


def test_what_python_refuses(study, zoo) -> None:
    volume = read_volume(study)
    with pytest.raises(TypeError, match="steps"):
        mrisr.segment(volume, steps=3)
    with pytest.raises(UsageError, match="no label for PZ"):
        mrisr.segment(study, bundle=zoo, table={1: "TZ"})


# --- the margin and the picture -------------------------------------------------------------------


def test_the_record_names_the_margin(study, zoo) -> None:
    mrisr.segment(study, bundle=zoo, margin=0.1)
    assert json.loads(Path("t2w_zones.json").read_text())["parameters"]["margin"] == 0.1


def test_the_picture_outlines_the_zones() -> None:
    import io

    from matplotlib.image import imread

    volume = image(spacing=(1.0, 1.0, 3.0))
    labels = replace(volume, array=expected(volume))
    shown = imread(io.BytesIO(zones_png(volume, labels, title="zones")))[..., :3]
    empty = imread(io.BytesIO(zones_png(volume, replace(labels, array=labels.array * 0))))[..., :3]
    for colour in COLOURS.values():
        near = np.abs(shown - np.array(colour)).max(axis=-1) < 0.02
        assert near.sum() > 200
        assert not (np.abs(empty - np.array(colour)).max(axis=-1) < 0.02).any()
        assert not near[:, : shown.shape[1] // 2].any()  # on the right only
