"""Evaluation of models on patients that they have not seen."""
