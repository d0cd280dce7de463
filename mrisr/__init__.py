"""mrisr: super-resolution of prostate MRI by partial diffusion.

The two upsamplers are :func:`inplane` and :func:`throughplane`; :func:`segment` labels the zones of the
prostate. Heavy libraries load when they are used, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "inplane", "segment", "throughplane"]

if TYPE_CHECKING:
    from mrisr.runs.segment import segment
    from mrisr.runs.upsample import inplane, throughplane


def __getattr__(name: str) -> Any:
    if name in ("inplane", "throughplane"):
        from mrisr.runs import upsample

        return getattr(upsample, name)
    if name == "segment":
        from mrisr.runs.segment import segment

        return segment
    raise AttributeError(f"module 'mrisr' has no attribute {name!r}")
