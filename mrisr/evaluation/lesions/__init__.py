"""Evaluation by small lesions that are put into real slices: kept, seen, neither lost nor invented."""
