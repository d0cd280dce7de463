"""RGB pictures to a training cache, for comparison with papers on natural images: ``mrisr prepare
--pictures``.

PNG, JPEG, TIFF, BMP and WebP are read by Pillow. What a picture shows is not guessed at. Refused are more
than 8 bits in a channel, colours other than grey and RGB, anything transparent, several pages, and whatever
Pillow reads only with a warning. Grey becomes RGB, a palette its colours, an alpha channel that is opaque
everywhere is left out, and the orientation of the camera (EXIF) is applied. Colour profiles are not.

In the cache a picture is a stack of one slice in three channels, ``(1, 3, rows, columns)``, of the plane
``picture`` and without a spacing; its bytes 0..255 are the levels 0..``LEVELS``. Its case, by which training
and validation are split, is the folder that it lies in, or its name.
"""

import hashlib
import io
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mrisr.core.errors import InputError
from mrisr.data import cache
from mrisr.data.prepare import check_replaceable, write_cache
from mrisr.data.sources import Entry, Report

#: The plane of a picture in a cache.
PLANE = "picture"
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
#: Pixels below which an edge is too short to learn from.
SMALLEST = 16

MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")


def prepare_pictures(
    data: Path,
    output: Path,
    *,
    edge: int | None = None,
    crop: int | None = None,
    force: bool = False,
    report: Report = lambda line: None,
) -> list[str]:
    """Write the cache of all pictures in the folder ``data``, as :func:`mrisr.data.prepare.prepare` that of
    volumes.

    Args:
        edge: pixels that each picture's shorter edge is reduced to; shorter ones are left out.
        crop: pixels of the central square that is kept, after that.
    """

    def read(source: Entry) -> tuple[cache.Stack, str | None]:
        rgb = read_picture(source.path, edge=edge, crop=crop)
        stack = cache.Stack(source.case, source.series, PLANE, None, levels_of(rgb))
        return stack, hashlib.sha256(source.path.read_bytes()).hexdigest()

    check_replaceable(output, force)
    return write_cache(find_pictures(data), read, data, output, report)


def find_pictures(folder: Path) -> list[Entry]:
    """Find pictures below ``folder`` at any depth, by their names' endings; nothing hidden. Those in a folder
    inside it make one case of that folder's name, those directly in it a case each.

    Raises:
        InputError: there is none.
    """
    found = []
    taken: Counter[tuple[str, str]] = Counter()
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if hidden or path.suffix.lower() not in ENDINGS or not path.is_file():
            continue
        case = parts[0] if len(parts) > 1 else path.stem
        taken[case, path.stem] += 1
        n = taken[case, path.stem]
        found.append(Entry(case, path.stem if n == 1 else f"{path.stem}-{n}", path))
    if not found:
        wanted = f"a folder with pictures ({', '.join(ENDINGS)})"
        raise InputError(folder, expected=wanted, found="none")
    return found


def levels_of(rgb: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Bytes ``(rows, columns, 3)`` as the levels ``(1, 3, rows, columns)`` of a stack.

    0 and 255 are 0 and ``LEVELS``; the bytes between are rounded to levels, and each to another one.
    """
    levels = np.rint(np.arange(256) * (cache.LEVELS / 255)).astype(np.int16)
    return np.ascontiguousarray(np.moveaxis(levels[rgb], -1, 0)[None])


def read_picture(
    path: Path, *, edge: int | None = None, crop: int | None = None
) -> NDArray[np.uint8]:
    """Read a picture as bytes ``(rows, columns, 3)``, the first row on top.

    Args:
        edge: pixels that the shorter edge is reduced to (bicubic, anti-aliased).
        crop: pixels of the central square that is kept, after that.

    Raises:
        InputError: it cannot be read, is not in 8-bit grey or RGB without transparency, or is too small.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = _decoded(data, path)
    except UnidentifiedImageError as error:
        raise InputError(path, expected="a picture", found="something else") from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the decoders have many ways to say that a file is damaged
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(path, expected="a whole picture", found=reason) from error
    if edge is not None:
        short, found = min(image.size), f"{image.width} x {image.height}"
        if short < edge:
            raise InputError(path, expected=f"at least {edge} pixels on every edge", found=found)
        width, height = (max(edge, round(n * edge / short)) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    array = np.asarray(image)
    if crop is not None:
        top, left = (max(0, (n - crop) // 2) for n in array.shape[:2])
        array = array[top : top + crop, left : left + crop]
    if min(array.shape[:2]) < SMALLEST:
        found = f"{array.shape[1]} x {array.shape[0]}"
        raise InputError(path, expected=f"at least {SMALLEST} x {SMALLEST} pixels", found=found)
    return array


def _decoded(data: bytes, path: Path) -> Image.Image:
    """The whole picture in RGB and upright. Raises InputError, and what Pillow raises."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        pages = getattr(image, "n_frames", 1)  # classes for one page have no such attribute
        if pages > 1 and image.format != "MPO":  # of a phone's MPO the first is the picture
            raise InputError(path, expected="one picture", found=f"{pages} pages or frames")
        # Pillow turns 16-bit (and 5-bit) RGB into bytes without a word; the raw mode tells.
        raw = str([tile.args for tile in getattr(image, "tile", ())])
        if any(mark in raw for mark in (";16", ";15", ";12")):
            raise InputError(path, expected="8 bits a channel", found="more or fewer")
        if image.mode not in MODES:
            raise InputError(path, expected="8-bit grey or RGB", found=f"mode {image.mode}")
        image.verify()  # of a PNG the checksums, which decoding does not look at
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        if upright.getchannel("A").getextrema() != (255, 255):
            raise InputError(path, expected="an opaque picture", found="transparent pixels")
    return upright.convert("RGB")
