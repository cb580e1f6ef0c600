"""Image files, PIL images and arrays in every form, to one form. Every entrance of the project opens images here.

The rules are the same for a path, a URL, bytes, a PIL image and a row of a data set:

* An image is upright: its EXIF orientation is applied.
* Transparency is composited onto white.
* Of 16 bits the high byte is kept.
* Values outside 0..255, NaN and infinity are errors.
"""

import base64
import binascii
import io
import os
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension
from transformers.utils import is_torch_tensor, logging

logger = logging.get_logger(__name__)

# Channel counts that can be drawn: grey, RGB, RGB with transparency.
DRAWABLE = (1, 3, 4)

_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: Any, timeout: float | None = None, jpeg_side: int | None = None) -> Image.Image:
    """Opens an image file and decodes all of it.

    Args:
        source: Path, URL, data URI or base64 string, bytes, or a file opened for reading. A PIL image is decoded too.
        timeout: Seconds to wait for a URL. None waits without limit.
        jpeg_side: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size, as far as both sides keep so many pixels. It is
            faster, and the image is a smoothed one.

    Returns:
        Upright PIL image in the file's own mode, so that transparency and 16 bits are kept.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is not an image, or it is damaged.
        ValueError: The string is neither a path nor a URL nor base64.
    """
    if isinstance(source, Image.Image):
        return upright(source)
    name = repr(os.fspath(source) if isinstance(source, str | os.PathLike) else type(source).__name__)[:200]
    if isinstance(source, str) and not os.path.isfile(source):
        source = _read_string(source, timeout)
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    try:
        image = Image.open(source)
    except UnidentifiedImageError:
        raise OSError(f"PIL cannot identify image {name}; give an undamaged image file.") from None
    with image:
        if jpeg_side is not None:
            image.draft(None, (jpeg_side, jpeg_side))  # other formats ignore it
        return upright(image)


def check_image(image: Any) -> None:
    """Raises ValueError or TypeError for a decoded image that cannot be used, for instance because it holds NaN.

    Readers of data sets call it, so that one such image is one skipped row and does not end the run.

    Args:
        image: PIL image, array or tensor.
    """
    if isinstance(image, Image.Image):
        image = upright(image)
        if image.mode in ("I", "F"):
            check_range(np.asarray(image))
    elif not is_torch_tensor(image):
        check_range(channels_last(image, infer_layout(image, ChannelDimension.LAST)), do_rescale=False)


def upright(image: Image.Image) -> Image.Image:
    """Decodes a PIL image and applies its EXIF orientation. An upright image is returned as it is."""
    image.load()  # PIL reads lazily; a truncated file must fail here and not later
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16))  # files of at most 16 bits
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged EXIF data raise nearly everything; the image itself is whole
        return image
    if orientation not in _UPRIGHT:
        return image
    turned = image.transpose(_UPRIGHT[orientation])
    # PIL copies the metadata, which would turn the image again at the next entrance.
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        turned.info.pop(name, None)
    return turned


