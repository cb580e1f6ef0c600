"""Images of every kind, through every entrance of the encoder: upright, over white, with 8 of 16 bits."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.data.fingerprints import cell_fingerprint
from clippo.evaluation.encoder import Encoder


def photo(height=24, width=40, channels=3):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels)


def turned():
    """Image that is stored turned, its EXIF tag, and the image as a viewer shows it."""
    upright = photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 270 degrees to see it
    return upright.transpose(Image.Transpose.ROTATE_90), exif, upright


def transparent():
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[4:12, 4:12] = (200, 30, 30, 255)
    pixels[0, :, 3] = 128
    return Image.fromarray(pixels)


def sixteen_bits():
    return Image.fromarray(np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16))


def palette():
    return photo().quantize(8)


def entrances(image, tmp_path, **options):
    """Image as bytes, cell, file name and opened file."""
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    file = tmp_path / "image.png"
    file.write_bytes(stream.getvalue())
    opened = Image.open(file)
    return [stream.getvalue(), {"bytes": stream.getvalue(), "path": None}, str(file), file, opened]


@pytest.mark.parametrize("make", [photo, transparent, sixteen_bits, palette])
def test_every_entrance_gives_the_same_image(tiny, tmp_path, make):
    encoder = Encoder(*tiny)
    expected = encoder.images([make()]).vectors
    for cell in entrances(make(), tmp_path):
        torch.testing.assert_close(encoder.images([cell]).vectors, expected, atol=1e-6, rtol=0)


def test_every_entrance_turns_an_image_upright(tiny, tmp_path):
    lying, exif, upright = turned()
    encoder = Encoder(*tiny)
    expected = encoder.images([upright]).vectors
    for cell in entrances(lying, tmp_path, exif=exif):
        torch.testing.assert_close(encoder.images([cell]).vectors, expected, atol=1e-6, rtol=0)


def test_the_cache_tells_orientation_and_palette_apart(tiny, tmp_path):
    """Two images with equal stored pixels may look different."""
    lying, exif, upright = turned()
    cell = entrances(lying, tmp_path, exif=exif)[-1]
    assert cell_fingerprint(cell) != cell_fingerprint(lying)
    encoder = Encoder(*tiny, cache=tmp_path / "cache")
    encoder.images([lying])
    torch.testing.assert_close(
        encoder.images([cell]).vectors, Encoder(*tiny).images([upright]).vectors, atol=1e-6, rtol=0
    )

    first, second = palette(), palette()
    second.putpalette([255 - value for value in first.getpalette()])
    assert cell_fingerprint(first) != cell_fingerprint(second)
    first.info["transparency"] = 0
    assert cell_fingerprint(first) != cell_fingerprint(palette())


@pytest.mark.parametrize("cache", [False, True])
def test_an_image_that_cannot_be_used_is_counted(tiny, tmp_path, cache):
    """Images that decode to unusable values are counted; the other images of the batch are embedded."""
    odd = [
        Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)),
        Image.fromarray(np.full((8, 8), 70000, dtype=np.int32)),
        np.zeros((8, 8, 2), dtype=np.uint8),
        np.full((8, 8, 3), np.nan, dtype=np.float32),
        7,
    ]
    cells = [photo(), *odd, photo()]
    for _ in range(2):
        images = Encoder(*tiny, cache=tmp_path if cache else None).images(cells)
        assert images.kept == [0, 6] and list(images.broken) == [1, 2, 3, 4, 5]
        assert all(images.broken.values())
        with pytest.raises(ValueError, match="5 images cannot be read; the first is image 1: "):
            images.require_all()
