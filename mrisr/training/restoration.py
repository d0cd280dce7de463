"""Training of a model that restores: any method but interpolation, with or without a critic."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from mrisr.config import AdversarialSettings, Config
from mrisr.core.errors import InputError
from mrisr.data import cache, pairs
from mrisr.methods import build_restorer
from mrisr.methods.base import Restorer
from mrisr.methods.inversion import InversionRestorer
from mrisr.models.card import ModelCard
from mrisr.models.store import Model, load_model
from mrisr.networks import channels_last
from mrisr.networks.critic import Critic
from mrisr.training.bookkeeping import State, fingerprint, frozen_model, new_card
from mrisr.training.loop import CROPS, DEVICE, Trainee, per_process, pinned, take_weights
from mrisr.training.validation import validate, write_examples


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
        super().__init__(
            config.train,
            output,
            fabric,
            module=restorer,
            network=restorer.network,
            fingerprint=fingerprint(config),
        )
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
        draws = [pairs.draw_degradation(data, generator) for _ in range(data.groups)]
        return Batch(pinned(self.crops.draw(self.share, generator)), draws)

    def loss(self, batch: Batch, step: int, share: float) -> Tensor:
        """Compute the method's objective on the batch's pairs, which are made on the device."""
        device, bf16 = self.fabric.device, self.settings.precision == "bf16"
        crops = batch.crops.to(device, non_blocking=True)
        pair = pairs.make_pairs(crops, batch.draws, self.config.job, self.config.data.margin)
        generator = self.generator(step, DEVICE)
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
        take_weights(restorer.network, model.restorer.network, model.card.name)
    if frozen is not None:
        assert isinstance(restorer, InversionRestorer)
        restorer.denoiser.network.load_state_dict(frozen.restorer.network.state_dict())
    return channels_last(restorer)
