"""RGB pictures: read or refused, turned into a cache, and learnt from by every method in three channels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from mrisr.cli import app
from mrisr.config import CardSettings, Config, DataSettings, load_config
from mrisr.core.errors import InputError, UsageError
from mrisr.core.options import Sampling
from mrisr.core.statistics import seeded
from mrisr.data import cache, pairs
from mrisr.data.pictures import find_pictures, levels_of, prepare_pictures, read_picture
from mrisr.models.store import load_model
from mrisr.networks import build_network
from mrisr.physics.separable import CONDITION
from mrisr.restore import model_of, restore
from mrisr.training import train
from mrisr.training.restoration import validate

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "pictures"
SMOKE = CONFIGS / "smoke-rgb.yaml"
SAMPLING = Sampling(device="cpu", precision="fp32")


def waves(rows: int = 60, columns: int = 72, seed: int = 0) -> NDArray[np.uint8]:
    """A picture ``(rows, columns, 3)`` with other stripes in every colour."""
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    turns = ((r * (3 + k) + c * (2 + seed)) / (9 + 2 * k) for k in range(3))
    return np.stack([127.5 + 127.4 * np.sin(t) for t in turns], -1).astype(np.uint8)


def save(path: Path, array: NDArray[Any] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(waves() if array is None else array).save(path, **options)
    return path


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.jpg"])
def test_bytes_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, lossless=True)
    wanted = np.asarray(Image.open(path)) if name == "a.jpg" else waves()
    np.testing.assert_array_equal(read_picture(path), wanted)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize(("orientation", "stored"), [(2, waves()[:, ::-1]), (6, np.rot90(waves()))])
def test_the_cameras_orientation_is_applied_once(
    tmp_path: Path, name: str, orientation: int, stored: NDArray[np.uint8]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / name, np.ascontiguousarray(stored), exif=exif, lossless=True)
    np.testing.assert_array_equal(read_picture(path), waves())


def test_grey_palettes_opaque_alpha_and_the_first_of_a_phone_become_rgb(tmp_path: Path) -> None:
    grey = waves()[..., 0]
    found = read_picture(save(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(found, np.stack([grey] * 3, -1))
    opaque = np.concatenate([waves(), np.full((*grey.shape, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.png", opaque)), waves())
    palette = Image.fromarray(waves()).quantize(32)
    palette.save(tmp_path / "palette.png")
    found = read_picture(tmp_path / "palette.png")
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))
    first, second = (Image.fromarray(waves(seed=s)) for s in (0, 1))
    first.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "alone.jpg")
    two, alone = (read_picture(tmp_path / f"{name}.jpg") for name in ("two", "alone"))
    np.testing.assert_array_equal(two, alone)


def deep(path: Path) -> None:
    """RGB of 16 bits, as PNG or TIFF by the name."""
    rgb = sitk.GetImageFromArray(waves().astype(np.uint16) * 257, isVector=True)
    sitk.WriteImage(rgb, str(path))


def translucent(path: Path) -> None:
    alpha = np.full((60, 72, 1), 254, np.uint8)
    save(path, np.concatenate([waves(), alpha], -1))


def paged(path: Path) -> None:
    first, second = (Image.fromarray(waves(seed=s)) for s in (0, 1))
    first.save(path, save_all=True, append_images=[second])


IMAGE = Image.fromarray(waves())


@pytest.mark.parametrize(
    ("name", "write", "word"),
    [
        ("a.png", deep, "8 bits"),
        ("a.tif", deep, "8 bits"),
        ("a.png", lambda p: save(p, waves()[..., 0].astype(np.uint16) * 257), "8 bits"),
        ("a.png", translucent, "transparent pixels"),
        ("a.png", lambda p: IMAGE.quantize(32).save(p, transparency=0), "transparent pixels"),
        ("a.jpg", lambda p: IMAGE.convert("CMYK").save(p), "mode CMYK"),
        ("a.tif", paged, "2 pages"),
        ("a.png", paged, "2 pages"),
        ("a.png", lambda p: save(p, waves()[:15]), "72 x 15"),
        ("a.png", lambda p: IMAGE.save(p, "GIF"), "something else"),
        ("a.png", lambda p: p.write_text("not a picture"), "something else"),
        ("a.png", lambda p: None, "No such file"),
    ],
)
def test_refused_in_one_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], word: str
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(InputError, match=word) as refusal:
        read_picture(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_damaged_pictures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = save(tmp_path / name)
    whole = path.read_bytes()
    damaged = [whole[: int(share * len(whole))] for share in (0.2, 0.5, 0.9)]
    if name == "a.png":  # the one with checksums
        places = range(40, len(whole) - 20, len(whole) // 20)
        damaged += [whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :] for i in places]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_picture(path)
    path.write_bytes(whole)
    for limit in (72 * 60 - 1, 72 * 60 // 3):  # Pillow warns above it and raises above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match="decompression bomb"):
            read_picture(path)


def test_edge_and_crop(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", waves(60, 90))
    assert read_picture(path, edge=30).shape == (30, 45, 3)
    np.testing.assert_array_equal(read_picture(path, crop=40), waves(60, 90)[10:50, 25:65])
    assert read_picture(path, edge=30, crop=30).shape == (30, 30, 3)
    assert read_picture(path, crop=70).shape == (60, 70, 3)
    with pytest.raises(InputError, match="90 x 60"):
        read_picture(path, edge=61)


# --- the cache ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in folders and beside them, and files that are none."""
    data = tmp_path / "pictures"
    save(data / "val" / "deep" / "a.PNG")
    save(data / "val" / "a.png", waves(50, 40, seed=1))
    save(data / "train" / "b.jpg", waves(seed=2))
    save(data / "alone.bmp", waves(seed=3))
    save(data / ".hidden" / "c.png")
    (data / "train" / "notes.txt").write_text("not a picture")
    return data