def to_rgb(image: Image.Image) -> Image.Image:
    """Makes the RGB image that `ClippoImageProcessor` sees: upright, transparency over white, 8 of 16 bits.

    Hand its result to stock pipelines of transformers. They decode images themselves and drop the alpha channel.

    Args:
        image: A PIL image of any mode.

    Raises:
        ValueError: The image holds values that cannot be shown, for instance NaN.

    Example:
        >>> from PIL import Image, UnidentifiedImageError
        >>> from clippo.processing import to_rgb
        >>> to_rgb(Image.new("RGBA", (8, 8), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    image = upright(image)
    check_image(image)
    if image.mode.startswith("I;16"):
        grey, transparent = high_byte(image), image.info.get("transparency")
        if isinstance(transparent, int):
            grey[np.asarray(image) == transparent] = 255
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def high_byte(image: Image.Image) -> np.ndarray:
    """The high bytes of a 16-bit PIL image, uint8 (H, W), which is what an 8-bit decoder returns."""
    # PIL's own conversion would clip at 255, that is to white.
    return (np.asarray(image) >> 8).astype(np.uint8)


def pil_to_array(image: Image.Image, do_convert_rgb: bool | None) -> np.ndarray:
    """PIL image of any mode -> (H, W) or (H, W, 3)."""
    image = upright(image)
    plain = "transparency" not in image.info
    if plain and image.mode.startswith("I;16"):
        return high_byte(image)
    if plain and image.mode in ("RGB", "L", "I", "F"):
        return np.asarray(image)  # the range of "I" and "F" is checked with that of arrays
    if not do_convert_rgb:
        raise ValueError(f"A PIL image of mode {image.mode} needs do_convert_rgb=True; only L and RGB do without.")
    return np.asarray(to_rgb(image))


def to_pixels(image: np.ndarray, do_rescale: bool) -> np.ndarray:
    """Array of any number type -> uint8 for integers, float32 for floats, after a check of the range."""
    if image.dtype == np.uint8:
        return image
    check_range(image, do_rescale)
    return image.astype(np.float32 if np.issubdtype(image.dtype, np.floating) else np.uint8)


def check_range(image: np.ndarray, do_rescale: bool = True) -> None:
    """Raises ValueError or TypeError if the values of an array are not those of an image.

    Args:
        image: Array of any dtype.
        do_rescale: Whether the values are divided by 255 later. If not, floats may have any finite value.
    """
    floating = np.issubdtype(image.dtype, np.floating)
    if not floating and not np.issubdtype(image.dtype, np.integer):
        raise TypeError(f"An image of dtype {image.dtype} is not usable; give integers in 0..255 or floats.")
    if not image.size:
        raise ValueError(f"An image of shape {image.shape} has no pixels.")
    low, high = image.min(), image.max()
    largest = np.finfo(np.float32).max
    if not (-largest <= low and high <= largest):  # NaN too
        raise ValueError("An image holds NaN or infinite values; give finite numbers.")
    if not floating or do_rescale:
        if low < 0 or high > 255:
            raise ValueError(
                f"An image has values from {low} to {high}, outside 0..255; scale it to 0..255, or pass "
                "do_rescale=False for a float image in another range."
            )
        if floating and 0 < high <= 1:
            raise ValueError(
                f"A float image has values from {low} to {high} but do_rescale=True divides by 255; pass "
                "do_rescale=False for images in 0..1, or scale it to 0..255."
            )


def channels_last(image: np.ndarray, layout: ChannelDimension | str) -> np.ndarray:
    """(H, W), (H, W, C) or (C, H, W) -> (H, W, C) with 1, 3 or 4 channels and at least one pixel."""
    if image.ndim == 2:
        image = image[..., None]
    elif ChannelDimension(layout) == ChannelDimension.FIRST:
        image = np.moveaxis(image, 0, -1)
    if image.shape[-1] not in DRAWABLE:
        raise ValueError(
            f"An image of shape {image.shape} has {image.shape[-1]} channels; give 1 (grey), 3 (RGB) or 4 (RGBA) "
            "channels."
        )
    if 0 in image.shape:
        raise ValueError(f"An image of shape {image.shape} has no pixels.")
    return image


def infer_layout(image: np.ndarray, prefer: ChannelDimension) -> ChannelDimension:
    """Finds the axis of the channels by its length; `prefer` decides where both ends could be channels."""
    first, last = image.shape[0], image.shape[-1]
    if image.ndim == 2 or (first not in DRAWABLE and last not in DRAWABLE):
        return prefer
    if first not in DRAWABLE or last not in DRAWABLE:
        return ChannelDimension.FIRST if first in DRAWABLE else ChannelDimension.LAST
    if (first == 3) != (last == 3):
        return ChannelDimension.FIRST if first == 3 else ChannelDimension.LAST
    logger.warning_once(
        f"The layout of an image of shape {image.shape} is unclear; it is read as {prefer.value}. Pass "
        'input_data_format="channels_first" or "channels_last" to settle it.'
    )
    return prefer


def flatten(images) -> list:
    """Every image of a nested list or of a batch, in order; files are not opened, and other things stay as they are."""
    if isinstance(images, list | tuple):
        return [image for part in images for image in flatten(part)]
    return list(images) if getattr(images, "ndim", None) == 4 else [images]


def check_type(image: Any) -> None:
    """Raises TypeError or ValueError for a thing that cannot be an image, such as None or an array of one axis."""
    if isinstance(image, str | os.PathLike | Image.Image):
        return
    if not (isinstance(image, np.ndarray) or is_torch_tensor(image)):
        raise TypeError(
            f"An image of type {type(image).__name__} is not usable; give a PIL image, an array, a tensor, a file "
            "name or a URL."
        )
    if image.ndim not in (2, 3):
        raise ValueError(
            f"An array of shape {tuple(image.shape)} is not an image; give (H, W), (H, W, C), (C, H, W) or a batch of "
            "the last two."
        )


def _read_string(source: str, timeout: float | None) -> bytes:
    """Bytes behind a URL, a data URI or a base64 string."""
    if source.startswith(("http://", "https://")):
        # The HTTP client of huggingface_hub is httpx or httpx2, depending on its version. This name is always there.
        from transformers.image_utils import httpx

        try:
            return httpx.get(source, timeout=timeout, follow_redirects=True).raise_for_status().content
        except httpx.HTTPError as error:
            raise OSError(f"{source} cannot be fetched: {error}") from error
    data = source.partition(",")[2] if source.startswith("data:image/") else source
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise FileNotFoundError(
        f"There is no image file {source[:200]!r}; give the path of a file, a URL that starts with http:// or "
        "https://, or base64 data."
    )
