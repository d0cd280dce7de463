"""The one segmenter that every method is scored by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mrisr.core.options import Segmenting
from mrisr.models.find import card_path, read_zones_card

if TYPE_CHECKING:
    from mrisr.zones.labels import LabelTable
    from mrisr.zones.segmenter import Segmenter


@dataclass(frozen=True)
class SegmenterChoice:
    """Which segmenter is asked for: at most one of a model of ours, a MONAI bundle, an nnU-Net folder.

    ``table`` gives a foreign model's labels their meaning.
    """

    model: str | None = None
    bundle: Path | None = None
    nnunet: Path | None = None
    table: LabelTable | None = None

    @property
    def foreign(self) -> bool:
        """Whether it is no model of ours."""
        return self.bundle is not None or self.nnunet is not None


@dataclass(frozen=True)
class Frozen:
    """The segmenter, and whom it knows.

    Attributes:
        trained: patients that it was trained on; none where nobody can tell.
        validated: patients by which its training was judged.
    """

    segmenter: Segmenter
    trained: tuple[str, ...] | None = None
    validated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What records and tables call it."""
        return self.segmenter.name

    @property
    def digest(self) -> str:
        """What tells it from others, in the keys of results that are kept."""
        return self.segmenter.sha256 or self.name


def load_frozen(choice: SegmenterChoice, device: str = "auto") -> Frozen:
    """Load the segmenter.

    Raises:
        UsageError: more than one was asked for, or there is no such model.
        InputError: it cannot be read.
    """
    from mrisr.zones.model import DEFAULT
    from mrisr.zones.segmenter import load_segmenter

    segmenter = load_segmenter(
        Segmenting(choice.model, choice.bundle, choice.nnunet, choice.table, device=device)
    )
    if choice.foreign:
        return Frozen(segmenter)
    training = read_zones_card(card_path(choice.model or DEFAULT)).training
    return Frozen(segmenter, training.cases, training.validation_cases)
