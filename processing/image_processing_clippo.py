"""Images to `pixel_values`, with the preprocessing of the official CLIPPO models.

Source: big_vision, `pp/ops_image.py` (`resize`, `central_crop`) and `pp/ops_general.py` (`value_range`), as used by
`configs/proj/clippo/train_clippo.py`: `resize(224)|value_range(-1,1)`.
"""

import os
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import ChannelDimension, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs
from transformers.utils import is_torch_tensor, logging

from .auto_map_clippo import AUTO_MAP, warn_of_foreign_entries
from .canvas_clippo import MAX_PIXELS
from .images_clippo import channels_last, check_type, flatten, infer_layout, open_image, pil_to_array, to_pixels, to_rgb

logger = logging.get_logger(__name__)

# AutoFeatureExtractor finds the class by the first name. Pipelines look for a video processor too: without the second
# name they take the code of the image processor for one, and ask whether to run it.
_SAVED_TYPES = ("feature_extractor_type", "video_processor_type")


class ClippoImageProcessorKwargs(ImagesKwargs, total=False):
    """Keyword arguments of `ClippoImageProcessor` beside those of every image processor.

    Args:
        antialias: Whether pixels that a smaller output skips still count, as in PIL's own resize. The official models
            were trained without it.
    """

    antialias: bool | None


# Options, and facts that transformers records beside them.
_KEYWORDS = {
    *ClippoImageProcessorKwargs.__annotations__, *ImagesKwargs.__annotations__,
    "auto_map", "backend", "image_processor_type", "processor_class", "use_fast",
}  # fmt: skip


