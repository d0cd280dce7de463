"""Two models in one: a network for images without noise, and one trained on from it that is told of noise.

``python docs/scripts/by_noise.py QUIET NOISY... FOLDER`` writes the model that the first and the last make
together, under the name of the first; those between are what the last was trained on from. The released
models are made so: from partdiff-inplane.yaml and partdiff-inplane-noise.yaml, which
partdiff-inplane-noise-longer.yaml trains on; and so through the plane (configs/).
"""

import sys
from pathlib import Path

from mrisr.models.store import load_model, save_model
from mrisr.networks.unshuffle import NOISY, ByNoise

quiet, *runs = (load_model(name) for name in sys.argv[1:-1])
noisy = runs[-1]
parts = [m.restorer.network for m in (quiet, noisy)]
parts = [(p.noisy if i else p.quiet) if isinstance(p, ByNoise) else p for i, p in enumerate(parts)]
weights = {
    **{f"quiet.{name}": value for name, value in parts[0].state_dict().items()},
    **{f"noisy.{name}": value for name, value in parts[1].state_dict().items()},
}
t = noisy.card.training
without = ", ".join(sorted({*quiet.card.training.cases} - {*t.cases})) or "nobody"
steps = sum(run.card.training.iterations for run in runs)
minutes = (r.minutes or r.seconds / 60 for r in (run.card.training for run in runs))
told = " and ".join(f"{m:.0f} minutes" for m in minutes)
trained_on = (
    f" Two networks: one for images without noise; and, alone from a noise of {100 * NOISY:g}% of the range "
    f"on, one that is told of it, trained on from the first for {steps} steps of {t.batch} crops "
    f"({told} on {t.hardware}, {t.precision}), {without} left out."
)
card = quiet.card.model_copy(
    update={
        "network": quiet.card.network.model_copy(update={"by_noise": True}),
        "noise": True,
        "condition": noisy.card.condition,
        "figures": {k: v for k, v in quiet.card.figures.items() if k != "with_noise"},
        "description": quiet.card.description.split(" Two networks:")[0] + trained_on,
    }
)
save_model(card, weights, Path(sys.argv[-1]), card.name)
