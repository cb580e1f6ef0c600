"""ClippoImageProcessor: bit-exact with the official preprocessing, and plain about what it cannot use."""

import io
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.image_utils import PILImageResampling

from clippo.processing.image_processing_clippo import ClippoImageProcessor, resize_bilinear

SIZES = [
    "224x224", "256x256", "300x400", "480x640", "101x125", "32x32", "500x333", "223x225", "1x1", "1024x768",
    "16x1000", "448x448",
]  # fmt: skip
FEWSHOT = [size for size in SIZES if size not in ("1x1", "16x1000")]


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared("goldens", "image_preproc_224.npz"))


@pytest.fixture(scope="module")
def processor():
    return ClippoImageProcessor()


def photo(height=48, width=64, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def pixels(processor, images, **kwargs):
    return processor(images, return_tensors="np", **kwargs)["pixel_values"]


# ------------------------------------------------------------------------------------------------ official numbers


@pytest.mark.parametrize("size", SIZES)
def test_default_is_bit_exact_with_the_official_preprocessing(processor, golden, size):
    expected = golden[f"resize_vr_{size}"].transpose(2, 0, 1)
    for image in (golden[f"in_{size}"], Image.fromarray(golden[f"in_{size}"])):
        (got,) = pixels(processor, image)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", SIZES)
def test_uint8_output_is_bit_exact_with_the_official_resize(processor, golden, size):
    (got,) = pixels(processor, golden[f"in_{size}"], do_rescale=False, do_normalize=False)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, golden[f"resize_{size}"].transpose(2, 0, 1))


@pytest.mark.parametrize("size", FEWSHOT)
def test_centre_crop_is_bit_exact_with_the_official_few_shot_protocol(golden, size):
    processor = ClippoImageProcessor(size=256, do_center_crop=True, crop_size=224)
    (got,) = pixels(processor, golden[f"in_{size}"])
    np.testing.assert_array_equal(got, golden[f"fewshot_{size}"].transpose(2, 0, 1))


def test_every_grey_level_is_scaled_as_the_official_value_range(processor):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (got,) = pixels(processor, levels, do_resize=False)
    expected = levels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    np.testing.assert_array_equal(got, np.stack([expected] * 3))


def test_a_batch_of_all_sizes_keeps_the_order(processor, golden):
    got = pixels(processor, [golden[f"in_{size}"] for size in SIZES])
    expected = np.stack([golden[f"resize_vr_{size}"] for size in SIZES]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(got, expected)


def test_resize_agrees_with_torch_interpolate():
    image = photo(37, 91).transpose(2, 0, 1)
    theirs = torch.nn.functional.interpolate(torch.tensor(image)[None].float(), (50, 40), mode="bilinear")[0].numpy()
    np.testing.assert_allclose(resize_bilinear(image.astype(np.float32), 50, 40), theirs, atol=1e-3)


# ------------------------------------------------------------------------------------------------ properties


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    level=st.integers(0, 255),
)  # fmt: skip
def test_a_flat_picture_stays_flat(height, width, out, level):
    got = resize_bilinear(np.full((3, height, width), level, np.uint8), *out)
    np.testing.assert_array_equal(got, np.full((3, *out), level, np.uint8))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), out=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_resizing_never_leaves_the_range_of_the_picture_and_commutes_with_flips(height, width, out):
    image = photo(height, width).transpose(2, 0, 1)
    got = resize_bilinear(image, *out)
    assert got.shape == (3, *out)
    assert got.min() >= image.min() and got.max() <= image.max()
    # Only up to rounding: the float32 weights are not symmetric, and truncation turns that into a whole grey level.
    flipped = resize_bilinear(image[:, ::-1, ::-1], *out)[:, ::-1, ::-1]
    assert np.abs(got.astype(int) - flipped.astype(int)).max() <= 1


def test_same_size_changes_nothing():
    image = photo(30, 41).transpose(2, 0, 1)
    np.testing.assert_array_equal(resize_bilinear(image, 30, 41), image)


