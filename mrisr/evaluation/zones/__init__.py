"""What restoration is worth downstream: restored images segmented by one frozen model, scored by labels."""
