"""Options of the three jobs, each declared once: type, default, range, help text and old names.

The command line, the Python functions, batches and evaluations contain these dataclasses. Nothing but
the standard library is imported here, so that ``mrisr --help`` answers at once.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from mrisr.core.errors import UsageError

Job: TypeAlias = Literal["inplane", "throughplane"]
Kind: TypeAlias = Literal["bicubic", "kspace", "gaussian", "box"]
SamplerName: TypeAlias = Literal["corrected", "published"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16"]
Format: TypeAlias = Literal["nifti", "mha", "nrrd", "dicom"]

KINDS: tuple[Kind, ...] = get_args(Kind)
#: Degradations that each job may assume, its default first.
KINDS_OF: Mapping[Job, tuple[Kind, ...]] = MappingProxyType(
    {"inplane": ("bicubic", "kspace"), "throughplane": ("gaussian", "box")}
)


#: The largest noise that can be stated, and that networks are told of: shares of the intensity range.
STRONGEST, STRONGEST_TOLD = 0.5, 0.08


class OptionError(UsageError, ValueError):
    """An option out of its range, or one that excludes another; a ValueError, so that settings report it."""


@dataclass(frozen=True)
class Option:
    """The declaration of one option beside its type."""

    help: str = ""  #: what the command line says of it
    limits: tuple[float, float] | None = None  #: the smallest and the largest value
    flags: tuple[str, ...] = ()  #: names on the command line, where they are not the field's own
    formerly: tuple[str, ...] = ()  #: names by which older settings and command lines call it


def option(
    default: Any,
    help: str = "",
    limits: tuple[float, float] | None = None,
    **names: tuple[str, ...],
) -> Any:
    """A field of options: its default (``MISSING`` where it must be given), and its :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, limits, **names)})


@dataclass(frozen=True)
class Declared:
    """A field of options with its declaration: the type without it, and the choices of a ``Literal``."""

    name: str
    type: Any
    default: Any
    option: Option
    choices: tuple[Any, ...]


_DECLARED: dict[type, tuple[Declared, ...]] = {}


def declared(kind: type) -> tuple[Declared, ...]:
    """The fields of an options dataclass with their declarations, in order."""
    if kind in _DECLARED:
        return _DECLARED[kind]
    hints = get_type_hints(kind)
    found = (
        Declared(f.name, hints[f.name], f.default, f.metadata["option"], _choices(hints[f.name]))
        for f in fields(kind)
    )
    return _DECLARED.setdefault(kind, tuple(found))


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of the ``Literal`` in a type; none for other types."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(c for inner in get_args(kind) for c in _choices(inner))


class Options:
    """Base of the options: a frozen dataclass, checked against its declarations; texts become paths."""

    #: Settings from files refuse keys that nobody declared.
    __pydantic_config__ = MappingProxyType({"extra": "forbid"})

    def __post_init__(self) -> None:
        for d in declared(type(self)):
            value = getattr(self, d.name)
            if value is None:
                continue
            if Path in get_args(d.type):
                object.__setattr__(self, d.name, Path(value))
            if d.choices and value not in d.choices:
                expected = "one of " + ", ".join(d.choices)
                raise OptionError(f"{d.name}: expected {expected}, found {value}")
            low, high = d.option.limits or (-math.inf, math.inf)
            if d.option.limits and not low <= value <= high:
                expected = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
                raise OptionError(f"{d.name}: expected {expected}, found {value:g}")


