"""Training of a model that restores, its validation, and the critic of adversarial training."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mrisr import metrics
from mrisr.config import AdversarialSettings, Config
from mrisr.core.errors import InputError
from mrisr.core.options import Sampling
from mrisr.data import cache, pairs
from mrisr.methods import build_restorer
from mrisr.methods.base import Restorer
from mrisr.methods.diffusion import InversionRestorer
from mrisr.models.card import ModelCard
from mrisr.models.store import Model, load_model
from mrisr.networks import channels_last
from mrisr.networks.unshuffle import ByNoise
from mrisr.physics.noise import TYPICAL
from mrisr.restore import restore
from mrisr.training.bookkeeping import State, frozen_model, new_card
from mrisr.training.figures import Example, write_examples
from mrisr.training.finetune import take_weights
from mrisr.training.loop import CROPS, DEVICE, Trainee, per_process, pinned


class Critic(nn.Module):
    """Discriminator of patches (Isola et al. 2017), spectrally normalised (Miyato et al. 2018).

    SRGAN's discriminator in reduced size, made to judge patches so that crops of any size serve.
    ``(b, c, h, w)`` to logits ``(b, 1, h / 16, w / 16)`` and the features of every layer.
    """

    def __init__(self, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, width, 2 * width, 2 * width, 4 * width, 4 * width]
        strides = [2, 2, 1, 2, 1, 2]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 3, stride, padding=1))
            for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.last = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


#: Figures of validation: its name in the log, that of its gain over interpolation, and the metric.
MEASURES = (("psnr", "gain", metrics.psnr), ("ssim", "ssim_gain", metrics.ssim))
#: Pictures that figures are computed on (of more, some spread over all), and rows of the example picture.
MOST_PICTURES = 64
MOST_EXAMPLES = 16


def _drawn(config: Config, images: int) -> list[tuple[pairs.Drawn, str]]:
    """The exact factors of the first degradation kind, without blur: what the figures are quoted for. Where
    the network is told of noise, without and with noise of a scan's level."""
    first = config.data.degradations[0]
    factors = first.factors or (first.range[0], first.range[1])
    clean = [(pairs.Drawn(first.kind, f), f"x{f:g}") for f in dict.fromkeys(factors)]
    if not config.data.noise:
        return clean
    level = (TYPICAL,) * images
    return clean + [(d._replace(noise=level), f"{label}_noisy") for d, label in clean]


def validation_planes(config: Config) -> list[str]:
    """Planes of validation: axial slices for in-plane models, coronal ones for through-plane models, and
    pictures for those that learn from them."""
    if "picture" in config.data.planes:
        return ["picture"]
    return ["axial"] if config.job == "inplane" else ["coronal"]


