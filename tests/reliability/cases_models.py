"""Models: only whole safetensors weights that are those of their card are ever loaded."""

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.reliability.expect import (
    Cases,
    assert_line,
    done,
    refusal,
    refused,
    said,
    same,
    unchanged,
    upsample,
)
from tests.reliability.models import save_model
from tests.reliability.runner import models_folder, run_cli
from tests.reliability.volume_files import VOXELS, cut, flip, late, nifti

CASES = Cases("Models")
_NAME, _FILE = "zero-inplane", "zero-inplane.safetensors"

#: Lays out a folder of models, one of them "zero-inplane", and may return what to say to --model.
Prepare = Callable[[Path], object]


class Explosive:
    """Unpickled, it leaves a file behind: what a hostile pickle would do, and worse."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def bad(
    name: str,
    prepare: Prepare,
    *words: str,
    code: int = 2,
    should: str = "",
    options: Sequence[object] = (),
) -> None:
    """A case of a model that is not loaded, or not used."""

    def check(folder: Path) -> str:
        models, source = folder / "models", nifti(folder)
        shutil.copytree(models_folder(), models)
        asked, env = prepare(models) or _NAME, {"MRISR_MODELS": str(models)}
        with unchanged(folder, "work"):
            given = ("--model", asked, *options)
            outcome = upsample(folder, source, *given, env=env, seconds=30)
            assert_line(outcome, code, None, *words)
            assert "slices" not in outcome.stderr, "refused after the work"
        assert outcome.peak_mib < 500, f"{outcome.peak_mib:.0f} MiB"
        told = run_cli(["models"], folder, env=env)
        assert told.code in (0, 1, 2), told.stderr
        assert "Traceback" not in told.stderr, told.stderr
        return said(outcome, folder)

    CASES.add(name, should or refusal(*words), check)


@late
def weights(models: Path, change: Callable[[bytes], bytes], *, own_card: bool = False) -> object:
    """Change the bytes of the weights; with ``own_card`` the card's SHA-256 fits them again."""
    path = models / _FILE
    data = change(path.read_bytes())
    path.write_bytes(data)
    if own_card:
        card(sha256=hashlib.sha256(data).hexdigest())(models)


@late
def card(models: Path, **changes: Any) -> object:
    """Change fields of the card; None takes them out."""
    path = models / "zero-inplane.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del content[key]
        else:
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(content))


@late
def _pickled(models: Path, name: str) -> object:
    data = pickle.dumps(Explosive(models / "exploded"))
    if not name:
        return weights(lambda _: data, own_card=True)(models)
    (models / name).write_bytes(data)
    return models / name


def _only_pickle(models: Path) -> object:
    """A card whose weights are there as a pickle only."""
    (models / "zero-inplane.safetensors").rename(models / "zero-inplane.pt")


