"""The segmenter's network: shapes, gradients, what sees what."""

import pytest
import torch
from pydantic import ValidationError

from mrisr.config import ZonesNetworkSettings
from mrisr.zones.network import CrossSliceUNet

SMALL = ZonesNetworkSettings(widths=(8, 12, 16), attention_levels=(1, 2), heads=2)


def network(settings: ZonesNetworkSettings = SMALL) -> CrossSliceUNet:
    torch.manual_seed(0)
    made = CrossSliceUNet(settings).eval()
    for block in made.across.values():
        torch.nn.init.normal_(block.out.weight, std=0.3)  # as if it had learned something
    return made


def test_every_parameter_gets_a_gradient() -> None:
    made = network().train()
    weights = torch.linspace(0.5, 1.5, 3 * 4 * 32 * 48).reshape(1, 3, 4, 32, 48)
    scores = made(torch.randn(1, 1, 4, 32, 48))
    assert scores.shape == weights.shape
    (scores * weights).square().mean().backward()
    for name, p in made.named_parameters():
        assert p.grad is not None, name
        assert float(p.grad.abs().sum()) > 0, name


def test_slices_see_each_other_and_stacks_do_not() -> None:
    made = network()
    x = torch.randn(2, 1, 5, 32, 32, requires_grad=True)
    made(x)[0, :, 2].square().sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((1, 3, 4))
    assert bool((seen[0] > 0).all())
    assert float(seen[1].sum()) == 0


def test_without_attention_a_slice_stands_alone() -> None:
    made = network(ZonesNetworkSettings(widths=(8, 12), attention_levels=()))
    x = torch.randn(1, 1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(made(x[:, :, 1:2]), made(x)[:, :, 1:2], atol=1e-5, rtol=1e-5)


def test_the_released_size() -> None:
    settings = ZonesNetworkSettings()
    count = sum(p.numel() for p in CrossSliceUNet(settings).parameters())
    assert settings.multiple == 16
    assert 1.0e6 < count < 1.4e6


@pytest.mark.parametrize(
    "wrong", [{"attention_levels": (4,)}, {"heads": 5}, {"widths": (8,)}, {"fold": 0}]
)
def test_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ZonesNetworkSettings.model_validate(wrong)
