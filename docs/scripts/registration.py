"""The motion between a patient's axial and coronal scan: all that both show, and the prostate's surroundings.

``python docs/scripts/registration.py PATIENTS`` prints the table of docs/explanation/reference-scan.md.
"""

import sys
from pathlib import Path

from mrisr.core.errors import MrisrError
from mrisr.evaluation.overlap import overlap_centre, upright
from mrisr.io import read_volume
from mrisr.planes.registration import register_rigid

DIAMETER = 70.0

print(
    "| patient | whole overlap: shift R, A, S mm | within 70 mm: shift R, A, S mm | rotation, degrees |"
)
print("|---|---|---|---|")
for folder in sorted(Path(sys.argv[1]).iterdir()):
    try:
        axial, coronal = (read_volume(folder / f"t2w_{p}.nii.gz") for p in ("ax", "cor"))
    except MrisrError:
        continue  # the patient does not have both
    centre = overlap_centre(upright(coronal), axial)
    whole = register_rigid(coronal, axial)
    part = register_rigid(coronal, axial, (centre, DIAMETER))
    cells = [whole.shift_mm, part.shift_mm, part.angles_deg]
    row = (", ".join(f"{v:+.1f}" for v in cell) for cell in cells)
    print(f"| {folder.name} | {' | '.join(row)} |", flush=True)
