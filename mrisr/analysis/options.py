"""Options of the analyses, each declared once; read with nothing but the standard library.

Lists of patients and of steps are texts, separated by commas, as on the command line.
"""

import math
from dataclasses import MISSING, dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from mrisr.core.errors import UsageError
from mrisr.core.options import Job, Options, declared, option

Criterion: TypeAlias = Literal["nearest", "psnr", "spectrum"]


@dataclass(frozen=True, kw_only=True)
class LatentSettings(Options):
    """Images to diffuse. No model is involved, so none of the patients must be held out."""

    job: Job = option(
        MISSING, "In-plane: axial slices, bicubic. Through-plane: coronal slices along S-I."
    )
    factor: float = option(MISSING, "How much coarser the degraded images are.")
    cases: str = option("", "Patients, separated by commas.")
    slices: int = option(8, "Central slices of each series, at least 1.", (1, math.inf))
    threshold: float = option(
        0.01, "K is the first step at which no band keeps more of the missing detail."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cases", ",".join(names_of(self.cases)))
        if not 0 < self.threshold < 1:
            raise UsageError(f"threshold: expected between 0 and 1, found {self.threshold:g}")


@dataclass(frozen=True, kw_only=True)
class Search(Options):
    """Search for a schedule of signal levels."""

    steps: int = option(MISSING, "Evaluations per image, at least 2.")
    factor: float = option(MISSING, "How much coarser the degraded images are.")
    criterion: Criterion = option(
        "nearest", "Nearest to the reference in SSIM and spectrum, or one measure alone."
    )
    eta: tuple[float, ...] = option(
        (), "To try, 0 to 1; may be repeated. Left out: the model's own.", formerly=("churn",)
    )
    slices: int = option(2, "Central slices of each series, at least 1.", (1, math.inf))
    crop: int = option(192, "Edge of the central square, pixels, at least 32.", (32, math.inf))
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for eta in self.eta:
            if not 0 <= eta <= 1:
                raise UsageError(f"eta: expected 0 to 1, found {eta:g}")


@dataclass(frozen=True, kw_only=True)
class Steps(Options):
    """Numbers of steps to compare, on the model's validation patients unless others are named."""

    factor: float = option(MISSING, "How much coarser the degraded images are.")
    steps: str = option("1,2,4,10,25,50", "Numbers of steps to compare.")
    eta: float | None = option(
        None,
        "0: deterministic steps; 1: ancestral. Left out: the model's.",
        (0, 1),
        formerly=("churn",),
    )
    cases: str = option("", "Patients, separated by commas.")
    slices: int = option(8, "Central slices of each series, at least 1.", (1, math.inf))
    crop: int = option(320, "Edge of the central square, pixels, at least 32.", (32, math.inf))
    seed: int = option(0, "Of the noise and of the readers' page.")
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cases", ",".join(names_of(self.cases)))
        object.__setattr__(self, "steps", ",".join(map(str, steps_of(self.steps))))


def names_of(text: str) -> list[str]:
    """Read a list of patients such as ``one, two``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def steps_of(text: str) -> list[int]:
    """Read a list such as ``1,2,4``: increasing numbers of steps.

    Raises:
        UsageError: it is no such list.
    """
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        steps = []
    if not steps or steps[0] < 1 or any(a >= b for a, b in pairwise(steps)):
        raise UsageError(f"steps: expected increasing whole numbers such as 1,2,4, found {text!r}")
    return steps


def command(name: str, how: Options, model: str | None = None) -> str:
    """The command that repeats an analysis; options that have their defaults are left out.

    >>> command("latents", LatentSettings(job="inplane", factor=4.0, cases="a, b"))
    'mrisr analyze latents --data CACHE --job inplane --factor 4 --cases a,b --output OUT'
    """
    words = [f"mrisr analyze {name}", *([f"--model {model}"] if model else []), "--data CACHE"]
    for d in declared(type(how)):
        value = getattr(how, d.name)
        if value != d.default and d.name != "device":
            for one in value if isinstance(value, tuple) else (value,):
                words.append(f"--{d.name} {f'{one:g}' if isinstance(one, float) else one}")
    return " ".join([*words, "--output OUT"])