def validate(
    model: Model,
    stacks: Sequence[cache.Stack],
    config: Config,
    slices: int = 8,
    device: str = "auto",
) -> tuple[dict[str, float], list[Example]]:
    """PSNR and SSIM per factor, and their gains over interpolation, averaged over patients.

    ``slices`` central slices of every validation stack are restored at full size (cropped to 320).
    Of pictures at most 64 are, spread evenly over all.
    """
    steps = model.restorer.quick_steps if "steps" in model.restorer.options else None
    sampling = Sampling(steps=steps, device=device, precision="fp32")
    rows: dict[str, list[float]] = {}
    examples = []
    for _, stack_images in pairs.validation_images(_some(stacks), validation_planes(config)):
        first = max(0, (len(stack_images) - slices) // 2)
        x_high = stack_images[first : first + slices]
        reference = (x_high + 1) / 2
        for drawn, label in _drawn(config, len(x_high)):
            measurement = pairs.measurement_of(x_high, config.job, drawn)
            found = restore(measurement, model, sampling).stack
            both = (pairs.as_images(measurement, x) for x in (measurement.interpolated(), found))
            base, result = ((x + 1).div(2).clamp(0, 1) for x in both)
            for name, gain, metric in MEASURES:
                value, before = metric(result, reference), metric(base, reference)
                for key, figure in ((name, value), (gain, value - before)):
                    rows.setdefault(f"{label}_{key}", []).append(float(figure.mean()))
            middle = len(x_high) // 2
            examples.append(Example(*(_shown(x[middle]) for x in (base, result, reference))))
    return {k: float(np.mean(v)) for k, v in rows.items()}, examples[:MOST_EXAMPLES]


def _some(stacks: Sequence[cache.Stack]) -> Sequence[cache.Stack]:
    """The stacks, but of pictures no more than are needed for a figure."""
    if len(stacks) <= MOST_PICTURES or stacks[0].channels == 1:
        return stacks
    return [stacks[i * len(stacks) // MOST_PICTURES] for i in range(MOST_PICTURES)]


def _shown(image: Tensor) -> Tensor:
    """An image ``(c, h, w)`` as it is drawn: its one channel, or the colours last."""
    return (image[0] if len(image) == 1 else image.movedim(0, -1)).cpu()


class Batch(NamedTuple):
    """Batch that the CPU sends to the device: integer crops and how they are to be degraded."""

    crops: Tensor
    draws: list[pairs.Drawn]


class Adversary:
    """Critic with its optimiser (SRGAN: Ledig et al. 2017, eq. 3 and 6).

    Instead of VGG's features, which need weights from elsewhere, the perceptual term compares the critic's
    own (feature matching, Wang et al. 2018).

    Args:
        settings: weights, size, and when the terms begin.
        channels: image channels.
        fabric: launched.
    """

    def __init__(self, settings: AdversarialSettings, channels: int, fabric: Fabric) -> None:
        self.settings = settings
        self.critic = channels_last(Critic(channels, settings.width))
        optimizer = torch.optim.AdamW(self.critic.parameters(), settings.lr, (0.5, 0.99))
        self.module, self.optimizer = fabric.setup(self.critic, optimizer)
        self.fabric = fabric

    def term(self, restored: Tensor, x_high: Tensor, share_done: float) -> Tensor:
        """Compute the loss's terms for restored images ``(b, c, h, w)``; zero early in the run."""
        s = self.settings
        if share_done < s.after:
            return restored.new_zeros(())
        self.critic.requires_grad_(False)
        logits, features = self.critic(restored)
        total = s.weight * F.softplus(-logits).mean()
        if s.features:
            with torch.no_grad():
                wanted = self.critic(x_high)[1]
            distances = [F.l1_loss(a, b) for a, b in zip(features, wanted, strict=True)]
            total = total + s.features * torch.stack(distances).mean()
        self.critic.requires_grad_(True)
        return total

    def learn(self, restored: Tensor, x_high: Tensor, *, bf16: bool) -> None:
        """Step the critic: real images up, restored ones down."""
        device = self.fabric.device.type
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            logits, _ = self.module(torch.cat([x_high, restored.detach()]))
            real, made = logits.chunk(2)
            loss = F.softplus(-real).mean() + F.softplus(made).mean()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class Restoration(Trainee[Batch]):
    """Restorer in training.

    Args:
        config, data, output: as for :func:`mrisr.training.train`.
        fabric: launched.
    """

    card: ModelCard

    def __init__(self, config: Config, data: Path, output: Path, fabric: Fabric) -> None:
        self.share = per_process(config.train.batch, fabric.world_size, config.data.groups)
        self.config = config
        training, self.held_out = pairs.split(cache.read_stacks(data), config.data)
        self.validates = bool(self.held_out)
        self.crops = _crops(training, config, data)
        torch.manual_seed(config.train.seed)
        frozen = frozen_model(config)
        self.card = new_card(config, training, frozen)
        restorer = _initialised(config, build_restorer(self.card, self.card.condition), frozen)
        super().__init__(config, output, fabric, module=restorer, network=restorer.network)
        self.module.mark_forward_method("objective")
        self.adversary = None
        if config.train.adversarial is not None:
            self.adversary = Adversary(config.train.adversarial, config.network.channels, fabric)

    @property
    def state(self) -> State:
        """Tensors of a checkpoint."""
        state = super().state
        if self.adversary is not None:
            state.modules["critic"] = self.adversary.critic
            state.optimizers["critic_optimizer"] = self.adversary.optimizer
        return state

    def draw(self, step: int) -> Batch:
        """Draw integer crops and how they are to be degraded."""
        generator = self.generator(step, CROPS)
        data = self.config.data
        each = self.share // data.groups
        draws = [pairs.draw_degradation(data, each, generator) for _ in range(data.groups)]
        return Batch(pinned(self.crops.draw(self.share, generator)), draws)

    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Compute the method's objective on the batch's pairs, which are made on the device."""
        device, bf16 = self.fabric.device, self.settings.precision == "bf16"
        crops = batch.crops.to(device, non_blocking=True)
        generator = self.generator(step, DEVICE)
        data = self.config.data
        pair = pairs.make_pairs(crops, batch.draws, self.config.job, data.margin, generator)
        # Autocast here, not by Fabric: its mixed precision would round the images themselves to bf16.
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss: Tensor
            loss, restored = self.module.objective(pair, generator)
            if self.adversary is not None:
                loss = loss + self.adversary.term(restored, pair.x_high, share)
                self._seen = restored.detach(), pair.x_high
        return loss

    def after_step(self) -> None:
        """Step the critic on the images that the loss has just seen."""
        if self.adversary is not None:
            restored, x_high = self._seen
            self.adversary.learn(restored, x_high, bf16=self.settings.precision == "bf16")

    def validate(self) -> dict[str, float]:
        """Compute figures of the averaged weights on the held-out patients; write the example picture."""
        assert self.output is not None
        averaged = build_restorer(self.card, self.card.condition)
        averaged.network.load_state_dict(self.ema)
        model = Model(self.card, averaged.eval(), self.output)
        device = str(self.fabric.device)
        rows, examples = validate(model, self.held_out, self.config, device=device)
        write_examples(self.output / "examples" / f"{self.progress.step:07d}.png", examples)
        return rows


def _crops(training: list[cache.Stack], config: Config, data: Path) -> pairs.Crops:
    """Prepare the drawing of crops. Raises InputError unless there are slices of the network's channels."""
    try:
        crops = pairs.Crops(training, config.data, config.job)
    except ValueError as error:
        raise InputError(data, expected=f"slices for {config.name}", found=str(error)) from error
    found, wanted = crops.channels, config.network.channels
    if found != wanted:
        raise InputError(
            data, expected=f"network.channels = {wanted} channels", found=f"slices of {found}"
        )
    return crops


def _initialised(config: Config, restorer: Restorer, frozen: Model | None) -> Restorer:
    """Give a restorer the weights that it starts from."""
    if config.train.initialize:
        model = load_model(config.train.initialize)
        source = model.restorer.network
        if isinstance(source, ByNoise) and not isinstance(restorer.network, ByNoise):
            source = source.noisy if config.data.noise else source.quiet
        take_weights(restorer.network, source, model.card.name)
    if frozen is not None:
        assert isinstance(restorer, InversionRestorer)
        restorer.denoiser.network.load_state_dict(frozen.restorer.network.state_dict())
    return channels_last(restorer)
