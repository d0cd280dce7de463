"""Configurations load, inherit, and refuse what they do not know."""

from pathlib import Path

import pytest
import yaml

from mrisr.config import UNetSettings, load_config
from mrisr.core.errors import InputError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
#: A training configuration names a network's training, or a base that does.
TRAINING = [
    path
    for path in sorted(CONFIGS.glob("*.yaml"))
    if {"train", "base"} & set(yaml.safe_load(path.read_text(encoding="utf-8")) or ())
]

SMALL = {
    "name": "small",
    "job": "inplane",
    "data": {"degradations": [{"kind": "bicubic", "factors": [2]}]},
    "train": {"iterations": 1},
}


def write(folder: Path, content: object, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    again = type(config).model_validate(yaml.safe_load(config.dump()))
    assert again == config


def test_files_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What begins with configs/ is found anywhere, unless a file of that name is nearer."""
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/smoke.yaml").name == "smoke"
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs", SMALL, "smoke.yaml")
    assert load_config("configs/smoke.yaml").name == "small"
    for path in ("configs/none.yaml", "none.yaml", "."):
        with pytest.raises(InputError):
            load_config(path)


def test_published_settings() -> None:
    config = load_config(CONFIGS / "published-inplane.yaml")
    assert (config.diffusion.path, config.diffusion.prediction) == ("aligned", "noise")
    assert config.diffusion.start == 0.25
    assert config.network == UNetSettings(type="unet")  # whose defaults are Table 1's
    assert (config.train.lr, config.train.lr_final, config.train.weight_decay) == (1e-4, None, 0)
    assert (config.data.crop, config.data.margin, config.data.blur_probability) == (320, 0, 1.0)

    through = load_config(CONFIGS / "published-throughplane-x6.yaml")
    assert through.data.planes == {"coronal": 1.0}  # mappings of a base are merged: taken back
    assert [d.factors for d in through.data.degradations] == [(6,)]
    sr3 = load_config(CONFIGS / "sr3-inplane.yaml")
    assert (sr3.diffusion.path, sr3.diffusion.from_noise) == ("plain", True)
    assert (sr3.network, sr3.train) == (config.network, config.train)


def test_base_is_merged(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    write(tmp_path, SMALL | {"diffusion": {"start": 0.5, "loss": "l2"}}, "grandparent.yaml")
    write(tmp_path, {"base": "grandparent.yaml", "train": {"lr_final": 0.0}}, "parent.yaml")
    change = {
        "base": "../parent.yaml",
        "name": "child",
        "diffusion": {"loss": "l1", "start": None},
        "data": {"degradations": [{"kind": "kspace"}]},
    }
    config = load_config(write(tmp_path / "deeper", change))
    assert config.name == "child"
    assert config.job == "inplane"
    assert (config.diffusion.loss, config.diffusion.start) == ("l1", 0.25)
    assert (config.train.iterations, config.train.lr_final) == (1, 0.0)
    assert [d.kind for d in config.data.degradations] == ["kspace"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (SMALL | {"colour": "blue"}, "colour"),
        (SMALL | {"train": {"iterations": 1, "learning_rate": 1}}, "train.learning_rate"),
        (SMALL | {"train": {"iterations": 0}}, "train.iterations"),
        (SMALL | {"diffusion": {"start": 1.5}}, "diffusion.start"),
        (SMALL | {"network": {"type": "transformer"}}, "network"),
        (SMALL | {"network": {"type": "unet", "width": 24}}, "channels_per_group"),
        (SMALL | {"train": {"iterations": 1, "batch": 6}}, "groups"),
        ({"name": "small"}, "job"),
        ({"base": "missing.yaml"}, "missing.yaml"),
        ({"base": "config.yaml"}, "base"),
        ({"base": 1}, "base"),
        (["a", "list"], "mapping"),
    ],
)
def test_refused_with_one_line_that_names_the_file(
    tmp_path: Path, content: object, named: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    assert named in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("text", ["train: [", "\0", "a: b: c"])
def test_what_is_not_yaml_is_refused_with_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="YAML") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
