"""Two models in one: a network for images without noise, and one trained on from it that is told of noise.

``python docs/scripts/by_noise.py QUIET NOISY FOLDER`` writes the model that the two make together, under the
name of the first. The released models are made so: from partdiff-inplane.yaml and
partdiff-inplane-noise.yaml, partdiff-throughplane.yaml and partdiff-throughplane-noise.yaml (configs/).
"""

import sys
from pathlib import Path

from mrisr.models.store import load_model, save_model
from mrisr.networks.unshuffle import NOISY, ByNoise

quiet, noisy = (load_model(name) for name in sys.argv[1:3])
parts = [m.restorer.network for m in (quiet, noisy)]
parts = [(p.noisy if i else p.quiet) if isinstance(p, ByNoise) else p for i, p in enumerate(parts)]
weights = {
    **{f"quiet.{name}": value for name, value in parts[0].state_dict().items()},
    **{f"noisy.{name}": value for name, value in parts[1].state_dict().items()},
}
t = noisy.card.training
without = ", ".join(sorted({*quiet.card.training.cases} - {*t.cases})) or "nobody"
trained_on = (
    f" Two networks: one for images without noise; and, alone from a noise of {100 * NOISY:g}% of the range "
    f"on, one that is told of it, trained on from the first for {t.iterations} steps of {t.batch} crops "
    f"({t.seconds / 60:.0f} minutes on {t.hardware}, {t.precision}), {without} left out."
)
card = quiet.card.model_copy(
    update={
        "network": quiet.card.network.model_copy(update={"by_noise": True}),
        "noise": True,
        "condition": noisy.card.condition,
        "description": quiet.card.description + trained_on,
        "figures": {**quiet.card.figures, "with_noise": noisy.card.figures},
    }
)
save_model(card, weights, Path(sys.argv[3]), card.name)
