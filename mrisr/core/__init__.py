"""Foundations: errors, volumes, geometry."""
