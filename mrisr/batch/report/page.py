"""The page of one study, and what both pages share: their templates, and words for figures and faults.

A file that is missing or cannot be read is no error: the page of a failed study is the one that matters
most, and says what it did not find.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment

from mrisr.batch.names import PAGE, SOURCE, STATUS, VOLUME, read_json
from mrisr.batch.report.pictures import Read, make_pictures
from mrisr.batch.status import Status, read_status
from mrisr.io import read_volume
from mrisr.io.atomic import write_bytes
from mrisr.view.cuts import PIXEL_MM
from mrisr.view.pages import environment
from mrisr.view.qc import ZONE_COLOURS
from mrisr.zones.labels import TITLES

Json = Mapping[str, Any]
#: In the place of a figure that is not defined.
NONE = "–"
#: Residuals, as a share of the intensity range, up to which a volume agrees, and agrees in the main.
AGREES, NEARLY = 1e-3, 1e-2
#: Largest residual, in units of the noise, that agrees as well as the noise allows.
AS_NOISE = 1.3
STAGE_TITLES = {
    "convert": "read and check the scans",
    "upsample": "super-resolve",
    "segment": "find the zones",
    "score": "compare with the labels",
    "report": "write the page",
}
# What a reason holds -> what to do; the first that fits.
_ADVICE = {
    r"out of memory|memory|killed|exit code 137|signal 9": "The stage needed more memory than it had. "
    "Give its rule more in the profile, or set a smaller tile.",
    r"time ?limit|timed? ?out|out of time|due to time": "The stage needed more time than it had. "
    "Give its rule more in the profile.",
    r"no space|disk|quota|permission|read-only": "The output could not be written. "
    "Make room on the disk, or see who may write there.",
    r"expected .+ found": "The input cannot be used as it is. "
    "Replace the file, or correct its row of the manifest.",
    r"kill|preempt|cancel|node|signal": "The job was ended from outside. "
    "Nothing is wrong with the study as far as known.",
    "": "Set MRISR_TRACEBACK=1 and start again to see where the error arose.",
}


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Fill a template, in which everything given is escaped, and write it, whole or not at all.

    Raises OutputError.
    """
    return write_bytes(path, _environment().get_template(template).render(**content).encode())


@cache
def _environment() -> Environment:
    made = environment("mrisr.batch.report")
    filters = (advice, agreement, as_yaml, duration, fixed, memory, number, percent, sides)
    made.filters |= {function.__name__: function for function in filters}
    made.globals |= {
        "colours": {zone: f"rgb({r} {g} {b})" for zone, (r, g, b) in ZONE_COLOURS.items()},
        "look": look,
        "stage_titles": STAGE_TITLES,
        "zone_titles": TITLES,
    }
    return made


def advice(reason: str) -> str:
    """Advice on a failure.

    >>> advice("axial.nii.gz: expected 221184 bytes of voxels, found 1000")[:45]
    'The input cannot be used as it is. Replace th'
    """
    found = next(text for pattern, text in _ADVICE.items() if re.search(pattern, reason.lower()))
    again = "it redoes this study and leaves the finished ones alone."
    return f"{found} Then start the same command again: {again}"


