"""Models with their cards: bundled, installed, or from a training run."""
