"""A small whole file of every format, cut short and with single bits turned over: what becomes of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.reliability import dicom_files, volume_files
from tests.reliability.jpeg_encoder import encode
from tests.reliability.volume_files import VOXELS, late
from tests.reliability.worker import Answer, reader


@dataclass(frozen=True)
class Sample:
    """A whole file that mrisr reads.

    Attributes:
        path: what is read.
        target: which file is damaged: ``path``, or the voxels beside it.
        whole: the bytes of ``target``.
        header: how many of them come before the voxels.
        checked: the format carries a checksum of what follows the header.
        padding: how many bytes at the end mean nothing, if any.
    """

    path: Path
    target: Path
    whole: bytes
    header: int
    checked: bool = False
    padding: int = 0

    def put(self, damaged: bytes) -> Path:
        """Write the damaged bytes and return what to read."""
        self.target.write_bytes(damaged)
        return self.path


Make = Callable[[Path], Sample]


@late
def sample(
    folder: Path,
    make: Callable[[Path], Path],
    header: int | bytes,
    *,
    name: str = "",
    checked: bool = False,
    padding: int = 0,
) -> Sample:
    """Makes a whole file; ``header`` is the bytes before the voxels, or a mark: they begin after the line
    that holds it. ``name`` is the file beside or in it that is damaged, if it is another."""
    path = make(folder)
    target = (path if path.is_dir() else path.parent) / name if name else path
    whole = target.read_bytes()
    size = header
    if isinstance(size, bytes):
        size = whole.index(b"\n", whole.index(size) + 1) + 1
    elif size < 0:  # the value of the pixel data is what follows its tag
        size = whole.index(b"\xe0\x7f\x10\x00") - size
    return Sample(path, target, whole, size, checked, padding)


def _zraw(folder: Path) -> Path:
    path = volume_files.meta(folder, "t2w.mhd", packed=True, ElementDataFile="t2w.zraw")
    (folder / "t2w.raw").rename(folder / "t2w.zraw")
    return path


def dicom_image(syntax: uid.UID | None = None) -> pydicom.FileDataset:
    """A slice in a transfer syntax; by default in explicit little endian."""
    d = dicom_files.image(0)
    if syntax == uid.JPEGLosslessSV1:
        stream = encode(VOXELS[:, :, 0].T, bits=12)
        d.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        d["PixelData"].VR, d["PixelData"].is_undefined_length = "OB", True
        d.file_meta.TransferSyntaxUID = syntax
    elif syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        if syntax == uid.JPEG2000Lossless:  # OpenJPEG halves an image five times
            dicom_files.set_pixels(d, np.tile(VOXELS[:, :, 0].T, (4, 3)))
        d.compress(syntax, generate_instance_uid=False)
    elif syntax is not None:
        d.file_meta.TransferSyntaxUID = syntax
    return d


@late
def _dicom(folder: Path, syntax: uid.UID | None = None) -> Path:
    implicit = syntax == uid.ImplicitVRLittleEndian
    path = folder / "slice.dcm"
    d = dicom_image(syntax)
    d.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return path


def _deflated(folder: Path) -> Sample:
    path = _dicom(uid.DeflatedExplicitVRLittleEndian)(folder)
    meta = pydicom.filereader.read_file_meta_info(path)
    # One byte makes the length even.
    return sample(lambda _: path, 132 + 12 + int(meta.FileMetaInformationGroupLength), padding=1)(
        folder
    )


#: Minus the length of what stands before the value of pixel data, in explicit and in implicit syntaxes.
_EXPLICIT, _IMPLICIT = -12, -8
_END = b"ElementDataFile"
_meta, _nrrd = volume_files.meta, volume_files.nrrd
_mhd = partial(_meta, name="t2w.mhd")
_series = partial(dicom_files.series, slices=range(3), naming="IM{:04d}")

FORMATS: dict[str, Make] = {
    ".nii": sample(volume_files.nifti, 352),
    ".nii.gz": sample(partial(volume_files.nifti, name="t2w.nii.gz"), 10, checked=True),
    ".mha": sample(_meta, _END),
    ".mha, compressed": sample(partial(_meta, packed=True), _END, checked=True),
    ".mhd": sample(_mhd, _END, padding=1),  # it ends in a line break, which nobody needs
    ".raw of a .mhd": sample(_mhd, 0, name="t2w.raw"),
    ".zraw of a .mhd": sample(_zraw, 0, name="t2w.zraw", checked=True),
    ".nrrd": sample(_nrrd, b"\n\n"),
    ".nrrd, gzip": sample(partial(_nrrd, packed=True), b"\n\n", checked=True),
    "DICOM, explicit": sample(_dicom(), _EXPLICIT),
    "DICOM, implicit": sample(_dicom(uid.ImplicitVRLittleEndian), _IMPLICIT),
    "DICOM, deflated": _deflated,
    "DICOM, RLE": sample(_dicom(uid.RLELossless), _EXPLICIT),
    "DICOM, JPEG lossless": sample(_dicom(uid.JPEGLosslessSV1), _EXPLICIT),
    "DICOM, JPEG-LS": sample(_dicom(uid.JPEGLSLossless), _EXPLICIT),
    "DICOM, JPEG 2000": sample(_dicom(uid.JPEG2000Lossless), _EXPLICIT),
    "DICOM, enhanced": sample(dicom_files.enhanced, _EXPLICIT),
    "the last file of a DICOM series": sample(_series, _EXPLICIT, name="IM0002"),
}


class Tally:
    """Counts answers; raises AssertionError for one that breaks the promise."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._counts: Counter[str] = Counter()

    def __call__(
        self, answer: Answer, where: object, *, wrong: bool = False, whole: Answer | None = None
    ) -> None:
        """Count one. ``wrong`` says that a volume should not have come out as it did."""
        self._counts[answer.kind] += 1
        self._counts["unchanged"] += answer == whole
        if answer.kind == "failed" or wrong:
            raise AssertionError(f"{where}: {answer.kind}: {answer.detail[:300]}")

    def __str__(self) -> str:
        refused, read = self._counts["refused"], self._counts["read"]
        same = self._counts["unchanged"]
        unchanged = f" ({same} unchanged)" if same else ""
        return f"{refused + read} {self._what}: {refused} refused, {read} read{unchanged}, 0 failed"


