"""One rule for images at every entrance: upright, transparency over white, 8 of 16 bits, one clear error."""

import base64
import functools
import http.server
import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from clippo.data.samples import UnusableRow, read_image
from clippo.processing import ClippoImageProcessor, check_image, open_image, to_rgb, upright

from ..tiny import save_tiny

ORIENTATION = 0x0112
# What each EXIF orientation does to the corners of a stored image, so that the upright one has red at the top left.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def processor():
    return ClippoImageProcessor(size=8)


def pixels(processor, images, **kwargs):
    return processor(images, return_tensors="np", **kwargs)["pixel_values"]


def saved(image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def every_entrance(processor, content: bytes, tmp_path, suffix=".png"):
    """Pixel values of one image file through every entrance, by name."""
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content)
    lazy = Image.open(io.BytesIO(content))
    return {
        "path": pixels(processor, str(path)),
        "pathlib path": pixels(processor, path),
        "list of paths": pixels(processor, [str(path)]),
        "PIL image": pixels(processor, Image.open(path)),
        "bytes": pixels(processor, open_image(content)),
        "data URI": pixels(processor, "data:image/png;base64," + base64.b64encode(content).decode()),
        "base64": pixels(processor, base64.b64encode(content).decode()),
        "fetched": pixels(processor, processor.fetch_images(str(path))),
        "row of a data set": pixels(processor, read_image({"bytes": content, "path": None})),
        "decoded row": pixels(processor, read_image(lazy)),
        "path of a row": pixels(processor, read_image(str(path))),
        "to_rgb": pixels(processor, to_rgb(Image.open(path))),
        "opened and to_rgb": pixels(processor, to_rgb(open_image(content))),
    }


def as_big_endian(image):
    return Image.frombytes("I;16B", image.size, np.asarray(image).astype(">u2").tobytes())


HIDDEN = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
GREY16 = Image.fromarray(np.full((8, 8), 0x4000, np.uint16))