# ------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    "form",
    [
        Image.fromarray,
        lambda x: x.transpose(2, 0, 1),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float64),
        lambda x: torch.tensor(x),
        lambda x: torch.tensor(x).permute(2, 0, 1),
        lambda x: torch.tensor(x).permute(2, 0, 1).int(),
        lambda x: [x],
        lambda x: [[Image.fromarray(x)]],
        lambda x: x[None],
        lambda x: torch.tensor(x).permute(2, 0, 1)[None],
    ],
    ids=["pil", "chw", "int64", "float64", "torch hwc", "torch", "torch int", "list", "nested", "batch", "torch batch"],
)
def test_every_form_of_a_picture_gives_the_same_pixels(processor, form):
    image = photo()
    expected = pixels(processor, image)
    got = pixels(processor, form(image))
    assert got.shape == (1, 3, 224, 224) and got.dtype == np.float32
    # A float picture is not truncated after the resize, so it may lie up to one grey level above.
    np.testing.assert_allclose(got, expected, atol=2 / 255 + 1e-6 if form(image) is not image else 0)
    if "float" not in str(getattr(form(image), "dtype", "")):
        np.testing.assert_array_equal(got, expected)


def test_float_pictures_in_0_to_1_need_no_rescaling(processor):
    image = photo(224, 224)
    got = pixels(processor, image.astype(np.float32) / 255, do_rescale=False)
    np.testing.assert_allclose(got, pixels(processor, image), atol=1e-6)
    tensor = torch.tensor(image).permute(2, 0, 1).to(torch.bfloat16).requires_grad_()
    np.testing.assert_allclose(pixels(processor, tensor), pixels(processor, image), atol=2e-2)


