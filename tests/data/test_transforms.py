import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from mrisr.core import geometry
from mrisr.core.volume import Volume
from mrisr.data.transforms import (
    DegradeInPlaned,
    DegradeThroughPlaned,
    LoadVolumed,
    RandDegradeInPlaned,
)
from mrisr.io import as_volume, write_volume
from tests.centroid import world_centroid


@pytest.fixture
def volume() -> Volume:
    """A blob off centre in a coronal stack: slices along A-P, SI along array axis 1."""
    i, j, k = np.meshgrid(*(np.arange(n) for n in (24, 30, 8)), indexing="ij")
    blob = np.exp(-(((i - 10) / 4) ** 2 + ((j - 17) / 5) ** 2 + ((k - 4) / 1.5) ** 2))
    affine = np.array([[-0.6, 0, 0, 20], [0, 0, 3.0, -9], [0, -0.6, 0, 14], [0, 0, 0, 1.0]])
    return Volume(blob.astype(np.float32), affine)


@pytest.fixture
def data(volume, tmp_path) -> dict:
    return LoadVolumed("t2")({"t2": write_volume(volume, tmp_path / "t2.nii.gz"), "id": 3})


def centroid(image: MetaTensor) -> np.ndarray:
    volume = as_volume(image)
    return world_centroid(volume.array, volume.affine)


def test_load(data, volume):
    image = data["t2"]
    assert isinstance(image, MetaTensor)
    assert (image.dtype, tuple(image.shape)) == (torch.float32, (1, 24, 30, 8))
    np.testing.assert_array_equal(image[0].numpy(), volume.array)
    np.testing.assert_allclose(image.affine, volume.affine, atol=1e-5)
    assert image.meta["filename_or_obj"].endswith("t2.nii.gz")
    assert data["id"] == 3


@pytest.mark.parametrize("kind", ["bicubic", "kspace"])
def test_in_plane(data, kind):
    out = DegradeInPlaned("t2", 2, kind)(data)
    assert tuple(out["t2_low"].shape) == (1, 12, 15, 8)
    assert out["t2_up"].shape == data["t2"].shape
    np.testing.assert_allclose(geometry.spacing(out["t2_low"].affine), [1.2, 1.2, 3.0], rtol=1e-5)
    np.testing.assert_allclose(out["t2_up"].affine, data["t2"].affine)
    for key in ("t2_low", "t2_up"):
        assert np.abs(centroid(out[key]) - centroid(data["t2"])).max() < 0.02
    assert "t2_low" not in data


def test_through_plane_follows_the_world_axis(data):
    out = DegradeThroughPlaned("t2", factor=3, thickness=1.0)(data)
    assert tuple(out["t2_low"].shape) == (1, 24, 10, 8)
    assert out["t2_up"].shape == data["t2"].shape
    for key in ("t2_low", "t2_up"):
        assert np.abs(centroid(out[key]) - centroid(data["t2"])).max() < 0.02
    along_x = DegradeThroughPlaned("t2", factor=3, world_axis=0)(data)
    assert tuple(along_x["t2_low"].shape) == (1, 8, 30, 8)


def test_random_scale_is_drawn_then_applied(data):
    draw = RandDegradeInPlaned("t2", (1.5, 4.0))
    draw.set_random_state(seed=5)
    first = draw(data)
    scale = draw.scale
    assert 1.5 <= scale <= 4.0
    replayed = draw.apply(data)
    assert torch.equal(replayed["t2_low"], first["t2_low"])
    draw(data)
    assert draw.scale != scale
    draw.set_random_state(seed=5)
    draw.randomize()
    assert draw.scale == scale
    with pytest.raises(ValueError, match="scale_range"):
        RandDegradeInPlaned("t2", (0.5, 2))


def test_plain_tensors_are_refused():
    with pytest.raises(TypeError, match="MetaTensor"):
        DegradeInPlaned("t2", 2)({"t2": torch.zeros(1, 4, 4, 4)})
