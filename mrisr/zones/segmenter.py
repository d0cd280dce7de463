"""Segmenters of the zones: the project's own network, a MONAI bundle or an nnU-Net, behind one call."""

import contextlib
import hashlib
import io
import logging
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mrisr.core import geometry
from mrisr.core.errors import InputError, MrisrError, one_line, out_of_memory
from mrisr.core.options import Segmenting
from mrisr.core.statistics import DARK, scaling
from mrisr.core.volume import Storage, Volume
from mrisr.data import cache
from mrisr.io.checks import readable
from mrisr.models.card import ZonesCard
from mrisr.networks import resolve_device, resolve_precision
from mrisr.zones.data import resized, to_pixel_size
from mrisr.zones.labels import LabelTable
from mrisr.zones.network import (
    DEFAULT,
    SlidingWindow,
    ZonesModel,
    find_gland,
    load_zones_model,
    predict_at,
)
from mrisr.zones.plausibility import doubts
from mrisr.zones.score import check_same_grid

#: A volume to an external model's own labels on their own grid, and notes.
Run: TypeAlias = Callable[[Volume], tuple[Volume, tuple[str, ...]]]
#: Directions of the columns, rows and slices that the project's own network sees.
_AXES = "LPS"
#: Side of the middle of the field where a second look searches, and blur that takes out slow shading, mm.
_MIDDLE_MM, _SHADING_MM = 125.0, 30.0
_SECOND = "the zones were found at a second look: in the middle of the field, its brightness evened"
#: Output and warnings are redirected for the whole process, so only one external model runs at a time.
_LOCK = threading.RLock()


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Zones of a volume: labels in uint8, 0, 1 (peripheral zone) and 2 (transition zone), on exactly its
    grid, and notes of what a record should state; ``check`` are reasons to look at them
    (:mod:`mrisr.zones.plausibility`)."""

    labels: Volume
    notes: tuple[str, ...] = ()
    check: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmenter(ABC):
    """A function from volumes to zones, without state: it may be called from several threads."""

    kind: str  #: ``mrisr``, ``bundle`` or ``nnunet``
    name: str  #: for records and tables
    sha256: str  #: digest of weights, label table and margin, which decide the labels
    device: torch.device
    #: Meaning of an external model's labels; `None` for the project's own.
    table: LabelTable | None = None
    #: Share of the width left out at each of the four edges of axial slices, for models trained on cropped
    #: images; nothing is found there.
    margin: float = 0.0

    def __call__(self, volume: Volume) -> Segmentation:
        """Segment a volume.

        Raises:
            InputError: it is a coronal or sagittal stack of thick slices, or the model fails.
        """
        # Models are trained on axial slices; thin ones of any plane are as good.
        if volume.plane != "axial" and volume.is_stack:
            expected = "axial slices, or voxels of about the same size along all axes"
            between = f"{volume.spacing[volume.slice_axis]:.3g} mm between slices"
            found = f"a {volume.plane} stack with {between}"
            raise InputError(volume.name, expected=expected, found=found)
        worlds = geometry.world_axes(volume.affine)  # the margin is left out within axial slices
        edges = [int(n * self.margin) * (w < 2) for n, w in zip(volume.shape, worlds, strict=True)]
        crop = tuple(slice(edge, n - edge) for edge, n in zip(edges, volume.shape, strict=True))
        affine = volume.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array(edges, dtype=float)
        array = np.zeros(volume.shape, np.uint8)
        array[crop], notes = self.label(volume.with_array(volume.array[crop], affine))
        labels = replace(volume, array=array, storage=Storage(array.dtype))
        return Segmentation(labels, notes, doubts(labels))

    @abstractmethod
    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Labels on the voxels of a volume that :meth:`__call__` has checked and cropped, and notes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ZonesSegmenter(Segmenter):
    """The project's own segmenter; see :func:`make_segmenter`.

    Slices that lie closer than those of training are dealt out into several stacks, each spaced about as
    in training: a volume that was super-resolved through the plane is segmented as what it is, thin
    slices, and yet seen as the network has learned to see. Zones in doubt are looked for once more without
    what a coil near the skin makes bright.
    """

    card: ZonesCard
    network: nn.Module
    precision: torch.dtype

    @torch.inference_mode()
    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Labels of the largest connected gland; a note where it took a second look."""
        lps = volume.reoriented(_AXES)
        labels, notes = self._largest_gland(lps.array, lps.spacing), tuple[str, ...]()
        if doubts(lps.with_array(labels)):
            again, box = np.zeros_like(labels), _middle(lps)
            again[box] = self._largest_gland(_evened(lps)[box], lps.spacing)
            if not doubts(lps.with_array(again)):
                labels, notes = again, (_SECOND,)
        found, _ = geometry.reoriented(labels, lps.affine, geometry.axis_codes(volume.affine))
        return np.ascontiguousarray(found), notes

    def _largest_gland(
        self, array: NDArray[np.generic], spacing: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Labels of an array along left, posterior and superior; the largest connected piece."""
        from scipy import ndimage

        stack = np.ascontiguousarray(array.transpose(2, 1, 0))
        labels = self._label_stack(stack, spacing).transpose(2, 1, 0)
        parts, count = ndimage.label(labels > 0)
        largest = np.bincount(parts.ravel())[1:].argmax() + 1 if count else 0
        return np.where(parts == largest, labels, 0).astype(np.uint8)

    def _label_stack(
        self, array: NDArray[np.generic], spacing: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """Labels of a stack ``(slices, rows, columns)``, inferior to superior; spacing in reverse order."""
        columns_mm, rows_mm, between = (float(s) for s in spacing)
        levels = to_pixel_size(cache.quantise(array), (rows_mm, columns_mm), self.card.pixel_mm)
        images = torch.from_numpy(levels.astype(np.float32) / cache.LEVELS)
        step = min(max(1, round(self.card.slice_spacing[0] / between)), len(images))
        factors = (self.card.pixel_mm / rows_mm, self.card.pixel_mm / columns_mm)
        window = SlidingWindow(self._scores, *self.card.window)
        labels = np.zeros(array.shape, np.uint8)
        centre = find_gland(images[step // 2 :: step], window)
        if centre is None:
            return labels
        for phase in range(step):
            probabilities = predict_at(images[phase::step], centre, window)
            for k, one in enumerate(probabilities.movedim(1, 0)):  # slice by slice to save memory
                found = resized(one, factors, labels.shape[1:]).argmax(0)
                labels[phase + k * step] = found.byte().numpy()
        return labels

    def _scores(self, x: Tensor) -> Tensor:
        bf16 = self.precision == torch.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            scores: Tensor = self.network(x.to(self.device))
        return scores.float().cpu()


def _middle(lps: Volume) -> tuple[slice, slice, slice]:
    """The middle of the field within axial slices."""
    sides = zip(lps.shape[:2], lps.spacing[:2], strict=True)
    starts = [max(0, round((n - _MIDDLE_MM / mm) / 2)) for n, mm in sides]
    x, y = (slice(s, n - s) for s, n in zip(starts, lps.shape[:2], strict=True))
    return x, y, slice(None)


def _evened(volume: Volume) -> NDArray[np.float32]:
    """Intensities divided by their own blur, which is that of the body alone, as a share of it."""
    from scipy.ndimage import gaussian_filter

    values = (volume.array.astype(np.float32) - np.float32(scaling(volume.array)[0])).clip(0)
    bright = np.minimum(values, np.percentile(values, 99.5))
    body = (values > DARK * np.percentile(values, 95)).astype(np.float32)
    around, inside = (gaussian_filter(x, _SHADING_MM / volume.spacing) for x in (bright, body))
    evened: NDArray[np.float32] = values * (inside + DARK) / np.maximum(around, np.float32(1e-6))
    return evened


def make_segmenter(model: ZonesModel, device: str = "auto") -> ZonesSegmenter:
    """The segmenter of a model, whose network is moved to the device: ``auto``, ``cpu``, ``cuda`` or
    ``cuda:N``. Raises UsageError where there is no such device."""
    on = resolve_device(device)
    return ZonesSegmenter(
        kind="mrisr",
        name=model.card.name,
        sha256=model.card.sha256,
        device=on,
        card=model.card,
        network=model.network.to(on),
        precision=resolve_precision("auto", on),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class ExternalSegmenter(Segmenter):
    """A model of another program: the folder that messages name, and what runs it."""

    table: LabelTable
    root: Path
    run: Run = field(repr=False)

    def label(self, volume: Volume) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Run the model on a volume and translate its labels.

        Raises:
            InputError: the model fails, or its result is no labels of the table on the volume's grid.
        """
        with guarded(self.root, "segments this image"), torch.no_grad():
            found, notes = self.run(volume)
        check_same_grid(replace(found, name=str(self.root)), volume)
        return self.table.apply(found.array, self.root), notes


def digest(root: Path, files: Iterable[Path], table: LabelTable) -> str:
    """SHA-256 of everything that decides a model's labels: files by their place below ``root``, the table.
    Raises InputError where a file cannot be read."""
    total = hashlib.sha256(str(table).encode())
    for path in sorted(set(files)):
        total.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        with readable(path, "a file of the model"):
            total.update(path.read_bytes())
    return total.hexdigest()


@contextlib.contextmanager
def guarded(path: Path, task: str) -> Iterator[None]:
    """Run another program's code: its output is dropped, its errors become one line.

    Standard output belongs to the caller's JSON, standard error to progress. Out of memory stays what it is.
    One thread at a time may be here; the output of others is dropped meanwhile, their log is not.

    Raises:
        InputError: for whatever goes wrong, naming ``path`` and the task.
    """
    with _LOCK, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), _unlogged():
        warnings.simplefilter("ignore")
        try:
            yield
        except MrisrError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise InputError(path, expected=f"a model that {task}", found=_cause(error)) from error


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep this thread's log off standard error, where it goes unless the caller has set up logging."""
    thread, handler = threading.get_ident(), logging.lastResort or logging.NullHandler()

    def of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    handler.addFilter(of_others)
    try:
        yield
    finally:
        handler.removeFilter(of_others)


