"""Two networks, shared out by the level of the noise."""

import torch

from mrisr.config import UnshuffleSettings
from mrisr.core.statistics import seeded
from mrisr.networks import build_network
from mrisr.networks.unshuffle import NOISY, ByNoise
from mrisr.physics.noise import told


def network() -> ByNoise:
    found = build_network(UnshuffleSettings(width=8, blocks=1, by_noise=True), 8)
    assert isinstance(found, ByNoise)
    for i, parameter in enumerate(found.parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=seeded("cpu", i))
    return found.eval().requires_grad_(False)


def test_each_network_answers_for_its_noise_and_between_them_both() -> None:
    net = network()
    x = torch.randn(1, 1, 16, 16, generator=seeded("cpu", 1))
    g, kind = torch.ones(1), torch.ones(1, 7)

    def answer(level: float) -> torch.Tensor:
        return torch.as_tensor(net(x, x, g, torch.cat([kind, told(level)[None, None]], 1)))

    assert torch.equal(answer(0.0), net.quiet(x, x, g, kind))
    for level in (NOISY, 0.05):
        condition = torch.cat([kind, told(level)[None, None]], 1)
        assert torch.equal(answer(level), net.noisy(x, x, g, condition))
    quiet, between, noisy = (answer(level) for level in (0.0, NOISY / 4, NOISY))
    assert not torch.allclose(quiet, noisy, atol=1e-3)
    assert float((between - quiet).abs().max()) < float((noisy - quiet).abs().max())


def test_images_of_different_noise_share_a_batch() -> None:
    net = network()
    x = torch.randn(2, 1, 16, 16, generator=seeded("cpu", 1))
    levels = told(torch.tensor([0.0, 0.03]))[:, None]
    condition = torch.cat([torch.ones(2, 7), levels], 1)
    both = net(x, x, torch.ones(2), condition)
    for i in range(2):
        one = net(x[i : i + 1], x[i : i + 1], torch.ones(1), condition[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], one, rtol=1e-4, atol=1e-5)