@pytest.mark.parametrize(
    ("image", "format", "options", "expected"),
    [
        (HIDDEN, "PNG", {}, 1.0),
        (HIDDEN, "WEBP", {"lossless": True, "exact": True}, 1.0),
        (HIDDEN.convert("LA"), "PNG", {}, 1.0),
        (Image.new("P", (8, 8), 0), "PNG", {"transparency": 0}, 1.0),
        (Image.new("P", (8, 8), 0), "GIF", {"transparency": 0}, 1.0),
        (Image.new("L", (8, 8), 7), "PNG", {"transparency": 7}, 1.0),
        (Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", {"transparency": (1, 2, 3)}, 1.0),
        (Image.new("RGBA", (8, 8), (0, 0, 0, 51)), "PNG", {}, 0.6),
        (GREY16, "PNG", {}, 64 / 127.5 - 1),
        (GREY16, "TIFF", {}, 64 / 127.5 - 1),
        (GREY16, "PPM", {}, 64 / 127.5 - 1),
        (GREY16, "PNG", {"transparency": 0x4000}, 1.0),
        (as_big_endian(GREY16), "TIFF", {}, 64 / 127.5 - 1),
    ],
)  # fmt: skip
def test_transparency_and_16_bits_are_kept_at_every_entrance(processor, tmp_path, image, format, options, expected):
    for entrance, values in every_entrance(processor, saved(image, format, **options), tmp_path).items():
        np.testing.assert_allclose(values, expected, atol=1e-6, err_msg=entrance)


def corners():
    """8 x 4 pixels, red at the top left, green at the top right."""
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, :4], image[:2, 4:], image[2:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return Image.fromarray(image)


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_images_are_upright_at_every_entrance(processor, tmp_path, orientation, format):
    stored = corners() if STORED[orientation] is None else corners().transpose(STORED[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    content = saved(stored, format, exif=exif, **lossless.get(format, {}))
    expected = pixels(processor, corners())
    for entrance, values in every_entrance(processor, content, tmp_path).items():
        np.testing.assert_allclose(values, expected, atol=0.1 if format == "JPEG" else 1e-6, err_msg=entrance)


def test_an_upright_image_is_not_turned_again():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    once = upright(Image.open(io.BytesIO(saved(corners(), exif=exif))))
    assert once.size == (4, 8) and upright(once) is once
    assert to_rgb(to_rgb(once)).tobytes() == once.convert("RGB").tobytes()


@pytest.mark.parametrize("exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00MM\x00*\x00\x00\xff\xff", b"\x00"])
def test_damaged_metadata_leave_the_image_as_it_is(processor, exif):
    image = corners()
    image.info["exif"] = exif
    np.testing.assert_array_equal(pixels(processor, image), pixels(processor, corners()))


UNUSABLE = [
    (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "holds NaN"),
    (Image.fromarray(np.full((8, 8), np.inf, np.float32)), "infinite"),
    (Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), "do_rescale=True divides by 255"),
    (Image.fromarray(np.full((8, 8), 70000, np.int32)), "70000, outside 0..255"),
    (Image.fromarray(np.full((8, 8), -1, np.int32)), "outside 0..255"),
]


@pytest.mark.parametrize(("image", "message"), UNUSABLE)
def test_an_image_that_cannot_be_used_is_one_clear_error_everywhere(processor, image, message):
    for entrance in (to_rgb, check_image, lambda image: pixels(processor, image)):
        with pytest.raises(ValueError, match=message):
            entrance(image)
    with pytest.raises(UnusableRow, match=message):
        read_image(image)
    with pytest.raises(UnusableRow, match=message):
        read_image(saved(image, "TIFF"))


@pytest.mark.parametrize("array", [np.full((4, 4, 3), np.nan), np.zeros((5, 6, 7), np.uint8), np.full((4, 4), 300)])
def test_an_array_that_cannot_be_used_is_an_unusable_row(array):
    with pytest.raises(UnusableRow):
        read_image(array)


def test_errors_in_a_batch_name_the_image(processor, tmp_path):
    good = np.zeros((8, 8, 3), np.uint8)
    (tmp_path / "broken.png").write_bytes(saved(corners())[:60])
    for bad, kind, message in (
        (np.full((8, 8, 3), np.nan), ValueError, "Image 2 of 3: An image holds NaN"),
        (np.zeros((8, 8, 7), np.uint8), ValueError, "Image 2 of 3: An image of shape"),
        (torch.zeros(8, 8, dtype=torch.bool), TypeError, "Image 2 of 3: An image of dtype bool"),
        (str(tmp_path / "broken.png"), OSError, "Image 2 of 3: "),
        (str(tmp_path / "gone.png"), FileNotFoundError, "Image 2 of 3: There is no image file"),
    ):
        with pytest.raises(kind, match=message):
            processor([good, good, bad])
    with pytest.raises(ValueError, match=r"^An image holds NaN"):
        processor(np.full((8, 8, 3), np.nan))


@pytest.fixture
def address(tmp_path):
    """Address of a server of the folder `tmp_path`."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_address_gives_the_image_of_its_file(processor, tmp_path, address):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "image.png")
    assert (pixels(processor, f"{address}/image.png") == 1).all()  # white
    with pytest.raises(OSError, match=r"missing\.png cannot be fetched: .*404"):
        processor(f"{address}/missing.png")


def test_files_that_are_not_images_are_named(tmp_path):
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(OSError, match=r"cannot identify image .*page\.png"):
        open_image(str(tmp_path / "page.png"))
    with pytest.raises(OSError, match="cannot identify image"):
        open_image(b"nothing")
    with pytest.raises(FileNotFoundError, match=r"There is no image file 'gone\.png'; give the path"):
        open_image("gone.png")


@pytest.mark.parametrize(
    "options",
    [
        {"image_std": 0.0}, {"image_std": [0.5, 0.0, 0.5]}, {"image_std": float("nan")}, {"image_mean": float("nan")},
        {"image_mean": [0.5, float("inf"), 0.5]}, {"rescale_factor": float("nan")}, {"rescale_factor": 0.0},
    ],
)  # fmt: skip
def test_options_that_give_no_finite_numbers_are_refused(processor, options):
    with pytest.raises(ValueError, match="is not usable; give finite numbers"):
        ClippoImageProcessor(**options)
    with pytest.raises(ValueError, match="is not usable; give finite numbers"):
        processor(corners(), **options)


def test_results_that_are_not_finite_are_refused(processor):
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor(np.full((4, 4, 3), 1e300), do_rescale=False)
    with pytest.raises(ValueError, match="not finite after"):
        processor(corners(), image_std=1e-300)


def test_sizes_beyond_any_memory_are_refused_before_allocation(processor):
    with pytest.raises(ValueError, match=r"size 1000000 x 1000000 has 1000000000000 pixels; give at most"):
        ClippoImageProcessor(size=10**6)
    with pytest.raises(ValueError, match="give at most"):
        processor(corners(), size=10**6)


def test_a_stock_pipeline_sees_transparency_through_to_rgb(tmp_path):
    classify = pipeline("zero-shot-image-classification", save_tiny(tmp_path))
    labels = dict(candidate_labels=["a", "b"], hypothesis_template="{}")
    assert classify(to_rgb(HIDDEN), **labels) == classify(Image.new("RGB", (8, 8), "white"), **labels)