def cut(sample: Sample, count: int | None = None) -> str:
    """Cut to every length, or to some: always refused, as long as more than padding is lost."""
    tally = Tally("lengths")
    whole = _whole(sample)
    size = len(sample.whole)
    for length in _some(range(size), sample.header, count):
        answer = reader()(sample.put(sample.whole[:length]))
        lost = answer.kind == "read" and (
            answer != whole or length < size - sample.padding or sample.padding == 0
        )
        tally(answer, f"cut to {length} of {size} bytes", wrong=lost, whole=whole)
    return str(tally)


def flip(sample: Sample, count: int | None = None) -> str:
    """Turn over every bit of the header and each third of the voxels, or some.

    What a checksum covers is refused, unless the bit is one that bears on nothing. A volume of another
    shape is never read: there are more voxels than its header says, or fewer.
    """
    tally = Tally("bits")
    whole = _whole(sample)
    start = 8 * sample.header
    rest = range(start, 8 * len(sample.whole), 3)
    for bit in (*_some(range(start), start, count), *_some(rest, start, count)):
        damaged = bytearray(sample.whole)
        damaged[bit // 8] ^= 1 << bit % 8
        answer = reader()(sample.put(bytes(damaged)))
        covered = sample.checked and bit >= start
        other = answer.detail.split()[0] != whole.detail.split()[0]
        wrong = answer.kind == "read" and answer != whole and (covered or other)
        tally(answer, f"bit {bit % 8} of byte {bit // 8}", wrong=wrong, whole=whole)
    return str(tally)


def _whole(sample: Sample) -> Answer:
    answer = reader()(sample.put(sample.whole))
    assert answer.kind == "read", f"the whole file: {answer.detail}"
    return answer


def _some(positions: range, start: int, count: int | None) -> Iterable[int]:
    """All positions, or about ``count``: half of them before ``start``, and always the first and the last."""
    if count is None or len(positions) <= count:
        return positions
    early = [p for p in positions if p < start] or [*positions]
    late = [p for p in positions if p >= start] or [*positions]
    rng = np.random.default_rng(len(positions))
    drawn = {*rng.choice(early, count // 2).tolist(), *rng.choice(late, count // 2).tolist()}
    return sorted({positions[0], positions[-1], *drawn})