def test_pictures_to_a_cache(folder: Path, tmp_path: Path) -> None:
    assert prepare_pictures(folder, tmp_path / "cache") == []
    stacks = {(s.case, s.series): s for s in cache.read_stacks(tmp_path / "cache")}
    assert list(stacks) == [("alone", "alone"), ("train", "b"), ("val", "a"), ("val", "a-2")]
    stack = stacks["val", "a"]
    assert (stack.plane, stack.spacing, stack.channels) == ("picture", None, 3)
    assert stack.levels.shape == (1, 3, 50, 40)
    back = np.rint(stack.levels[0] * (255 / cache.LEVELS))
    np.testing.assert_array_equal(np.moveaxis(back, 0, -1), waves(50, 40, seed=1))
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    assert index["format"] == 2
    assert all(len(entry["source_sha256"]) == 64 for entry in index["series"])


def test_prepare_command(folder: Path, tmp_path: Path) -> None:
    def run(name: str, *options: object) -> tuple[int, str]:
        arguments = ["prepare", "--data", folder, "--output", tmp_path / name, *options]
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return result.exit_code, result.stderr

    (folder / "train" / "b.jpg").write_bytes(b"broken")
    code, said = run("a", "--pictures", "--edge", 48, "--crop", 32)
    assert (code, "2 pictures left out" in said) == (8, True)
    assert "found 40 x 50" in said
    assert {s.levels.shape for s in cache.read_stacks(tmp_path / "a")} == {(1, 3, 32, 32)}
    with pytest.raises(InputError, match="4 refused"):
        prepare_pictures(folder, tmp_path / "b", edge=70)
    with pytest.raises(InputError, match="found none"):
        find_pictures(folder / "train" / "notes.txt")
    assert run("b", "--edge", 48)[0] == 1  # of volumes there is nothing to reduce
    assert not (tmp_path / "b").exists()


# --- crops, pairs, validation ---------------------------------------------------------------------


def picture_stack(seed: int = 0, size: tuple[int, int] = (60, 72)) -> cache.Stack:
    return cache.Stack(f"p{seed}", "a", "picture", None, levels_of(waves(*size, seed=seed)))