def _cause(error: BaseException) -> str:
    """The first error of a chain, or the package to install if one is missing."""
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    for link in reversed(chain):
        if isinstance(link, ModuleNotFoundError) and link.name:
            return f"{link.name} is not installed (pip install {link.name})"
        if "skimage.measure required" in str(link).lower():
            return "scikit-image is not installed (pip install scikit-image)"
    return one_line(chain[-1])[:300]


def load_segmenter(settings: Segmenting) -> Segmenter:
    """Load the segmenter that the settings name, by default the bundled one.

    Raises:
        UsageError: there is no such model or device, or the table cannot be read as one.
        InputError: it cannot be loaded.
    """
    table = None if settings.table is None else LabelTable.given(settings.table)
    segmenter: Segmenter
    if settings.bundle is not None:
        from mrisr.zones.external.bundle import load_bundle

        segmenter = load_bundle(settings.bundle, table, settings.device)
    elif settings.nnunet is not None:
        from mrisr.zones.external.nnunet import load_nnunet

        segmenter = load_nnunet(settings.nnunet, table, settings.device)
    else:
        segmenter = make_segmenter(load_zones_model(settings.model or DEFAULT), settings.device)
    if not settings.margin:
        return segmenter
    decides = f"{segmenter.sha256} margin {settings.margin!r}"
    sha256 = hashlib.sha256(decides.encode()).hexdigest()
    return replace(segmenter, margin=settings.margin, sha256=sha256)
