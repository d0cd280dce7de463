"""The page of one run: before and after, as in the page of a study of a batch."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mrisr.batch.names import PAGE, VOLUME
from mrisr.batch.report.page import write_subject_page
from mrisr.core.errors import InputError
from mrisr.core.volume import Volume
from mrisr.io import check_output, read_file
from mrisr.io.atomic import write_bytes
from mrisr.io.paths import stem


def page_of(
    result: Path, study: Path | None, *, series: str | None = None, force: bool = False
) -> Path:
    """Path of a page with before and after: that of a batch or of one of its studies, or a new one beside the
    result of a run.

    Args:
        result: folder of a batch or of a study of one, or what a run has written.
        study: what the run was made of; not for a batch.
        series: of a DICOM study.
        force: replace a page that exists.

    Raises:
        InputError: a volume cannot be read, or there is no record beside the result, or nothing to show.
        OutputError: the page exists or cannot be written.
    """
    if study is None:
        if (result / PAGE).is_file():
            return result / PAGE
        expected = f"a folder with {PAGE}, or --input with the study that the result was made of"
        raise InputError(result, expected=expected, found="neither")
    record = result.with_name(f"{stem(result)}.json")
    page = result.with_name(f"{stem(result)}.html")
    check_output(page, inputs=(study, result), force=force)
    if not record.is_file():
        raise InputError(record, expected="the record of the run beside its result", found="none")
    before, after = read_file(study, series=series).volume, read_file(result).volume
    if after.plane != before.plane and before.is_stack:
        raise InputError(result, expected=f"made of {before.plane} slices", found=after.plane)
    with TemporaryDirectory() as room:
        folder = Path(room) / stem(result)
        volumes = {
            folder / "source" / f"{before.plane}{VOLUME}": before,
            folder / "upsampled" / f"result{VOLUME}": after,
        }
        for path in volumes:
            path.parent.mkdir(parents=True)
            path.touch()
        told = {**json.loads(record.read_bytes())}
        told["input"] = {**told.get("input", {}), "plane": before.plane}
        (folder / "upsampled" / "result.json").write_text(json.dumps(told), encoding="utf-8")

        def read(path: Path, **_: object) -> Volume:
            return volumes[path]

        content = write_subject_page(folder, read, back="").read_bytes()
    return write_bytes(page, content)
