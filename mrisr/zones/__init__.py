"""Segmentation of the prostate into peripheral and transition zone, and what it is worth."""
