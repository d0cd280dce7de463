"""Evaluation downstream: restored images segmented by one frozen model, scored by labels."""
