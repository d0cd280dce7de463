"""Networks: shapes, gradients, how far they see, and what one evaluation costs."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mrisr.config import UNetSettings, UnshuffleSettings
from mrisr.networks import build_network
from mrisr.networks.unet import UNet
from mrisr.networks.unshuffle import NoiseScaleEmbedding, UnshuffleResNet
from mrisr.physics.separable import CONDITION

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
SMALL = [
    pytest.param(UnshuffleSettings(width=16, blocks=2), id="unshuffle"),
    pytest.param(UnshuffleSettings(width=8, blocks=1, fold=1), id="unshuffle without folding"),
    pytest.param(UnshuffleSettings(channels=2, width=8, blocks=1, fold=2), id="two channels"),
    pytest.param(
        UNetSettings(type="unet", width=16, multipliers=(1, 2, 2), blocks=1, channels_per_group=8),
        id="unet",
    ),
    pytest.param(
        UNetSettings(
            type="unet",
            width=16,
            multipliers=(1, 2),
            blocks=2,
            channels_per_group=8,
            attention_levels=(1,),
            dropout=0.1,
        ),
        id="unet with attention",
    ),
]


def inputs(size: tuple[int, int], batch: int = 2, channels: int = 1, seed: int = 0) -> Inputs:
    """x_t, x_low, g and condition."""
    generator = torch.Generator().manual_seed(seed)
    x_t, x_low = torch.randn(2, batch, channels, *size, generator=generator)
    g = torch.linspace(0.25, 1.0, batch)
    return x_t, x_low, g, torch.randn(batch, CONDITION, generator=generator)


def stirred(network: nn.Module) -> nn.Module:
    """The network with random weights everywhere, also where it starts at zero; evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5)
    return network.eval()


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> tuple[nn.Module, int]:
    """A small network of each kind, stirred, and its channels."""
    return stirred(build_network(request.param, CONDITION)), request.param.channels


@pytest.mark.parametrize("size", [(32, 32), (37, 45), (5, 18), (1, 1)])
def test_any_size(small: tuple[nn.Module, int], size: tuple[int, int]) -> None:
    network, channels = small
    x = inputs(size, channels=channels)
    with torch.no_grad():
        out = network(*x)
    assert out.shape == x[0].shape
    assert out.dtype == torch.float32
    assert bool(out.isfinite().all())


def test_every_parameter_gets_a_gradient(small: tuple[nn.Module, int]) -> None:
    network, channels = small
    network(*inputs((24, 24), channels=channels)).square().mean().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert float(p.grad.abs().sum()) > 0, name


def test_every_input_matters(small: tuple[nn.Module, int]) -> None:
    network, channels = small
    x = inputs((24, 24), channels=channels)
    with torch.no_grad():
        out = network(*x)
        for i in range(4):
            changed = list(x)
            changed[i] = changed[i] * 0.7
            assert float((network(*changed) - out).abs().max()) > 1e-5, i


def test_images_of_a_batch_do_not_mix(small: tuple[nn.Module, int]) -> None:
    network, channels = small
    x = inputs((24, 20), batch=3, channels=channels)
    with torch.no_grad():
        together = network(*x)
        for i in range(3):
            alone = network(*(v[i : i + 1] for v in x))
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_mixed_precision_stays_close(small: tuple[nn.Module, int]) -> None:
    network, channels = small
    x = inputs((16, 16), channels=channels)
    with torch.no_grad():
        exact = network(*x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(*x)
    assert mixed.dtype == torch.float32
    assert float((mixed - exact).std()) < 0.05 * float(exact.std())


# --- the default network --------------------------------------------------------------------------


def test_a_fresh_network_returns_x_low() -> None:
    x = inputs((37, 45))
    with torch.no_grad():
        out = UnshuffleResNet(width=16, blocks=2)(*x)
    assert torch.equal(out, x[1])


def test_far_pixels_do_not_matter() -> None:
    """Two blocks see 27 pixels: changes beyond leave the answer as it was; near ones do not."""
    network = stirred(UnshuffleResNet(width=16, blocks=2, fold=4))
    reach = (2 * 2 + 2) * 4 + 3
    x = inputs((96, 96), batch=1)
    changed = [v.clone() for v in x]
    for image in changed[:2]:
        image[..., 48:, :] += 5.0
    with torch.no_grad():
        difference = (network(*changed) - network(*x)).abs()
    assert float(difference[..., : 48 - reach, :].max()) < 1e-5
    assert float(difference[..., 47, :].max()) > 1e-3


def test_the_default_network_is_small_and_cheap() -> None:
    """At most 0.4 MFLOP per output pixel, 5 M parameters and 10 MB as released."""
    with torch.device("meta"):
        network = build_network(UnshuffleSettings(), CONDITION)
        x = inputs_on_meta((128, 128))
        with FlopCounterMode(display=False) as counter:
            network(*x)
    assert counter.get_total_flops() / 128**2 <= 0.4e6
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters <= 5e6
    assert 4 * parameters <= 10e6


def inputs_on_meta(size: tuple[int, int]) -> Inputs:
    image = torch.zeros(1, 1, *size, device="meta")
    return image, image, torch.ones(1, device="meta"), torch.zeros(1, CONDITION, device="meta")


# --- the published network ------------------------------------------------------------------------


def test_the_published_network_is_large() -> None:
    """Table 1's MRI configuration: near 150 M parameters and near 1 TFLOP for one 320x320 image."""
    with torch.device("meta"):
        network = build_network(UNetSettings(type="unet"), CONDITION)
        with FlopCounterMode(display=False) as counter:
            out = network(*inputs_on_meta((320, 320)))
    assert out.shape == (1, 1, 320, 320)
    assert 1.2e8 < sum(p.numel() for p in network.parameters()) < 1.8e8
    assert 0.7e12 < counter.get_total_flops() < 1.4e12


def test_groups_hold_the_published_number_of_channels() -> None:
    with torch.device("meta"):
        network = UNet()
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) > 50
    assert {m.num_channels // m.num_groups for m in norms} == {16}


def test_a_fresh_unet_predicts_zero() -> None:
    network = UNet(width=16, multipliers=(1, 2), blocks=1, channels_per_group=8)
    assert not network(*inputs((9, 12))).any()


@pytest.mark.parametrize(("levels", "modules"), [((), 0), ((0,), 3), ((0, 1), 7), ((1,), 4)])
def test_attention_only_where_asked_for(levels: tuple[int, ...], modules: int) -> None:
    """One block per level: one module on the way down, two up, one at the bottom for the coarsest."""
    network = UNet(
        width=16, multipliers=(1, 2), blocks=1, channels_per_group=8, attention_levels=levels
    )
    assert sum(type(m).__name__ == "SelfAttention" for m in network.modules()) == modules


def test_unet_is_refused_where_groups_do_not_divide() -> None:
    with pytest.raises(ValidationError, match="channels_per_group 16"):
        UNetSettings(type="unet", width=40)


# --- the embedding --------------------------------------------------------------------------------


def test_embedding_tells_noise_scales_and_degradations_apart() -> None:
    embed = NoiseScaleEmbedding(32, CONDITION)
    g = torch.tensor([1e-6, 0.25, 0.26, 0.9, 0.999995, 1.0])
    with torch.no_grad():
        out = embed(g, torch.zeros(6, CONDITION))
        other = embed(g, torch.ones(6, CONDITION))
    assert out.shape == (6, 32)
    assert bool(out.isfinite().all())
    assert float(torch.pdist(out).min()) > 1e-4
    assert float((out - other).abs().max()) > 1e-3
    assert "frequencies" not in embed.state_dict()
