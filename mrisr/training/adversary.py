"""Critic of a training run: its terms of the loss, and its own step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from mrisr.config import AdversarialSettings
from mrisr.networks import channels_last
from mrisr.networks.critic import Critic


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