def current_names(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the names that options formerly had replaced by those that they have.

    Raises:
        OptionError: an option is given by both names.
    """
    names = {old: d.name for d in declared(kind) for old in d.option.formerly}
    out = {k: v for k, v in given.items() if k not in names}
    for old, new in names.items():
        if old in given:
            if new in out:
                raise OptionError(f"give {new} or {old}, which is its old name, not both")
            out[new] = given[old]
    return out


@dataclass(frozen=True)
class Sampling(Options):
    """Options of restoring. ``None`` is the model's own value; an option without effect is refused."""

    model: str | None = option(None, "Name of a model (see `mrisr models`) or the path of one.")
    method: str | None = option(
        None,
        "Instead of --model: the job's model of a method: partdiff, partdiff25, partdiff50, "
        "partdiff75, sr3, invsr, srgan, liif, regression, bicubic, bspline or lanczos.",
    )
    degradation: Kind | None = option(
        None,
        "What made the input coarse: bicubic or kspace (pixels), gaussian or box (slice profiles).",
    )
    steps: int | None = option(
        None,
        "Evaluations per image: 1 is most faithful, more add texture. Left out: the model's own.",
        (1, 1000),
    )
    sampler: SamplerName | None = option(
        None,
        "corrected: steps along the moving mean; published: the ones that lag behind it.",
        formerly=("update",),
    )
    eta: float | None = option(
        None, "DDIM's eta. 0: deterministic steps; 1: ancestral ones.", (0, 1), formerly=("churn",)
    )
    start: float | None = option(
        None,
        "Signal level sqrt(alpha_bar) to start at, for models without alignment such as sr3. Left out: "
        "the model's own.",
        (0.003, 0.9999),
    )
    seed: int | None = option(
        None, "Seed of the noise. Same seed, same machine: same voxels.", (0, 2**32 - 1)
    )
    samples: int | None = option(
        None,
        "Answers of which the result is the mean and their spread the uncertainty; 1: the one answer, of "
        "which the uncertainty is estimated. Left out: 1 answer.",
        (1, 64),
    )
    noise: str | float = option(
        "auto",
        "Level of the input's noise: its standard deviation as a share of the intensity range. auto: "
        "estimated; 0: none, and the result agrees exactly with the input.",
    )
    consistency: float | None = option(
        None,
        "Weight, 0 to 1, of the last projection onto what was measured; 1 copies its noise. Left out: as "
        "the noise allows (interpolations: 0).",
        (0, 1),
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    precision: Precision = option("auto", "auto: bf16 where the device computes it natively.")
    tile: int | None = option(
        None, "Edge of a tile in pixels. Left out: whole images wherever they fit.", (128, 1 << 16)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.method is not None:
            raise OptionError("give --model or --method, not both")
        object.__setattr__(self, "noise", f"{self.noise}")
        if self.noise_level is not None and not 0 <= self.noise_level <= STRONGEST:
            expected = f"auto or 0 to {STRONGEST:g}"
            raise OptionError(f"noise: expected {expected}, found {self.noise}")

    @property
    def noise_level(self) -> float | None:
        """Level of the noise, a share of the intensity range; None for ``auto``."""
        try:
            return None if self.noise == "auto" else float(self.noise)
        except ValueError:
            return math.nan


@dataclass(frozen=True)
class Adapting(Sampling):
    """Options of restoring with a model that is first fine-tuned on the scan itself."""

    adapt: float | None = option(
        None,
        "Minutes in which the model is fine-tuned on the scan's own slices first, for another scanner, "
        "sequence or organ. Where slices held back gain nothing, the model stays as it was.",
        (0.01, 1440),
    )
    adapt_steps: int | None = option(
        None, "Steps of that instead of minutes, which can be repeated.", (1, 1_000_000)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapt is not None and self.adapt_steps is not None:
            raise OptionError("give --adapt or --adapt-steps, not both")

    @property
    def adapts(self) -> bool:
        """Whether the model is fine-tuned first."""
        return (self.adapt, self.adapt_steps) != (None, None)


@dataclass(frozen=True)
class InPlane(Adapting):
    """In-plane super-resolution: ``scale`` times as many pixels along both axes of every slice."""

    scale: float = option(4.0, "1.5 to 8, fractions allowed.", (1.5, 8))

    @property
    def job(self) -> Job:
        return "inplane"


@dataclass(frozen=True)
class ThroughPlane(Adapting):
    """Through-plane super-resolution: thinner slices out of a stack."""

    factor: float | None = option(None, "Slices made of one. Left out: isotropic with the pixels.")
    spacing: float | None = option(
        None,
        "Distance of the new slices in mm, instead of --factor; of several planes the voxels' size.",
    )
    slice_thickness: float | None = option(
        None,
        "Slice thickness in mm (it is not the spacing). Left out: what the source states, else the "
        "spacing; with --adapt an estimate, where it is sure.",
    )
    register: Literal["auto", "off"] = option(
        "auto",
        "Motion between several planes. auto: found around the gland; off: they are taken as they lie.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor is not None and self.spacing is not None:
            raise OptionError("give --factor or --spacing, not both")
        if self.spacing is not None and not self.spacing > 0:
            raise OptionError(f"spacing: expected a positive number of mm, found {self.spacing:g}")

    @property
    def job(self) -> Job:
        return "throughplane"


@dataclass(frozen=True)
class Segmenting(Options):
    """Options of segmenting the zones; with none of the three models the bundled one."""

    model: str | None = option(None, "Name of a zones model (see `mrisr models`) or its path.")
    bundle: Path | None = option(
        None,
        "Folder of a MONAI bundle that segments instead. A bundle is a program and is run: only give "
        "one that you trust.",
    )
    nnunet: Path | None = option(
        None,
        "Result folder of an nnU-Net v2 that segments instead. Its checkpoints can run code: only give "
        "one that you trust.",
    )
    table: Mapping[int, str] | str | None = option(
        None,
        "What the labels of --bundle or --nnunet stand for: 1=TZ,2=PZ, or a YAML or JSON file. Left "
        "out: as the model names them.",
    )
    margin: float = option(
        0.0,
        "Share of the width left out at each edge of the slices, for models trained on cropped ones "
        "(prostate_mri_anatomy: 0.2).",
        (0, 0.49),
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(m is not None for m in (self.model, self.bundle, self.nnunet)) > 1:
            raise OptionError("give --model, --bundle or --nnunet, only one of them")
        if self.table is not None and self.bundle is None and self.nnunet is None:
            raise OptionError("--table is for --bundle and --nnunet; our own labels are known")

    @property
    def job(self) -> Literal["segment"]:
        return "segment"


@dataclass(frozen=True)
class Files(Options):
    """Where a run on files reads and writes."""

    output: Path | None = option(
        None,
        "Volume to write: .nii, .nii.gz, .mha, .mhd or .nrrd; a folder means a DICOM series, a name "
        "ending in .dcm a DICOM Segmentation. Left out: named after the input and the job, in the "
        "working folder.",
        flags=("--output", "-o"),
    )
    format: Format | None = option(
        None, "Format of the output, where --output does not tell. Left out: nifti."
    )
    template: Path | None = option(
        None,
        "DICOM series of the same patient and place: gives patient and study to a DICOM output made "
        "from another format.",
    )
    deidentify: bool = option(
        False,
        "DICOM output by the Basic Profile of PS3.15: attributes only, which is not complete "
        "de-identification.",
        flags=("--deidentify",),
    )
    qc: Path | None = option(
        None, "PNG to draw: input, interpolation, result and residual, or the zones."
    )
    uncertainty: Path | None = option(
        None,
        "Map of each voxel's standard deviation to write: a volume's file; of a DICOM series a "
        "Parametric Map, with a name ending in .dcm.",
    )
    save_adapted: Path | None = option(
        None,
        "Folder to keep the fine-tuned model of --adapt in; --model FOLDER takes it. Left out: it is "
        "discarded.",
    )
    series: str | None = option(None, "DICOM series to take: its UID, number or description.")
    frame: int | None = option(
        None, "Volume (from 1) to take of a DICOM series that holds several."
    )
    affine: Literal["sform", "qform"] | None = option(
        None, "NIfTI: which form counts where the two disagree."
    )
    max_voxels: int = option(2**31, "Refuse inputs that claim more voxels than this.")
    force: bool = option(
        False, "Replace existing outputs. The input is never overwritten.", flags=("--force",)
    )


def split_options(given: Mapping[str, Any], *kinds: type[Options]) -> list[Any]:
    """Keyword arguments shared out to the kinds of options that declare them, each made from its own.

    Raises:
        TypeError: nobody declares a name.
        UsageError: a value is out of its range.
    """
    left, made = dict(given), []
    for kind in kinds:
        left = current_names(kind, left)
        names = {d.name for d in declared(kind)}
        made.append(kind(**{k: left.pop(k) for k in list(left) if k in names}))
    if left:
        raise TypeError(f"no such option: {', '.join(sorted(left))}")
    return made