class ClippoImageProcessor(PilBackend):
    """Squashes an image to `size`, whatever its aspect ratio, and scales it to [-1, 1].

    The default is bit-exact with the official preprocessing: bilinear with half-pixel centres and no antialiasing,
    interpolated in float32 along x and then y, integer images truncated back to uint8, then `x / 255 * 2 - 1`.

    Images may be PIL images of any mode, NumPy arrays or torch tensors (H, W), (H, W, C) or (C, H, W), batches
    (B, H, W, C) or (B, C, H, W), file names or URLs, and lists of all these. Integers must lie in 0..255. Floats must
    lie in 0..255 too if `do_rescale` is on; give `do_rescale=False` for floats in 0..1. Float images are not truncated
    to whole numbers, as in the official code. If both ends of a shape could be the channels, an end of length 3 is
    taken; otherwise NumPy arrays count as (H, W, C) and torch tensors as (C, H, W). `input_data_format` overrides this.

    PIL images and files become upright by their EXIF orientation, and of 16 bits the high byte is kept. Stock pipelines
    of transformers decode images themselves before this code runs: they apply the orientation, but drop the alpha
    channel and clip 16 bits to white. Hand them `to_rgb(image)`, as in the example, and it does not matter.

    Args:
        size: Size of the output, default 224: an int, [height, width] or {"height": int, "width": int}. It must be the
            image size of the model, unless `crop_size` is.
        antialias: Whether to use PIL's antialiased filter `resample` instead, default False.
        resample: A `PILImageResampling`, default `BILINEAR`. Other filters need `antialias=True`.
        do_center_crop: Whether the centre of the resized image is cut out, default False.
        crop_size: Size of the centre, as `size`. The official few-shot evaluation has `size=256, crop_size=224`.
        do_convert_rgb: Whether images are brought to three channels, default True. Grey is repeated. Transparency is
            composited onto white; the official decoder drops the alpha channel, which shows the colour hidden below it.
            If off, only grey and RGB images are taken, and they keep their one or three channels.
        do_resize: Whether images are resized, default True.
        do_rescale: Whether values are multiplied by `rescale_factor`, default True. With `do_rescale` and
            `do_normalize` off a uint8 image stays uint8, which the model scales itself: a quarter of the bytes to move.
        rescale_factor: Factor of `do_rescale`, default 1 / 255.
        do_normalize: Whether `image_mean` is subtracted and the result divided by `image_std`, default True.
        image_mean: One number, or one for each channel, default 0.5.
        image_std: One number, or one for each channel, default 0.5.

    Returns:
        `BatchFeature` with `pixel_values` (B, 3, H, W), float32 in [-1, 1]; a list of arrays without `return_tensors`.

    Raises:
        ValueError: An image or an option cannot be used.
        TypeError: An image has a type or dtype that cannot be used.

    Example:
        >>> from PIL import Image
        >>> from clippo import ClippoImageProcessor
        >>> image_processor = ClippoImageProcessor(size=64)
        >>> pixel_values = image_processor(Image.new("RGB", (80, 60), "white"), return_tensors="pt")["pixel_values"]
        >>> pixel_values.shape, pixel_values.mean().item()
        (torch.Size([1, 3, 64, 64]), 1.0)

        A transparent image for a stock pipeline:

        >>> from clippo.processing import to_rgb
        >>> to_rgb(Image.new("RGBA", (80, 60), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """

    model_input_names = ["pixel_values"]
    valid_kwargs = ClippoImageProcessorKwargs

    do_convert_rgb = True
    do_resize = True
    size = {"height": 224, "width": 224}
    resample = PILImageResampling.BILINEAR
    antialias = False
    do_center_crop = False
    crop_size = None
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]

    def __init__(self, **kwargs):
        auto_map = kwargs.pop("auto_map", None)
        warn_of_foreign_entries(auto_map, type(self).__name__)
        if auto_map:
            # Saved alone, the folder has no code of the processor, so only this class is named.
            kwargs["auto_map"] = {"AutoImageProcessor": AUTO_MAP["AutoImageProcessor"]}
        for name in _SAVED_TYPES:
            kwargs.pop(name, None)
        _drop_unknown(kwargs)
        _check_forms(kwargs)
        super().__init__(**kwargs)

    def to_dict(self) -> dict:
        """The options, with the names by which AutoFeatureExtractor and AutoVideoProcessor know the class."""
        return {**super().to_dict(), **dict.fromkeys(_SAVED_TYPES, type(self).__name__)}

    def _standardize_kwargs(self, **kwargs) -> dict:
        _check_forms(kwargs)
        kwargs = super()._standardize_kwargs(**kwargs)
        for name in ("size", "crop_size"):
            if kwargs[name] is not None:
                _check_size(name, kwargs[name])
        size, crop = kwargs["size"], kwargs["crop_size"]
        if kwargs.get("do_center_crop"):
            if crop is None:
                raise ValueError("do_center_crop=True needs crop_size, for instance crop_size=224 with size=256.")
            if kwargs.get("do_resize") and (crop.height > size.height or crop.width > size.width):
                raise ValueError(
                    f"crop_size {crop.height}x{crop.width} does not fit into size {size.height}x{size.width}; give a "
                    "crop_size that is not larger than size."
                )
        for name in ("rescale_factor", "image_mean", "image_std"):
            _check_numbers(name, kwargs.get(name))
        if kwargs.get("resample") != PILImageResampling.BILINEAR and not kwargs.get("antialias"):
            raise ValueError(
                f"resample={kwargs.get('resample')} needs antialias=True; without antialiasing there is only the "
                "official bilinear resize."
            )
        if kwargs.get("do_pad"):
            raise ValueError("do_pad=True is not possible: images are squashed to size, so nothing is left to pad.")
        if kwargs.get("data_format") not in (None, ChannelDimension.FIRST):
            raise ValueError(f"data_format={kwargs['data_format']!r} is not possible: the model reads channels first.")
        return kwargs

    def open_images(self, images, **kwargs) -> list[np.ndarray]:
        """Opens images in every accepted form.

        Args:
            images: One image or several, as in a call.
            **kwargs: Options that decide the form: `do_convert_rgb`, `do_rescale`, `input_data_format`.

        Returns:
            Arrays (C, H, W), uint8, or float32 for float images.

        Raises:
            ValueError, TypeError, OSError: An image cannot be used. The message names its index if there are several.
        """
        flat = flatten(images)
        if not flat:
            raise ValueError("There are no images in the input; give at least one.")
        opened = []
        for i, image in enumerate(flat):
            with _naming(i, len(flat)):
                check_type(image)
                image = open_image(image) if isinstance(image, str | os.PathLike) else image
                opened.append(self.process_image(image, **kwargs))
        return opened

    def fetch_images(self, images, timeout: float | None = None):
        """Opens the file names and URLs in a nested list of images. Unlike the base class it keeps transparency."""
        if isinstance(images, list | tuple):
            return [self.fetch_images(image, timeout) for image in images]
        return open_image(images, timeout) if isinstance(images, str | os.PathLike) else images

    def _prepare_image_like_inputs(self, images, *args, expected_ndims: int = 3, **kwargs) -> list[np.ndarray]:
        return self.open_images(images, **kwargs)

    def process_image(self, image, do_convert_rgb: bool | None = None, input_data_format=None, **kwargs) -> np.ndarray:
        """One PIL image, array or tensor -> array (C, H, W), uint8, or float32 for a float image."""
        if isinstance(image, Image.Image):
            image, input_data_format = pil_to_array(image, do_convert_rgb), ChannelDimension.LAST
        elif is_torch_tensor(image):
            image = image.detach().cpu()
            # NumPy has no bfloat16, so every torch float is widened before it crosses over.
            image = (image.float() if image.is_floating_point() else image).numpy()
            input_data_format = input_data_format or infer_layout(image, prefer=ChannelDimension.FIRST)
        else:
            input_data_format = input_data_format or infer_layout(image, prefer=ChannelDimension.LAST)
        image = to_pixels(channels_last(image, input_data_format), kwargs.get("do_rescale", self.do_rescale))
        channels = image.shape[-1]
        if channels == 4:
            if not do_convert_rgb or image.dtype != np.uint8:
                raise ValueError(
                    "An image with 4 channels needs do_convert_rgb=True and integer values, so that its transparency "
                    "can be composited; convert it to RGB first."
                )
            image = np.asarray(to_rgb(Image.fromarray(np.ascontiguousarray(image), "RGBA")))
        elif channels == 1 and do_convert_rgb:
            image = np.repeat(image, 3, axis=-1)
        return np.moveaxis(image, -1, 0)  # (C, H, W)

    def resize(self, image: np.ndarray, size: SizeDict, resample=None, antialias: bool = False, **kwargs) -> np.ndarray:
        """(C, H, W), uint8 or float32 -> (C, size.height, size.width) of the same dtype."""
        _check_size("size", size)
        if not antialias:
            return resize_bilinear(image, size.height, size.width)
        filtered = [
            # Mode by dtype: "L" for uint8, "F" for float32, so neither is rounded more than once.
            np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize((size.width, size.height), resample))
            for channel in image
        ]
        return np.stack(filtered)

    def center_crop(self, image: np.ndarray, size: SizeDict, **kwargs) -> np.ndarray:
        """(C, H, W) -> its centre (C, size.height, size.width), with big_vision's rounding of the offsets."""
        _check_size("crop_size", size)
        height, width = image.shape[-2:]
        if size.height > height or size.width > width:
            raise ValueError(
                f"crop_size {size.height}x{size.width} does not fit into an image of {height}x{width}; resize it first "
                "(do_resize=True) or give a smaller crop_size."
            )
        top, left = (height - size.height) // 2, (width - size.width) // 2
        return image[..., top : top + size.height, left : left + size.width]

    def _preprocess(
        self,
        images: list[np.ndarray],
        do_resize: bool,
        size: SizeDict,
        resample,
        antialias: bool,
        do_center_crop: bool,
        crop_size: SizeDict,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean,
        image_std,
        return_tensors=None,
        **kwargs,
    ):
        if do_normalize and not do_rescale and any(image.dtype == np.uint8 for image in images):
            raise ValueError(
                "do_normalize=True needs do_rescale=True for images with integer values; leave both on or both off."
            )
        processed = []
        for image in images:
            if do_resize:
                image = self.resize(image, size, resample=resample, antialias=antialias)
            if do_center_crop:
                image = self.center_crop(image, crop_size)
            # The base class multiplies in float64 and rounds once to float32. After the normalisation this gives the
            # bits of `x / 255 * 2 - 1`; a float32 product would differ in the last bit for some values.
            if do_rescale:
                image = self.rescale(image, rescale_factor)
            if do_normalize:
                mean, std = (_per_channel(value, image.shape[0]) for value in (image_mean, image_std))
                image = self.normalize(image, mean, std)
            if not np.isfinite(image).all():
                raise ValueError(
                    f"An image has values that are not finite after rescale_factor={rescale_factor} and image_std="
                    f"{image_std}; give a larger image_std."
                )
            processed.append(np.ascontiguousarray(image))

        shapes = sorted({image.shape for image in processed})
        if return_tensors is not None and len(shapes) > 1:
            raise ValueError(
                f"Images of different shapes {shapes} cannot be stacked into one tensor; leave do_resize and "
                "do_convert_rgb on, or drop return_tensors."
            )
        values = np.stack(processed) if return_tensors is not None else processed  # (B, C, H, W)
        return BatchFeature(data={"pixel_values": values}, tensor_type=return_tensors)


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize with half-pixel centres and no antialiasing, bit for bit that of `tf.image.resize`.

    Args:
        image: (C, H, W), uint8 or float32.
        height: Height of the output.
        width: Width of the output.

    Returns:
        (C, height, width) of the same dtype; interpolated in float32, uint8 by truncation.
    """
    pixels = np.moveaxis(image, 0, -1)  # (H, W, C): the channels of a pixel are neighbours
    y0, y1, dy = _taps(pixels.shape[0], height)
    x0, x1, dx = _taps(pixels.shape[1], width)
    # Only the rows that are used are read: a large image costs no more than a small one.
    rows, inverse = np.unique(np.concatenate([y0, y1]), return_inverse=True)
    used = pixels.take(rows, axis=0)
    left, right = (used.take(x, axis=1).astype(np.float32) for x in (x0, x1))  # (rows, width, C)
    right -= left
    right *= dx[:, None]
    left += right
    top, bottom = left.take(inverse[:height], axis=0), left.take(inverse[height:], axis=0)  # (height, width, C)
    bottom -= top
    bottom *= dy[:, None, None]
    top += bottom
    return np.moveaxis(top.astype(image.dtype, copy=False), -1, 0)


def _taps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input position before each output position, the one after it, and the weight of the latter (float32)."""
    scale = np.float32(n_in) / np.float32(n_out)
    centre = (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    before = np.floor(centre)
    after = np.minimum(np.ceil(centre), n_in - 1).astype(np.intp)
    return np.maximum(before, 0).astype(np.intp), after, centre - before


def _drop_unknown(kwargs: dict) -> None:
    """Raises TypeError for keywords that no image processor has; of a loaded folder they are dropped with a warning."""
    unknown = sorted(name for name in set(kwargs) - _KEYWORDS if not name.startswith("_"))
    if not unknown:
        return
    options = sorted(ClippoImageProcessorKwargs.__annotations__)
    near = [match for name in unknown for match in get_close_matches(name, options, 1)]
    message = f"ClippoImageProcessor has no option {', '.join(map(repr, unknown))}" + (
        f"; did you mean {', '.join(near)}?" if near else f"; its options are {', '.join(options)}."
    )
    if "image_processor_type" not in kwargs:
        raise TypeError(message)
    logger.warning(message + " It is ignored.")
    for name in unknown:
        del kwargs[name]


def _check_forms(options: dict) -> None:
    """Refuse sizes that transformers would read in another way, or with an IndexError."""
    for name in ("size", "crop_size"):
        size = options.get(name)
        if isinstance(size, bool) or (isinstance(size, list | tuple) and len(size) != 2):
            raise ValueError(f"{name}={size} is not usable; give an int, [height, width] or a dict with both.")


def _check_size(name: str, size: SizeDict) -> None:
    sides = (size.height, size.width)
    if not all(isinstance(side, int | np.integer) and side >= 1 for side in sides):
        raise ValueError(
            f"{name}={dict(size)} is not usable; give an int, [height, width] or a dict with positive 'height' and "
            "'width'."
        )
    if size.height * size.width > MAX_PIXELS:
        raise ValueError(
            f"{name} {size.height} x {size.width} has {size.height * size.width} pixels; give at most {MAX_PIXELS}."
        )


def _check_numbers(name: str, value) -> None:
    values = value if isinstance(value, list | tuple | np.ndarray) else [] if value is None else [value]
    # Comparisons are false for NaN; 3e38 is near the largest float32.
    usable = all(isinstance(number, int | float | np.number) and abs(number) < 3e38 for number in values)
    if not usable or (name != "image_mean" and 0 in values):
        raise ValueError(
            f"{name}={value} is not usable; give finite numbers" + ("." if name == "image_mean" else " other than 0.")
        )


@contextmanager
def _naming(index: int, count: int):
    """Adds the index of the image to errors in a batch."""
    try:
        yield
    except Exception as error:  # damaged files raise nearly everything: SyntaxError, struct.error, bombs
        known = (MemoryError, TypeError, FileNotFoundError, OSError, ValueError)
        kind = next((kind for kind in known if isinstance(error, kind)), ValueError)
        raise kind(f"Image {index} of {count}: {error}" if count > 1 else str(error)) from error


def _per_channel(value, channels: int):
    """`image_mean` or `image_std` with one number for each channel; one number serves all channels."""
    values = [value] if isinstance(value, int | float) else list(value)
    if len(values) == channels:
        return values
    if len(set(values)) == 1:
        return values[:1] * channels
    raise ValueError(f"image_mean and image_std have {len(values)} values, but an image has {channels} channel(s).")