@late
def _edited(data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    from safetensors.numpy import load, save

    tensors = load(data)
    edit(tensors)
    return save(tensors)


def _of_another_network(tensors: dict[str, Any]) -> None:
    tensors["tail.weight"] = tensors["tail.weight"][:-1]


def _not_a_number(tensors: dict[str, Any]) -> None:
    tensors["tail.bias"][:] = float("nan")


def _text_card(models: Path) -> object:
    (models / "zero-inplane.json").write_text("{ no card")


def _beyond_float16(w: dict[str, Any]) -> None:
    """Features a million times larger than usual, brought down again by the last layer."""
    for key in ("tail.weight", "body.0.second.weight", "body.0.modulate.weight"):
        w[key].normal_(std=0.03)
    w["head.weight"] *= 1e7
    w["head.bias"] *= 1e7
    w["tail.weight"] *= 1e-7


def _beyond_bfloat16(w: dict[str, Any]) -> None:
    """Features of 2^127 - 2^117, of which bfloat16 makes 2^127; twice that is too much for it, and not
    for float32. The last layer takes nothing of them."""
    for key in ("head.weight", "body.0.first.weight", "tail.weight", "tail.bias"):
        w[key].zero_()
    w["head.bias"].fill_(2.0**127 - 2.0**117)


@late
def _range(folder: Path, edit: Callable[[dict[str, Any]], None], note: str) -> str:
    save_model(folder / "models", "wide", edit=edit)
    source, env = nifti(folder), {"MRISR_MODELS": str(folder / "models")}
    results = {}
    for precision in ("fp32", "bf16"):
        part = folder / precision
        part.mkdir()
        options = ("--model", "wide", "--precision", precision)
        results[precision] = done(part, upsample(part, source, *options, env=env))
    notes = results["bf16"].record["notes"]
    if note:
        assert any(note in n for n in notes), f"the record does not note it: {notes}"
        same(results["bf16"], results["fp32"])
        return f"the same as in fp32, noted: {'; '.join(notes)}"
    assert notes == [], notes
    wide = results["fp32"].voxels.astype(float)
    off = abs(results["bf16"].voxels - wide).max() / (wide.max() - wide.min())
    assert off < 0.05, f"{off:.0%} of the range off"
    return f"within {off:.1%} of the range of fp32"


def _without_weights(models: Path) -> object:
    (models / _FILE).unlink()
    return models / "zero-inplane.json"


@late
def _few_slices(folder: Path) -> str:
    source = nifti(folder, voxels=VOXELS[:, :, :4])
    return refused(folder, source, "5 slices", "4", options=("--adapt", 1))


def _kept_before(models: Path) -> object:
    """An adapted model where another is to be kept."""
    shutil.copytree(models, models.parent / "kept")
    shutil.copy(models / "zero-inplane.json", models.parent / "kept" / "model.json")


def _empty_folder(models: Path) -> object:
    (models / "run").mkdir()
    return models / "run"


for suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
    bad(f"a {suffix} pickle", _pickled(f"model{suffix}"), "only safetensors", code=1)
bad("a pickle called .safetensors, its SHA-256 in the card", _pickled(""), _FILE)
bad("a card whose weights are a pickle only", _only_pickle, "zero-inplane", code=1)
for share in (0.0, 0.01, 0.5, 0.99):
    bad(f"weights cut to {share:.0%}", weights(cut(share)), _FILE, "SHA-256")
bad("weights cut by 8 bytes", weights(cut(-8)), _FILE, "SHA-256")
bad("a flipped bit in the weights", weights(flip(-9)), "SHA-256")
for share in (0.0, 0.01, 0.5, 0.99):
    name = f"weights cut to {share:.0%}, their SHA-256 in the card"
    bad(name, weights(cut(share), own_card=True), _FILE)
long = weights(lambda data: struct.pack("<Q", 1 << 62) + data[8:], own_card=True)
bad("weights whose header claims 2^62 bytes", long, _FILE)
other = weights(_edited(_of_another_network), own_card=True)
bad("weights of another network", other, "fit the card")
bad(
    "weights of NaN",
    weights(_edited(_not_a_number), own_card=True),
    "not finite",
    code=1,
    should="refused; nothing is written",
    options=("--quiet",),
)
bad("another SHA-256 in the card", card(sha256="0" * 64), "SHA-256", "0" * 64)
bad("a card without SHA-256", card(sha256=None), "zero-inplane")
bad("a card without a network", card(network=None), "zero-inplane.json", "network")
bad("a card that is no JSON", _text_card, "zero-inplane.json")
wide = card(network={"width": 10**9})
bad("a card that claims a network too large for any memory", wide, "zero-inplane")
bad("no weights beside the card", _without_weights, "zero-inplane")
bad("a model of the other job", lambda m: "zero-throughplane", "inplane", code=1)
bad("a name that no model has", lambda m: "no-such-model", "zero-inplane", code=1)
bad("a path instead of a name", lambda m: "../../etc/passwd", "no model", code=1)
bad("an empty folder as model", _empty_folder, code=1)


def adapt(
    name: str, *options: object, words: Sequence[str], prepare: Prepare = lambda m: _NAME
) -> None:
    """A case of an adaptation that cannot be."""
    bad(name, prepare, *words, code=1, options=options)


CASES.add("--adapt of a stack of four slices", refusal("5 slices", "4"), _few_slices)
adapt(
    "--adapt of an interpolation",
    *("--adapt", 1),
    words=("adapt", "no effect", "bicubic"),
    prepare=lambda m: "bicubic",
)
for minutes in ("0", "-1", "nan", "inf"):
    adapt(f"--adapt {minutes}", "--adapt", minutes, words=("adapt", "0.01 to 1440"))
both = ("--adapt", 1, "--adapt-steps", 5)
adapt("--adapt by minutes and by steps", *both, words=("--adapt or --adapt-steps",))
keep = ("--save-adapted", "../kept")
adapt("--save-adapted without --adapt", *keep, words=("save-adapted", "no effect"))
bad(
    "--save-adapted where a model lies",
    _kept_before,
    "holds a model",
    code=3,
    options=(*keep, "--adapt", 1),
)
same_result = "no overflow; the result is that of fp32"
CASES.add("features beyond the range of float16", same_result, _range(_beyond_float16, ""))
again = "found, computed again in fp32, with a note in the record"
check = _range(_beyond_bfloat16, "computed again in fp32")
CASES.add("features that overflow in bf16", again, check)
