"""Training from a prepared cache; needs no image library."""

from mrisr.training.loop import train

__all__ = ["train"]
