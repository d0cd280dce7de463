"""Training data: sources, cache, crops and pairs, phantom."""
