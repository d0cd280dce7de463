"""Runs from image to image: what is read, made, recorded and written."""