def picture_settings(**changes: Any) -> DataSettings:
    degradations = [{"kind": "bicubic", "factors": [2, 4]}]
    content = {"planes": {"picture": 1.0}, "crop": 32, "margin": 4, "degradations": degradations}
    return DataSettings.model_validate(content | changes)


def test_crops_keep_colours_together_and_the_sky_above() -> None:
    r, c = np.meshgrid(np.arange(60), np.arange(72), indexing="ij")
    place = levels_of(np.stack([r, c, r + c], -1).astype(np.uint8))
    crops = pairs.Crops([picture_stack()._replace(levels=place)], picture_settings(), "inplane")
    found = crops.draw(30, seeded("cpu", 0))
    assert (found.shape, found.dtype) == ((30, 3, 40, 40), torch.int16)
    rows, columns, both = (found.float() * (255 / cache.LEVELS)).round().unbind(1)
    assert torch.equal(rows + columns, both)
    assert (rows.diff(dim=1) == 1).all()
    steps = columns.diff(dim=2)
    assert {int(s[0, 0]) for s in steps} == {1, -1}
    assert (steps == steps[:, :1, :1]).all()


def test_each_colour_is_degraded_as_an_image_of_one_channel() -> None:
    crops = pairs.Crops([picture_stack(size=(20, 90))], picture_settings(), "inplane")
    crop = crops.draw(4, seeded("cpu", 0))
    assert torch.equal(crop[:, :, :20], crop[:, :, 20:].flip(2))  # mirrored to size
    draws = [pairs.Drawn("bicubic", 2.0), pairs.Drawn("bicubic", 4.0, blur_sigma=0.7)]
    pair = pairs.make_pairs(crop, draws, "inplane", 4)
    assert [m.y.shape for m in pair.measured] == [(2, 3, 20, 20), (2, 3, 10, 10)]
    for colour in range(3):
        alone = pairs.make_pairs(crop[:, colour : colour + 1], draws, "inplane", 4)
        assert torch.equal(alone.x_high[:, 0], pair.x_high[:, colour])
        torch.testing.assert_close(alone.x_low[:, 0], pair.x_low[:, colour], rtol=0, atol=1e-6)


def test_pictures_and_volumes_do_not_mix() -> None:
    volume = picture_stack()._replace(levels=np.zeros((4, 60, 60), np.int16))
    with pytest.raises(ValueError, match="of 1 and of 3 channels"):
        pairs.Crops([picture_stack(), volume], picture_settings(), "inplane")
    for change in ({"planes": {"picture": 1.0, "axial": 1.0}}, {"pixel_mm": 0.5}):
        with pytest.raises(ValueError, match="pictures"):
            picture_settings(**change)


def test_validation_on_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mrisr.training.restoration.MOST_PICTURES", 2)
    config = load_config(SMOKE)
    assert isinstance(config, Config)
    sizes = [(60, 72), (33, 33), (40, 30), (34, 34)]  # of these four the first and the third
    stacks = [picture_stack(seed, size) for seed, size in enumerate(sizes)]
    figures, examples = validate(load_model("lanczos"), stacks, config)
    assert 0 < figures["x4_ssim"] < figures["x2_ssim"] < 1
    assert [e.reference.shape for e in examples] == [(60, 72, 3)] * 2 + [(40, 30, 3)] * 2


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of one picture, in training and, under another name, held out."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("train", "held-out"):
        save(folder / "data" / name / "a.png", waves(48, 56))
    prepare_pictures(folder / "data", folder / "cache")
    return folder / "cache"


SHORT = {"iterations": 2, "validate_every": 2}
LIIF = {"type": "liif", "channels": 3, "width": 8, "blocks": 1, "hidden": 8}
UNET = {"type": "unet", "channels": 3, "width": 8, "multipliers": (1, 2), "blocks": 1}
UNET |= {"channels_per_group": 4, "attention_levels": (1,)}


