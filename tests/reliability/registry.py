"""All cases, in the order of the table."""

from __future__ import annotations

from collections import Counter
from importlib import import_module, util

from tests.reliability.case import Case

MODULES = (
    "cases_dicom",
    "cases_dicom_series",
    "cases_dicom_pixels",
    "cases_dicom_syntaxes",
    "cases_dicom_files",
    "cases_nifti",
    "cases_nifti_grids",
    "cases_nifti_voxels",
    "cases_itk",
    "cases_nrrd",
    "cases_paths",
    "cases_outputs",
    "cases_models",
    "cases_zones",
    "cases_privacy",
    "cases_damage",
    "cases_derived",
    "cases_collections",
    "cases_faults",
)


def all_cases() -> list[Case]:
    """The cases of every module that is there. Raises ValueError for a name used twice in a group."""
    cases: list[Case] = []
    for name in MODULES:
        full = f"tests.reliability.{name}"
        if util.find_spec(full) is not None:
            cases += import_module(full).CASES
    twice = [str(k) for k, n in Counter(map(str, cases)).items() if n > 1]
    if twice:
        raise ValueError(f"two cases of one name: {', '.join(twice)}")
    return cases
