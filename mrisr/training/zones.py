"""Training of the zonal segmenter on the labelled stacks of a cache."""

from pathlib import Path

import torch
from lightning_fabric import Fabric
from monai.losses.dice import DiceCELoss
from torch import Tensor

import mrisr
from mrisr.config import ZonesConfig
from mrisr.core.errors import InputError
from mrisr.data import cache
from mrisr.models.card import ZonesCard
from mrisr.training.bookkeeping import first_record
from mrisr.training.finetune import take_weights
from mrisr.training.loop import CROPS, DEVICE, Trainee, per_process, pinned
from mrisr.zones.data import (
    WHOLE,
    LabelledStack,
    RawCrops,
    Variation,
    ZoneCrops,
    draw_variation,
    labelled_stacks,
    vary,
)
from mrisr.zones.labels import ZONES
from mrisr.zones.network import CrossSliceUNet, SlidingWindow, load_zones_model, zone_probabilities

Batch = tuple[RawCrops, list[Variation]]


class Segmentation(Trainee[Batch]):
    """A zonal segmenter in training: Dice and cross-entropy loss against the readers' soft labels."""

    def __init__(self, config: ZonesConfig, data: Path, output: Path, fabric: Fabric) -> None:
        self.config = config
        training, self.held_out = labelled_stacks(cache.read_stacks(data, ["axial"]), config.data)
        self.validates = bool(self.held_out)
        try:
            self.crops = ZoneCrops(training, config.data, config.augmentation)
        except ValueError as error:
            wanted = f"labelled stacks for {config.name}"
            raise InputError(data, expected=wanted, found=str(error)) from error
        torch.manual_seed(config.train.seed)
        network = CrossSliceUNet(config.network)
        if config.train.initialize:
            model = load_zones_model(config.train.initialize)
            take_weights(network, model.network, model.card.name)
        self.card = _new_card(config, training)
        self.objective = DiceCELoss(softmax=True, batch=True, lambda_ce=1.0, lambda_dice=1.0)
        super().__init__(config, output, fabric, module=network, network=network)
        self.share = per_process(config.train.batch, fabric.world_size)

    def draw(self, step: int) -> Batch:
        """Raw crops, and the augmentation of each."""
        generator = self.generator(step, CROPS)
        crops = self.crops.draw(self.share, generator)
        drawn = [
            draw_variation(self.config.augmentation, self.config.data, generator)
            for _ in range(self.share)
        ]
        return RawCrops(*(pinned(x) for x in crops)), drawn

    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Dice and cross-entropy loss of the stacks, augmented on the device."""
        device, bf16 = self.fabric.device, self.settings.precision == "bf16"
        crops = RawCrops(*(x.to(device, non_blocking=True) for x in batch[0]))
        image, target = vary(crops, batch[1], self.config.data.crop, self.generator(step, DEVICE))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            scores = self.module(image)
        return torch.as_tensor(self.objective(scores.float(), target))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Dice of each zone on the held-out patients, on the working pixels, against most readers."""
        network = CrossSliceUNet(self.config.network).to(self.fabric.device).eval()
        network.load_state_dict(self.ema)
        data = self.config.data
        device = self.fabric.device
        window = SlidingWindow(lambda x: network(x.to(device)), data.crop, data.slices)
        found: dict[str, list[float]] = {}
        for stack in self.held_out:
            levels = torch.from_numpy(stack.levels).float() / cache.LEVELS
            probabilities = zone_probabilities(levels, window)
            labels = None if probabilities is None else probabilities.argmax(0)
            wanted = torch.from_numpy(stack.shares).float() / WHOLE > 0.5
            for i, (name, label) in enumerate(ZONES.items()):
                got = torch.zeros_like(wanted[i]) if labels is None else labels == label
                both = float((got & wanted[i]).sum())
                total = float(got.sum() + wanted[i].sum())
                found.setdefault(f"dice_{name}", []).append(2 * both / max(total, 1.0))
        return {name: sum(values) / len(values) for name, values in found.items()}


def _new_card(config: ZonesConfig, training: list[LabelledStack]) -> ZonesCard:
    """Make the card as it stands before the first step."""
    data = config.data
    between = [s.spacing[0] for s in training]
    return ZonesCard(
        name=config.name,
        job="zones",
        description=config.description,
        version=mrisr.__version__,
        **config.card.model_dump(),
        network=config.network,
        pixel_mm=data.pixel_mm,
        window=(data.crop, data.slices),
        slice_spacing=(min(between), max(between)),
        training=first_record(
            config.train,
            cases=(s.case for s in training),
            validation=data.validation,
            slices=sum(len(s.levels) for s in training),
            crop=data.crop,
        ),
    )
