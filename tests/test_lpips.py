"""LPIPS with weights made up on the disk, against what its definition says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mrisr.core.errors import InputError
from mrisr.metrics import Lpips, load_lpips


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, own in Lpips().state_dict().items():
        made[name] = torch.randn(own.shape, generator=generator) * 0.05
        if name.startswith("lin"):
            made[name] = made[name].abs()
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = weights()
    torch.save({k: v for k, v in made.items() if k[0] == "f"}, tmp_path / "alexnet.pth")
    save_file({k: v for k, v in made.items() if k[0] == "l"}, tmp_path / "linear.safetensors")
    monkeypatch.setenv("MRISR_LPIPS", str(tmp_path))
    return tmp_path


def test_none_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MRISR_LPIPS", raising=False)
    assert load_lpips() is None
    monkeypatch.setenv("MRISR_LPIPS", str(tmp_path))
    with pytest.raises(InputError, match=r"features\.0\.weight.*none"):
        load_lpips()


def test_damaged_weights_are_refused(folder: Path) -> None:
    (folder / "alexnet.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"alexnet\.pth"):
        load_lpips()


def test_a_distance(folder: Path) -> None:
    lpips = load_lpips()
    assert lpips is not None
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(3, 1, 64, 64, generator=generator)
    near = (x + 0.02 * torch.rand_like(x)).clamp(0, 1)
    far = torch.rand(x.shape, generator=generator)
    torch.testing.assert_close(lpips(x, x), torch.zeros(3))
    assert bool((lpips(near, x) < lpips(far, x)).all())
    torch.testing.assert_close(lpips(far, x), lpips(x, far))
    one = torch.cat([lpips(far[k : k + 1], x[k : k + 1]) for k in range(3)])
    torch.testing.assert_close(lpips(far, x), one)


def test_it_is_linear_in_the_last_layers_and_knows_its_files(folder: Path) -> None:
    x = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    lpips = load_lpips()
    assert lpips is not None
    before = lpips(x, 1 - x)
    doubled = {k: 2 * v for k, v in weights().items() if k[0] == "l"}
    save_file(doubled, folder / "linear.safetensors")
    again = load_lpips()
    assert again is not None
    torch.testing.assert_close(again(x, 1 - x), 2 * before)
    assert again.digest != lpips.digest