def grey_picture(mode):
    """An 8 x 8 picture of level 200 (white in mode "1"), in any mode."""
    grey = Image.fromarray(np.full((8, 8), 200, np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.full((8, 8), 200 * 257, np.uint16))
    if mode == "1":
        return Image.new("1", (8, 8), 1)
    if mode == "LAB":  # PIL converts to it only through a colour profile; 205 is the lightness of level 200
        return Image.new("LAB", (8, 8), (205, 128, 128))
    through = {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "PA": "LA"}.get(mode, "L")
    return grey.convert(through).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F", "LA", "RGBA", "PA"])
def test_every_pil_mode_becomes_rgb(processor, mode):
    image = grey_picture(mode)
    assert image.mode == mode
    (got,) = (pixels(processor, image) + 1) * 127.5
    np.testing.assert_allclose(got, 255 if mode == "1" else 200, atol=3)


def test_transparency_is_composited_onto_white(processor):
    rgba = photo(16, 16, 4)
    rgba[..., 3] = 0
    keep = dict(do_rescale=False, do_normalize=False)
    assert (pixels(processor, Image.fromarray(rgba), **keep) == 255).all()
    np.testing.assert_array_equal(pixels(processor, rgba, **keep), pixels(processor, Image.fromarray(rgba), **keep))
    np.testing.assert_array_equal(pixels(processor, torch.tensor(rgba), **keep), pixels(processor, rgba, **keep))
    rgba[..., 3] = 255
    np.testing.assert_array_equal(pixels(processor, rgba), pixels(processor, rgba[..., :3]))

    buffer = io.BytesIO()
    palette = Image.fromarray(photo(8, 8)).quantize(16)
    palette.save(buffer, "PNG", transparency=bytes(16))
    assert (pixels(processor, Image.open(buffer), **keep) == 255).all()


def test_grey_arrays_are_repeated_or_kept(processor):
    grey = photo(channels=1)
    expected = pixels(processor, np.repeat(grey, 3, axis=-1))
    for form in (grey, grey[..., 0], grey.transpose(2, 0, 1), Image.fromarray(grey[..., 0])):
        np.testing.assert_array_equal(pixels(processor, form), expected)
        np.testing.assert_array_equal(pixels(processor, form, do_convert_rgb=False), expected[:, :1])


def test_unclear_layouts(processor):
    small = dict(size=[3, 3], do_rescale=False, do_normalize=False)
    one = photo(1, 1)
    for form in (one, one.transpose(2, 0, 1), torch.tensor(one), torch.tensor(one).permute(2, 0, 1)):
        assert (pixels(processor, form, **small)[0] == one.reshape(3, 1, 1)).all()
    cube = photo(3, 3)
    np.testing.assert_array_equal(pixels(processor, cube, **small)[0], cube.transpose(2, 0, 1))
    np.testing.assert_array_equal(pixels(processor, torch.tensor(cube), **small)[0], cube)
    np.testing.assert_array_equal(pixels(processor, cube, input_data_format="channels_first", **small)[0], cube)


def test_files_are_opened(processor, tmp_path):
    image = photo()
    Image.fromarray(image).save(tmp_path / "photo.png")
    np.testing.assert_array_equal(pixels(processor, str(tmp_path / "photo.png")), pixels(processor, image))


def test_extreme_shapes(processor):
    assert pixels(processor, photo(1, 5000)).shape == pixels(processor, photo(5000, 1)).shape == (1, 3, 224, 224)
    assert pixels(processor, photo(2500, 3000), size=(16, 4000)).shape == (1, 3, 16, 4000)


# ------------------------------------------------------------------------------------------------ options and saving


def test_antialias_is_pil_bilinear(processor):
    image = photo(300, 400)
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    got = pixels(processor, image, antialias=True, do_rescale=False, do_normalize=False)[0]
    np.testing.assert_array_equal(got, theirs)
    assert not np.array_equal(got, pixels(processor, image, do_rescale=False, do_normalize=False)[0])
    as_float = pixels(processor, image.astype(np.float32), antialias=True)[0]
    np.testing.assert_allclose(as_float, theirs / 127.5 - 1, atol=1.01 / 127.5)


def test_options_survive_saving(tmp_path):
    options = dict(
        size=[96, 64], antialias=True, resample=PILImageResampling.BICUBIC, do_center_crop=True, crop_size=48,
        image_mean=[0.4, 0.5, 0.6], do_convert_rgb=False,
    )  # fmt: skip
    processor = ClippoImageProcessor(**options)
    processor.save_pretrained(tmp_path)
    again = ClippoImageProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    np.testing.assert_array_equal(pixels(again, photo()), pixels(processor, photo()))
    assert pixels(again, photo()).shape == (1, 3, 48, 48)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "ClippoImageProcessor"
    assert saved["size"] == {"height": 96, "width": 64} and saved["antialias"] is True


def test_options_at_a_call_do_not_stick(processor):
    before = processor.to_dict()
    assert pixels(processor, photo(), size=32).shape == (1, 3, 32, 32)
    assert processor.to_dict() == before
    assert pixels(processor, photo()).shape == (1, 3, 224, 224)


def test_return_types(processor):
    assert isinstance(processor(photo())["pixel_values"], list)
    tensors = processor([photo(), photo(9, 9)], return_tensors="pt")["pixel_values"]
    assert tensors.shape == (2, 3, 224, 224) and tensors.dtype == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns when it is given memory that must not be written
        processor(Image.fromarray(photo()), return_tensors="pt")


def test_input_is_not_changed(processor):
    image = photo(224, 224)
    copy = image.copy()
    pixels(processor, image, do_resize=False)
    np.testing.assert_array_equal(image, copy)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (photo(channels=2), {}, ValueError, r"\(48, 64, 2\) has 2 channels; give 1 .* 3 .* or 4"),
        (Image.fromarray(photo(channels=2)), {"do_convert_rgb": False}, ValueError, "mode LA needs do_convert_rgb"),
        (torch.zeros(2, 9, 9), {}, ValueError, "channels; give 1"),
        (photo(channels=5), {}, ValueError, "has 5 channels"),
        (photo(channels=4), {"do_convert_rgb": False}, ValueError, "4 channels needs do_convert_rgb"),
        (photo(channels=4).astype(float), {}, ValueError, "4 channels needs .* integer values"),
        (np.zeros((0, 5, 3), np.uint8), {}, ValueError, "no pixels"),
        (np.zeros(7, np.uint8), {}, ValueError, r"\(7,\) is not an image"),
        (np.zeros((1, 1, 8, 8, 3), np.uint8), {}, ValueError, "is not an image"),
        (np.zeros((8, 8, 3), bool), {}, TypeError, "dtype bool"),
        (np.full((8, 8, 3), 300), {}, ValueError, "from 300 to 300, outside 0..255"),
        (np.full((8, 8, 3), -1.0), {}, ValueError, "outside 0..255; scale .* do_rescale=False"),
        (np.full((8, 8, 3), 0.5), {}, ValueError, "do_rescale=True divides by 255; pass do_rescale=False"),
        (np.full((8, 8, 3), np.nan), {}, ValueError, "NaN"),
        (Image.fromarray(np.full((8, 8), 70000, np.int32)), {}, ValueError, "70000, outside 0..255"),
        ([], {}, ValueError, "no images"),
        (None, {}, TypeError, "NoneType"),
        (photo(), {"do_rescale": False}, ValueError, "do_normalize=True needs do_rescale=True"),
        (photo(), {"do_resize": False, "do_center_crop": True, "crop_size": 60}, ValueError, "into an image of 48x64"),
        (photo(), {"do_center_crop": True, "crop_size": 256}, ValueError, "256x256 does not fit into size 224x224"),
        (photo(), {"do_center_crop": True}, ValueError, "needs crop_size"),
        (photo(), {"size": {"shortest_edge": 224}}, ValueError, "shortest_edge.* is not usable; give an int"),
        (photo(), {"size": 0}, ValueError, "is not usable"),
        (photo(), {"resample": PILImageResampling.BICUBIC}, ValueError, "needs antialias=True"),
        (photo(), {"do_pad": True}, ValueError, "do_pad"),
        (photo(), {"data_format": "channels_last"}, ValueError, "channels first"),
        (photo(), {"image_mean": [0.5, 0.4]}, ValueError, "have 2 values, but an image has 3"),
        ([photo(), photo(9, 9)], {"do_resize": False}, ValueError, "different shapes .* cannot be stacked"),
    ],
)  # fmt: skip
def test_errors_are_one_clear_sentence(processor, image, options, error, message):
    with pytest.raises(error, match=message):
        processor(image, return_tensors="np", **options)