def learning(method: str, **changes: Any) -> Config:
    """The smoke configuration of a method; ``changes`` to its mappings are merged."""
    config = load_config(SMOKE)
    content = config.model_dump() | {"method": method}
    content["data"] |= {"validation": ("held-out",)}
    content["data"] |= {"degradations": [{"kind": "bicubic", "factors": [4]}]}
    for key, value in ({"train": SHORT} | changes).items():
        merged = isinstance(content[key], dict) and "type" not in value
        content[key] = content[key] | value if merged else value
    return Config.model_validate(content)


def test_a_fresh_network_learns_one_picture(one_picture: Path, tmp_path: Path) -> None:
    """It returns the interpolated picture at first: every dB above it was learned."""
    longer = {"iterations": 60, "lr": 5e-3, "lr_final": 0.0, "validate_every": 60}
    config = learning("diffusion", network={"width": 24}, train=longer)
    train(config, one_picture, tmp_path, device="cpu")
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["x4_gain"] > 0.5


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("diffusion", {"network": UNET}),
        ("regression", {"train": SHORT | {"adversarial": {"after": 0.0, "width": 8}}}),
        ("implicit", {"network": LIIF, "data": {"crop": 48}}),
        ("inversion", {"diffusion": {"loss": "l2"}}),
    ],
)
def test_every_method_trains_on_pictures(
    one_picture: Path, tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    if method == "inversion":
        from_noise = {"path": "plain", "prediction": "noise", "from_noise": True, "start": 0.1}
        sr3 = learning("diffusion", diffusion=from_noise)
        card = train(sr3, one_picture, tmp_path / "sr3", device="cpu")
        changes = changes | {"inversion": {"denoiser": str(card)}}
    card = train(learning(method, **changes), one_picture, tmp_path / "run", device="cpu")
    drawn = pairs.Drawn("bicubic", 4.0)
    measurement = pairs.measurement_of(torch.zeros(2, 3, 48, 56), "inplane", drawn)
    for model in (load_model(card), load_model("lanczos")):
        assert restore(measurement, model, SAMPLING).stack.shape == (2, 3, 48, 56)
    with pytest.raises(UsageError, match="of 1 channel, found one of 3"):
        model_of(Sampling(model=str(card)), "inplane")


def test_channels_that_do_not_fit_are_one_line(
    one_picture: Path, tmp_path: Path, models: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"network\.channels = 1 channels, found slices of 3"):
        train(learning("diffusion", network={"channels": 1}), one_picture, run)
    with pytest.raises(InputError, match="no training slices in the planes axial"):
        train(load_config(ROOT / "configs" / "smoke.yaml"), one_picture, run)
    denoiser = {"denoiser": str(models / "partdiff-inplane.json")}
    with pytest.raises(UsageError, match="of 3 channels, found partdiff-inplane of 1"):
        train(learning("inversion", inversion=denoiser), one_picture, run, device="cpu")


# --- configurations -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rgb-faces-16-128", "rgb-faces-64-512", "rgb-natural-64-256"])
def test_published_configurations_build(name: str) -> None:
    """Built without memory; the file states the number of parameters, in millions."""
    config = load_config(CONFIGS / f"{name}.yaml")
    assert isinstance(config, Config)
    assert (config.name, config.network.channels) == (name, 3)
    assert list(config.data.planes) == ["picture"]
    with torch.device("meta"):
        network = build_network(config.network, CONDITION)
    millions = round(sum(p.numel() for p in network.parameters()) / 1e6)
    assert f"{millions} M parameters" in (CONFIGS / f"{name}.yaml").read_text()


def test_the_configuration_of_the_guide_loads(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "how-to" / "train-on-pictures.md").read_text(encoding="utf-8")
    content = guide.split("```yaml\n")[1].split("```")[0]
    file = tmp_path / "my-pictures.yaml"
    file.write_text(content.replace("base: ", f"base: {ROOT / 'configs'}/"), encoding="utf-8")
    config = load_config(file)
    assert isinstance(config, Config)
    assert (config.network.channels, config.data.planes) == (3, {"picture": 1.0})
    assert (config.data.validation, config.card) == (("val",), CardSettings())