def look(record: Any, *keys: str) -> Any:
    """The value in nested objects of a file; `None` where there is none.

    >>> look({"a": {"b": 3}}, "a", "b"), look({"a": 3}, "a", "b")
    (3, None)
    """
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def number(value: Any) -> float | None:
    """A figure, or `None` where there is none.

    >>> number(3), number(None), number("many"), number(True)
    (3.0, None, None, None)
    """
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def fixed(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A figure with so many digits after the point.

    >>> fixed(0.8126, 3), fixed(0.5, 1, sign=True), fixed(-0.5, 1, sign=True), fixed(None, 2)
    ('0.813', '+0.5', '−0.5', '–')
    >>> fixed(-0.04, 1, sign=True)
    '0.0'
    """
    if value is None:
        return NONE
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Time as people say it.

    >>> duration(0.04), duration(8.25), duration(95), duration(3725), duration(None)
    ('< 0.1 s', '8.2 s', '1 min 35 s', '1 h 2 min', '–')
    """
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds >= 0.1 else "< 0.1 s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def memory(gib: float | None) -> str:
    """Memory with its unit."""
    return NONE if gib is None else f"{gib:.2f} GiB"


def percent(share: float | None) -> str:
    """A small share in percent, two digits that count.

    >>> percent(0.00032), percent(0.0214), percent(0.4), percent(0.0)
    ('0.032%', '2.1%', '40%', '0%')
    """
    return NONE if share is None else f"{100 * share:.2g}%"


def sides(values: Any, digits: int | None = None, unit: str = "") -> str:
    """Voxel size or matrix of a record.

    >>> sides([0.5, 0.5, 3], 2, " mm"), sides([64, 60, 12]), sides(None)
    ('0.50 × 0.50 × 3.00 mm', '64 × 60 × 12', '–')
    """
    given = values if isinstance(values, (list, tuple)) else []
    texts = [str(v) if digits is None else fixed(number(v), digits) for v in given]
    return " × ".join(texts) + unit if texts else NONE


def volume_title(name: str, record: Json) -> str:
    """Title of a volume on the pages.

    >>> volume_title("throughplane", {"job": "throughplane", "parameters": {"factor": 6.0}})
    'through-plane ×6'
    >>> volume_title("source", {}), volume_title("other", {})
    ('measured', 'other')
    >>> volume_title("iso", {"planes": [{}, {}], "parameters": {"spacing_mm": 0.6}})
    '3 planes, 0.6 mm'
    """
    if name == SOURCE:
        return "measured"
    spacing, planes = number(look(record, "parameters", "spacing_mm")), record.get("planes")
    if planes and spacing is not None:
        return f"{len(planes) + 1} planes, {spacing:.3g} mm"
    factors = (number(look(record, "parameters", key)) for key in ("factor", "scale"))
    factor = next((f for f in factors if f is not None), None)
    job = {"throughplane": "through-plane", "inplane": "in-plane"}.get(str(record.get("job")))
    return name if job is None or factor is None else f"{job} ×{factor:.3g}"


def agreement(record: Json) -> tuple[str, str]:
    """Grade of the agreement with the measurement: ``"good"``, ``"fair"``, ``"poor"`` or ``"unknown"``, and
    that in a sentence."""
    share = number(look(record, "residual", "rms_of_range"))
    if share is None:
        return "unknown", "The record states no residual."
    noise = number(look(record, "residual", "rms_of_noise"))
    if noise is not None and noise <= AS_NOISE:
        return "good", f"As far from the scan as its noise: {noise:.2f} of it."
    if share <= AGREES:
        return (
            "good",
            "Made coarse again, it gives back the scan; that says nothing of added detail.",
        )
    weight = number(look(record, "parameters", "consistency"))
    why = (
        f"It was made with consistency {weight:g}, so it was not held to the measurement."
        if weight is not None and weight < 1
        else "The assumed degradation or slice thickness may not be what the scanner did; see the notes "
        "and parameters."
    )
    if share > NEARLY:
        return "poor", f"Does not agree with the measurement. {why}"
    told = "Agrees in the main, less closely than the usual few hundredths of a percent."
    return "fair", f"{told} {why}"


def as_yaml(content: Json) -> str:
    """Nested values as text, in the order in which they are given."""
    given = json.loads(json.dumps(content))
    layout: dict[str, Any] = {"allow_unicode": True, "default_flow_style": None, "width": 100}
    return str(yaml.safe_dump(given, sort_keys=False, **layout))


@dataclass(frozen=True)
class StudyResults:
    """A study's folder.

    Attributes:
        folder: where it lies.
        status: of all parts but the page, which is not made yet when it is written.
        records: upsampled volume -> the record beside it, empty where there is none.
        zones: segmented volume, ``SOURCE`` or an upsampled one -> the record of its zones.
        unreadable: files of the folder that hold no JSON.
        page, thumbnails: of the study, on that of all; the page relative to it, ``""`` where there is none.
    """

    folder: Path
    status: Status
    records: Mapping[str, Json]
    zones: Mapping[str, Json]
    unreadable: tuple[str, ...] = ()
    page: str = ""
    thumbnails: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Subject and session as the manifest has them."""
        name = self.folder.name
        return f"{self.folder.parent.name} {name}" if name.startswith("ses-") else name

    @property
    def volumes_ml(self) -> dict[str, dict[str, float | None]]:
        """Segmented volume -> zone -> ml, by the records."""
        stated = {name: look(record, "volumes_ml") for name, record in self.zones.items()}
        return {
            name: {zone: number(ml) for zone, ml in sizes.items()}
            for name, sizes in stated.items()
            if isinstance(sizes, Mapping)
        }

    @property
    def residuals(self) -> dict[str, float | None]:
        """Upsampled volume -> residual as a share of the intensity range."""
        return {n: number(look(r, "residual", "rms_of_range")) for n, r in self.records.items()}

    def title(self, volume: str) -> str:
        """The name of a volume on the pages."""
        return volume_title(volume, self.records.get(volume, {}))

    def by_stack(self, stacks: Collection[str]) -> dict[str, list[str]]:
        """The upsampled volumes of each measured stack, which is that of the plane in their record."""
        found: dict[str, list[str]] = {}
        for name, record in self.records.items():
            stated = look(record, "input", "plane")
            plane = stated if stated in stacks else next(iter(stacks), None)
            if plane is not None:
                found.setdefault(plane, []).append(name)
        return found

    def gain(self, volume: str, zone: str) -> float | None:
        """Dice of a zone less that in the measured volume."""
        after, before = (look(self.status.scores, v, zone, "dice") for v in (volume, SOURCE))
        return None if volume == SOURCE or after is None or before is None else after - before


def write_subject_page(folder: Path, read: Read = read_volume, back: str | None = None) -> Path:
    """Write ``report.html`` into the folder of a study, from what lies in it and nothing else; its path.

    The page needs no other file and no network. A study that failed has a page as well. Raises OutputError.

    Args:
        folder: ``sub-X`` or ``sub-X/ses-Y`` of a batch.
        read: reads a volume, as :func:`mrisr.io.read_volume`, or has it in memory.
        back: where the page of all studies lies, relative to this one; ``""`` where there is none, and then
            no state nor links to volumes either. Left out: in the batch's folder.
    """
    study = read_study(folder)
    viewers, problems = make_pictures(study, read)
    if back is None:
        back = f"{'../' * (2 if folder.name.startswith('ses-') else 1)}{PAGE}"
    return write_page(
        folder / PAGE,
        "subject.html",
        study=study,
        back=back,
        viewers=viewers,
        notes=notes(study, problems),
        measured=SOURCE,
        volume_ending=VOLUME,
        pixel_mm=PIXEL_MM,
    )


def notes(study: StudyResults, problems: list[str]) -> list[tuple[str, str]]:
    """Notes of readers, models and writers: the volume that each is about, and the text."""
    told = [*problems, *(f"{path} holds no record." for path in study.unreadable)]
    found = [("this page", text) for text in told]
    found += [(part.name, text) for part in study.status.parts for text in part.notes]
    for of, records in (("", study.records), ("zones, ", study.zones)):
        for name, record in records.items():
            stated = record.get("notes")
            texts = stated if isinstance(stated, list) else []
            found += [(f"{of}{study.title(name)}", str(text)) for text in texts]
    return list(dict.fromkeys(found))


def read_study(folder: Path) -> StudyResults:
    """Content of the small files of a study."""
    unreadable: list[str] = []

    def read(path: Path) -> Json:
        content = read_json(path)
        if not content and path.exists():
            unreadable.append(path.relative_to(folder).as_posix())
        return content

    def records(room: str) -> dict[str, Json]:
        names = [path.name.removesuffix(VOLUME) for path in (folder / room).glob(f"*{VOLUME}")]
        return {name: read(folder / room / f"{name}.json") for name in sorted(names, key=place)}

    def place(name: str) -> tuple[bool, bool, str]:
        """The measured volume first, then through-plane ones, then the rest by name."""
        return name != SOURCE, not name.startswith("throughplane"), name

    read(folder / STATUS)
    parts = tuple(part for part in read_status(folder).parts if part.stage != "report")
    status = Status("", parts)
    return StudyResults(folder, status, records("upsampled"), records("zones"), tuple(unreadable))