def test_wrong_options_fail_when_the_processor_is_made():
    with pytest.raises(ValueError, match="is not usable"):
        ClippoImageProcessor(size={"shortest_edge": 224})
    with pytest.raises(ValueError, match="does not fit"):
        ClippoImageProcessor(size=224, do_center_crop=True, crop_size=256)


def test_misspelt_options_are_errors_and_those_of_a_folder_are_dropped(tmp_path, log_messages):
    with pytest.raises(TypeError, match="no option 'sizes'; did you mean size"):
        ClippoImageProcessor(sizes=64)
    ClippoImageProcessor(size=64).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "wings": 2}))
    loaded = ClippoImageProcessor.from_pretrained(tmp_path)
    assert not hasattr(loaded, "wings") and "no option 'wings'" in "".join(log_messages)


@pytest.mark.parametrize("bad", [None, object(), np.zeros(7, np.uint8), {"bytes": b""}, b"bytes", "missing.png"])
def test_an_error_in_a_batch_names_the_image(bad):
    good = Image.new("RGB", (8, 8))
    with pytest.raises((TypeError, ValueError, OSError), match="Image 2 of 4: "):
        ClippoImageProcessor(size=16)([good, good, bad, good])


@pytest.mark.parametrize("size", [[64], [64, 64, 64], ()])
@pytest.mark.parametrize("name", ["size", "crop_size"])
def test_a_size_of_another_form_is_an_error(name, size):
    with pytest.raises(ValueError, match=f"{name}=True is not usable; give an int"):
        ClippoImageProcessor(**{name: True})
    with pytest.raises(ValueError, match=f"{name}=.* is not usable; give an int"):
        ClippoImageProcessor(**{name: size})
    with pytest.raises(ValueError, match=f"{name}=.* is not usable; give an int"):
        ClippoImageProcessor(size=32)(photo(), **{name: size})
