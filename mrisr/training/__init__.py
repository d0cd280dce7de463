"""Training from a prepared cache; needs no image library."""

from mrisr.training.run import train

__all__ = ["train"]
