"""What segments: the project's own model, a MONAI bundle or an nnU-Net, behind one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mrisr.core.errors import UsageError
from mrisr.core.options import Segmenting
from mrisr.core.volume import Volume
from mrisr.zones.labels import LabelTable

if TYPE_CHECKING:
    import torch


class Segmenter(Protocol):
    """Volumes to zones.

    Attributes:
        name: for records and tables.
        sha256: digest of all that decides the answer, weights and label table; empty if not known.
        kind: ``mrisr``, ``bundle`` or ``nnunet``.
        device: where it computes.
        notes: what had to be done otherwise than asked in the last call.
    """

    name: str
    sha256: str
    kind: str
    device: torch.device
    notes: list[str]

    @property
    def table(self) -> LabelTable | None:
        """What the labels of a foreign model stand for; none for our own."""

    def __call__(self, volume: Volume) -> Volume:
        """Labels 0, 1 (peripheral zone) and 2 (transition zone) as uint8 on exactly the volume's grid.

        Raises:
            InputError: the volume cannot be segmented.
        """


def _load(
    model: str | None = None,
    *,
    bundle: Path | None = None,
    nnunet: Path | None = None,
    table: LabelTable | None = None,
    device: str = "auto",
) -> Segmenter:
    """The segmenter that is asked for, or the bundled one.

    Args:
        model: name or path of a model of ``mrisr train``.
        bundle: folder of a MONAI bundle. It is a program: only use one that you trust.
        nnunet: result folder of an nnU-Net; it is trusted likewise.
        table: what the labels of a bundle or an nnU-Net stand for, where they do not say it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: more than one is named, there is no such model, or a table comes with our own.
        InputError: it cannot be loaded.
    """
    if sum(source is not None for source in (model, bundle, nnunet)) > 1:
        raise UsageError("give --model, --bundle or --nnunet, only one of them")
    if bundle is not None:
        from mrisr.zones.bundle import load_bundle

        return load_bundle(bundle, table, device)
    if nnunet is not None:
        from mrisr.zones.nnunet import load_nnunet

        return load_nnunet(nnunet, table, device)
    if table is not None:
        raise UsageError("--table is for --bundle and --nnunet; our own labels are known")
    from mrisr.zones.model import DEFAULT, load_zones_model
    from mrisr.zones.predict import ZonesSegmenter

    return ZonesSegmenter(load_zones_model(model or DEFAULT), device)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Zones of a volume and what the segmenter remarked."""

    labels: Volume
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Whole:
    """A segmenter that gives labels and notes together."""

    inner: Segmenter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, volume: Volume) -> Segmentation:
        labels = self.inner(volume)
        return Segmentation(labels, tuple(self.inner.notes))


def load_segmenter(settings: Segmenting) -> Any:
    """The segmenter of the settings."""
    from mrisr.zones.crop import Cropped

    table = settings.table
    if table is not None and not isinstance(table, LabelTable):
        table = LabelTable.of(table) if isinstance(table, Mapping) else LabelTable.given(table)
    inner = _load(
        settings.model,
        bundle=settings.bundle,
        nnunet=settings.nnunet,
        table=table,
        device=settings.device,
    )
    return Whole(Cropped(inner, settings.margin) if settings.margin else inner)
