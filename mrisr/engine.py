"""Evaluation of a model's networks on images: in batches, through tiles, in a precision that holds.

The network is evaluated on tiles where an image is too large, blended inside every evaluation, so that each
step of the sampler sees a seamless image.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor

from mrisr.core.errors import UsageError, out_of_memory
from mrisr.core.options import Sampling
from mrisr.core.stages import stage
from mrisr.core.statistics import seeded
from mrisr.methods.base import given
from mrisr.models.store import Model
from mrisr.networks import channels_last, resolve_device, resolve_precision
from mrisr.physics.separable import SeparableOperator

#: Overlap of neighbouring tiles in pixels, and the smallest tile that out of memory leads to.
OVERLAP = 64
SMALLEST_TILE = 128
#: Pixels evaluated at once without tiles, with the default network: feature maps of 16 MB on a CPU, which are
#: computed no faster in larger pieces; 6 GiB in all on a GPU.
BATCH_PIXELS = {"cpu": 1_000_000, "cuda": 16_000_000}
#: Images above this many pixels are tiled on the CPU unless ``tile`` says otherwise.
WHOLE_IMAGE_PIXELS = 24_000_000


def tile_starts(size: int, tile: int, multiple: int = 8) -> list[int]:
    """First pixels of overlapping tiles that cover ``size``, each a multiple of ``multiple`` so that a
    folded network sees the same folding in a tile as in the whole image."""
    if size <= tile:
        return [0]
    step = max(multiple, (tile - OVERLAP) // multiple * multiple)
    last = -(-(size - tile) // multiple) * multiple
    return [*range(0, last, step), last]


def ramp(n: int, start: int, size: int) -> Tensor:
    """Blending weight of a tile of ``n`` pixels at ``start``: falls off linearly where a neighbour
    overlaps."""
    distance = torch.arange(n, dtype=torch.float32) + 0.5
    left = distance / OVERLAP if start > 0 else torch.ones(n)
    right = distance.flip(0) / OVERLAP if start + n < size else torch.ones(n)
    return torch.minimum(left, right).clamp(max=1.0)


class Engine:
    """Restores batches of images with a copy of one model; the model stays as it was.

    Args:
        model: from :func:`mrisr.models.store.load_model`.
        sampling: resolved (:func:`mrisr.restore.resolved`).

    ``notes`` collects what had to be done differently from what was asked, for the record.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self.card, self.sampling = model.card, sampling
        self.device = resolve_device(sampling.device)
        self.precision = resolve_precision(sampling.precision, self.device)
        self.restorer = channels_last(deepcopy(model.restorer).to(self.device))
        self.tile = sampling.tile
        self.sample = 0  #: which of several answers is drawn
        self.notes: list[str] = []

    def batch_size(self, high: tuple[int, int]) -> int:
        """Images of size ``high`` to restore at once."""
        return max(1, BATCH_PIXELS[self.device.type] // (high[0] * high[1]))

    def noise(self, high: tuple[int, int], step: int) -> Tensor:
        """The standard normal field ``(1, c, h, w)`` of a step: one for all slices and tiles."""
        generator = seeded("cpu", self.sampling.seed or 0, step, self.sample)
        field = torch.randn(1, self.card.network.channels, *high, generator=generator)
        return field.to(self.device)

    @torch.inference_mode()
    def restore(self, y: Tensor, operator: SeparableOperator, level: float = 0.0) -> Tensor:
        """x_HR of measured images ``y`` ``(b, c, rows, columns)`` in -1..1, float32, on the CPU; ``level`` is
        that of their noise, a share of the intensity range.

        The result is not yet projected onto the measurement.
        """
        while True:
            try:
                return self._restore(y.to(self.device), operator, level).cpu()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._shrink(max(operator.interpolate(y[:1]).shape[-2:]))

    def restore_all(
        self,
        images: Tensor,
        operator: SeparableOperator,
        level: float = 0.0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """x_HR of ``(n, c, rows, columns)`` in batches; ``progress`` is told how many images are done."""
        low = operator.interpolate(images[:1])
        out = torch.empty(len(images), *low.shape[1:])
        size = self.batch_size((low.shape[-2], low.shape[-1]))
        for first in range(0, len(images), size):
            out[first : first + size] = self.restore(images[first : first + size], operator, level)
            progress(min(first + size, len(images)))
        return out

    @stage("sampling")
    def _restore(self, y: Tensor, operator: SeparableOperator, level: float) -> Tensor:
        measured = given(y, operator, self.card.kinds, level if self.card.noise else None)
        high = (measured.x_low.shape[-2], measured.x_low.shape[-1])
        noise = partial(self.noise, high)
        return self.restorer.restore(measured, self.sampling, noise, self._evaluate)

    def _evaluate(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        """One evaluation of a network on whole images, through tiles where they are too large."""
        if not images or self._tile_for(images[0]) is None:
            return self._compute(function, *images)
        total = weight = images[0].new_zeros(())
        for rows, columns, share in self._tiles(images[0]):
            part = self._compute(function, *(x[..., rows, columns] for x in images))
            if not total.ndim:
                total = part.new_zeros(*part.shape[:2], *images[0].shape[-2:])
                weight = torch.zeros_like(total[:1, :1])
            total[..., rows, columns] += share * part
            weight[..., rows, columns] += share
        return total / weight

    def _tile_for(self, x: Tensor) -> int | None:
        h, w = x.shape[-2:]
        tile = self.tile
        if tile is None and self.device.type == "cpu" and h * w > WHOLE_IMAGE_PIXELS:
            tile = 2048
        return None if tile is None or max(h, w) <= tile else tile

    def _tiles(self, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        h, w = x.shape[-2:]
        tile = self._tile_for(x) or max(h, w)
        for top in tile_starts(h, tile):
            for left in tile_starts(w, tile):
                rows, columns = slice(top, min(top + tile, h)), slice(left, min(left + tile, w))
                down = ramp(rows.stop - top, top, h)[:, None]
                across = ramp(columns.stop - left, left, w)[None, :]
                yield rows, columns, (down * across).to(x)

    @stage("network")
    def _compute(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        if self.precision == torch.bfloat16:
            with torch.autocast(self.device.type, torch.bfloat16):
                out = function(*images).float()
            if bool(torch.isfinite(out).all()):
                return out
            self._note("numbers overflowed in bf16; computed again in fp32")
        return function(*images)

    def _shrink(self, size: int) -> None:
        """Halve the tile after running out of memory; at the smallest, move to the CPU."""
        tile = (self.tile or size) // 2
        if tile >= SMALLEST_TILE:
            self.tile = tile
            self._note(f"out of memory: tile reduced to {tile}")
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self.precision = resolve_precision(self.sampling.precision, self.device)
            self.restorer = self.restorer.to(self.device)
            self.tile = None
            self._note("out of memory at the smallest tile: continued on the CPU")
        else:
            raise UsageError(
                f"out of memory even with tiles of {self.tile}; free memory or use a smaller scale"
            )
        torch.cuda.empty_cache()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
