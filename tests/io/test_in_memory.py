import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor

from mrisr.core.errors import InputError
from mrisr.io import as_volume, like, write_volume


def same(volume, other):
    np.testing.assert_array_equal(other.array, volume.array)
    np.testing.assert_allclose(other.affine, volume.affine, atol=1e-5)


def test_volume_is_returned_as_it_is(make_volume):
    volume = make_volume()
    assert as_volume(volume) is volume
    assert like(volume, make_volume("f4")) is volume


def test_nibabel(make_volume, tmp_path):
    volume = make_volume(np.int16, 0.5, -3.0)
    loaded = nib.load(write_volume(volume, tmp_path / "v.nii.gz"))
    back = as_volume(loaded)
    same(volume, back)
    assert back.storage == volume.storage
    plain = make_volume()
    image = like(plain, loaded)
    assert type(image) is type(loaded)
    assert image.get_data_dtype() == np.uint16
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    same(plain, as_volume(image))


def test_nibabel_other_classes(make_volume):
    volume = make_volume("f4")
    image = nib.MGHImage(volume.array, volume.affine)
    same(volume, as_volume(image))
    assert type(like(volume, image)) is nib.MGHImage


def test_nibabel_rules(make_volume, affine):
    with pytest.raises(InputError, match="sform or a qform"):
        as_volume(nib.Nifti1Image(make_volume().array, None))
    with pytest.raises(InputError, match="axis 4"):
        as_volume(nib.Nifti1Image(np.ones((3, 3, 3, 2), np.float32), affine))
    with pytest.raises(InputError, match="constant"):
        as_volume(nib.Nifti1Image(np.ones((3, 3, 3), np.float32), affine))


def test_simpleitk(make_volume):
    volume = make_volume(np.int16)
    image = like(volume, sitk.Image((2, 2, 2), sitk.sitkUInt8))
    assert isinstance(image, sitk.Image)
    assert image.GetPixelID() == sitk.sitkInt16
    same(volume, as_volume(image))
    with pytest.raises(InputError, match="2 components"):
        as_volume(sitk.Compose(image, image))


@pytest.mark.parametrize("channel", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int32, torch.uint8])
def test_metatensor(make_volume, channel, dtype):
    volume = make_volume(np.uint8)
    data = torch.from_numpy(volume.array.copy())
    tensor = MetaTensor(data[None] if channel else data, affine=torch.as_tensor(volume.affine))
    tensor = tensor.to(dtype)
    same(volume, as_volume(tensor))
    back = like(volume, tensor)
    assert isinstance(back, MetaTensor)
    assert (back.dtype, back.shape) == (dtype, tensor.shape)
    same(volume, as_volume(back))


def test_a_metatensor_keeps_the_name_of_its_file(make_volume):
    """SaveImage calls its file after it, and must not resample to the first grid."""
    volume = make_volume("f4")
    meta = {"filename_or_obj": "p1/t2w.nii.gz", "original_affine": np.eye(4), "spatial_shape": (1,)}
    tensor = MetaTensor(torch.zeros(2, 2, 2), affine=torch.eye(4), meta=meta)
    back = like(volume, tensor)
    assert back.meta["filename_or_obj"] == "p1/t2w.nii.gz"
    assert not {"original_affine", "spatial_shape"} & set(back.meta)


def test_metatensor_in_lps(make_volume):
    volume = make_volume("f4")
    lps = torch.as_tensor(np.diag([-1.0, -1, 1, 1]) @ volume.affine)
    tensor = MetaTensor(torch.from_numpy(volume.array), affine=lps, meta={"space": "LPS"})
    same(volume, as_volume(tensor))


def test_metatensor_integers_are_clipped(make_volume):
    tensor = MetaTensor(torch.zeros(2, 2, 2, dtype=torch.uint8), affine=torch.eye(4))
    volume = make_volume(np.int16)
    assert like(volume, tensor).max() == 255


def test_metatensor_rules(make_volume):
    with pytest.raises(InputError, match=r"\(i, j, k\)"):
        as_volume(MetaTensor(torch.rand(2, 3, 3, 3), affine=torch.eye(4)))
    with pytest.raises(InputError, match="NaN"):
        as_volume(MetaTensor(torch.full((3, 3, 3), torch.nan), affine=torch.eye(4)))
    for dtype in (torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(InputError, match=f"real voxels.* found {dtype}"):
            as_volume(MetaTensor(torch.ones(3, 3, 3).to(dtype), affine=torch.eye(4)))


def test_other_kinds(make_volume):
    for wrong in (np.ones((3, 3, 3)), torch.ones(3, 3, 3), "v.nii"):
        with pytest.raises(TypeError, match="MetaTensor or Volume"):
            as_volume(wrong)
        with pytest.raises(TypeError, match="MetaTensor or Volume"):
            like(make_volume(), wrong)
