"""A folder of RGB pictures: read, refused, and turned into a cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from mrisr.cli import main
from mrisr.core.errors import InputError, UsageError
from mrisr.data import cache
from mrisr.data.phantom import phantom
from mrisr.data.pictures import read_picture
from mrisr.data.prepare import prepare, prepare_pictures
from mrisr.data.sources import find_picture_sources
from mrisr.io import write_volume

ORIENTATION = 0x0112


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


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.webp", {"lossless": True})],
)
def test_bytes_come_back(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    found = read_picture(save(tmp_path / name, **options))
    np.testing.assert_array_equal(found.rgb, waves())


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(read_picture(path).rgb, np.asarray(Image.open(path)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_the_cameras_orientation_is_applied_once(tmp_path: Path, name: str, turned: int) -> None:
    upright = waves()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[turned]
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    options = {"lossless": True} if name.endswith("webp") else {}
    path = save(tmp_path / name, np.ascontiguousarray(stored), exif=exif, **options)
    np.testing.assert_array_equal(read_picture(path).rgb, upright)


def test_grey_palettes_and_opaque_alpha_become_rgb(tmp_path: Path) -> None:
    grey = waves()[..., 0]
    found = read_picture(save(tmp_path / "grey.png", grey)).rgb
    np.testing.assert_array_equal(found, np.stack([grey] * 3, -1))
    alpha = np.full((*grey.shape, 1), 255, np.uint8)
    opaque = save(tmp_path / "opaque.png", np.concatenate([waves(), alpha], -1))
    np.testing.assert_array_equal(read_picture(opaque).rgb, waves())
    palette = Image.fromarray(waves()).quantize(32)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png").rgb, expected)


def test_the_first_picture_of_a_phone_file(tmp_path: Path) -> None:
    first, second = (Image.fromarray(waves(seed=s)) for s in (0, 1))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    first.save(tmp_path / "alone.jpg", quality=95)
    found, expected = (read_picture(tmp_path / name).rgb for name in ("a.jpg", "alone.jpg"))
    np.testing.assert_array_equal(found, expected)


def write_refused(path: Path, kind: str) -> None:
    """A file that is no opaque 8-bit picture in grey or RGB, of one page and of some size."""
    rgb = waves()
    many = {"save_all": True, "append_images": [Image.fromarray(waves(seed=1))]}
    deep = rgb.astype(np.uint16) * 257
    if kind in ("16-bit PNG", "16-bit TIFF"):
        file = path.with_suffix(".tif" if "TIFF" in kind else ".png")
        sitk.WriteImage(sitk.GetImageFromArray(deep, isVector=True), str(file))
        file.rename(path)
    elif kind == "16-bit grey":
        Image.fromarray(deep[..., 0]).save(path)
    elif kind == "transparent":
        alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
        alpha[5, 6] = 254
        save(path, np.concatenate([rgb, alpha], -1))
    elif kind == "transparent palette":
        Image.fromarray(rgb).quantize(32).save(path, transparency=0)
    elif kind == "CMYK":
        Image.fromarray(rgb).convert("CMYK").save(path, "JPEG")
    elif kind == "pages":
        Image.fromarray(rgb).save(path, "TIFF", **many)
    elif kind == "animation":
        Image.fromarray(rgb).save(path, "PNG", **many)
    elif kind == "small":
        save(path, rgb[:15])
    elif kind == "GIF":
        Image.fromarray(rgb).save(path, "GIF")
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("16-bit PNG", "8 bits"),
        ("16-bit TIFF", "8 bits"),
        ("16-bit grey", "8 bits"),
        ("transparent", "transparent pixels"),
        ("transparent palette", "transparent pixels"),
        ("CMYK", "mode CMYK"),
        ("pages", "2 pages"),
        ("animation", "2 pages"),
        ("small", "72 x 15"),
        ("GIF", "something else"),
        ("text", "something else"),
        ("empty", "something else"),
        ("missing", "No such file"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, kind: str, word: str) -> None:
    path = tmp_path / "a.png"
    write_refused(path, kind)
    with pytest.raises(InputError, match=word) as refusal:
        read_picture(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_truncated_pictures_are_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=name):
            read_picture(path)


def test_a_changed_byte_of_a_png_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    whole = path.read_bytes()
    for place in range(40, len(whole) - 20, len(whole) // 20):
        changed = bytearray(whole)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.png"):
            read_picture(path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png")
    for limit in (
        72 * 60 - 1,
        72 * 60 // 3,
    ):  # Pillow warns above the limit and raises above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match="decompression bomb"):
            read_picture(path)


def test_edge_and_crop(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", waves(60, 90))
    assert read_picture(path, edge=30).rgb.shape == (30, 45, 3)
    np.testing.assert_array_equal(read_picture(path, crop=40).rgb, waves(60, 90)[10:50, 25:65])
    assert read_picture(path, edge=30, crop=30).rgb.shape == (30, 30, 3)
    assert read_picture(path, crop=70).rgb.shape == (60, 70, 3)
    with pytest.raises(InputError, match="90 x 60"):
        read_picture(path, edge=61)
    flat = save(tmp_path / "flat.png", np.full((64, 80, 3), (10, 100, 250), np.uint8))
    assert (read_picture(flat, edge=20).rgb == (10, 100, 250)).all()


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
    save(data / "train" / ".unfinished.png")
    (data / "train" / "notes.txt").write_text("not a picture")
    return data


def test_sources_are_split_by_folder_or_name(folder: Path) -> None:
    found = [(s.case, s.series, s.path.name) for s in find_picture_sources(folder)]
    assert found == [
        ("alone", "alone", "alone.bmp"),
        ("train", "b", "b.jpg"),
        ("val", "a", "a.png"),
        ("val", "a-2", "a.PNG"),
    ]


def test_pictures_to_a_cache(folder: Path, tmp_path: Path) -> None:
    assert prepare_pictures(folder, tmp_path / "cache") == []
    stacks = {(s.case, s.series): s for s in cache.read_stacks(tmp_path / "cache")}
    stack = stacks["val", "a"]
    assert (stack.plane, stack.spacing, stack.channels) == ("picture", None, 3)
    assert stack.levels.shape == (1, 3, 50, 40)
    back = np.rint(stack.levels[0] * (255 / cache.LEVELS))
    np.testing.assert_array_equal(np.moveaxis(back, 0, -1), waves(50, 40, seed=1))
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    assert index["format"] == 2
    assert all(len(entry["source_sha256"]) == 64 for entry in index["series"])


def test_every_byte_has_a_level_of_its_own() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    levels = cache.picture_levels(ramp)
    assert (levels.shape, levels.dtype) == ((1, 3, 16, 16), np.int16)
    assert (levels.min(), levels.max()) == (0, cache.LEVELS)
    assert len(np.unique(levels)) == 256


def test_volumes_keep_their_format(tmp_path: Path) -> None:
    (tmp_path / "data" / "one").mkdir(parents=True)
    write_volume(phantom((24, 20, 4)), tmp_path / "data" / "one" / "t2w.nii.gz")
    prepare(tmp_path / "data", tmp_path / "cache")
    assert json.loads((tmp_path / "cache" / "index.json").read_text())["format"] == 1
    (stack,) = cache.read_stacks(tmp_path / "cache")
    assert (stack.levels.ndim, stack.channels, stack.images.shape) == (3, 1, (4, 1, 20, 24))


def test_what_cannot_be_used_is_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "b.jpg").write_bytes(b"broken")
    lines: list[str] = []
    errors = prepare_pictures(folder, tmp_path / "cache", edge=40, report=lines.append)
    assert len(errors) == 1
    assert "b.jpg" in errors[0]
    assert f"left out: {errors[0]}" in lines
    assert len(cache.read_stacks(tmp_path / "cache")) == 3
    with pytest.raises(UsageError, match="--force"):
        prepare_pictures(folder, tmp_path / "cache")
    with pytest.raises(InputError, match="4 refused"):
        prepare_pictures(folder, tmp_path / "other", edge=70)
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="found none"):
        prepare_pictures(folder / "train" / "notes.txt", tmp_path / "other")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run the program in this process; its exit code and what it says on standard error."""

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mrisr", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return stop.value.code, capsys.readouterr().err

    return call


def test_prepare_command(run: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    data = ("prepare", "--data", folder, "--output")
    assert run(*data, tmp_path / "a", "--pictures", "--quiet") == (0, "")
    code, said = run(*data, tmp_path / "b", "--pictures", "--edge", 48, "--crop", 32)
    assert code == 8
    assert "1 pictures left out" in said
    assert "found 40 x 50" in said
    shapes = {s.levels.shape for s in cache.read_stacks(tmp_path / "b")}
    assert shapes == {(1, 3, 32, 32)}
    code, said = run(*data, tmp_path / "c", "--edge", 48)
    assert (code, "--pictures" in said) == (1, True)
    code, said = run("prepare", "--data", tmp_path, "--output", tmp_path / "c")  # no volumes there
    assert (code, (tmp_path / "c").exists()) == (2, False)
