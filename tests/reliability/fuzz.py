"""Headers of any content, drawn by hypothesis and read by the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability import fuzz_dicom, fuzz_nifti, fuzz_text
from tests.reliability.damage import Tally
from tests.reliability.worker import reader


@dataclass(frozen=True)
class Fuzz:
    """Files to draw, and the name under which each is read."""

    file: str
    content: st.SearchStrategy[bytes]


FUZZ = {
    "NIfTI headers": Fuzz("t2w.nii", fuzz_nifti.plain()),
    "NIfTI headers in gzip": Fuzz("t2w.nii.gz", fuzz_nifti.packed()),
    "MetaImage headers": Fuzz("t2w.mha", fuzz_text.metaimage()),
    "MetaImage headers beside voxels": Fuzz("t2w.mhd", fuzz_text.metaimage()),
    "NRRD headers": Fuzz("t2w.nrrd", fuzz_text.nrrd()),
    "DICOM attributes": Fuzz("slice.dcm", fuzz_dicom.attributes()),
    "DICOM attributes of compressed pixels": Fuzz("slice.dcm", fuzz_dicom.attributes(packed=True)),
    "DICOM functional groups": Fuzz("enhanced.dcm", fuzz_dicom.functional_groups()),
}


def fuzz(folder: Path, kind: Fuzz, count: int) -> str:
    """Read ``count`` drawn files; the smallest that fails is in the AssertionError."""
    tally = Tally("files")
    (folder / "t2w.raw").write_bytes(bytes(range(256)) * 8)
    path = folder / kind.file

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.content)
    def check(content: bytes) -> None:
        path.write_bytes(content)
        tally(reader()(path), f"{len(content)} bytes")

    check()
    return str(tally)
