"""mrisr: super-resolution of prostate MRI by partial diffusion.

The two upsamplers are :func:`inplane` and :func:`throughplane`; :func:`segment` labels the zones of the
prostate. :func:`run` does any of the three and returns the image with its record and notes. Heavy libraries
load when they are used, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrisr.core import process

__version__ = "0.2.0"
__all__ = [
    "InPlane",
    "Segmenting",
    "ThroughPlane",
    "__version__",
    "inplane",
    "run",
    "segment",
    "throughplane",
]

if TYPE_CHECKING:
    from mrisr.core.options import InPlane, Segmenting, ThroughPlane
    from mrisr.runs.run import inplane, run, segment, throughplane

process.make_ready()


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in ("inplane", "throughplane", "run", "segment"):
        from mrisr.runs import run as runs

        return getattr(runs, name)
    if name in ("InPlane", "ThroughPlane", "Segmenting"):
        from mrisr.core import options

        return getattr(options, name)
    raise AttributeError(f"module 'mrisr' has no attribute {name!r}")
