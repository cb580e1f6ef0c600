"""Horizontal flips, shifts and RandAugment for photographs, on PIL images, without torchvision.

The official COCO sanity run uses `flip_lr|randaug(2,10)` (configs/proj/clippo/train_clippo.py); its full recipe uses no
augmentation. RandAugment: Cubuk et al., arXiv 1909.13719. The operations and their strengths at level 10 are those of
big_vision `pp/autoaugment.py`, for an image of 331 pixels; shifts and cut-outs scale with the image here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from clippo.processing import to_rgb

GREY = (128, 128, 128)  # fills the gaps of rotations, shears, shifts and cut-outs
MAX_LEVEL = 10
REFERENCE_SIDE = 331  # side of an image, in pixels, for which shifts have 100 and cut-outs 40 pixels


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=GREY)


def _enhance(kind) -> Callable:
    def apply(image: Image.Image, level: float, sign: int, generator: np.random.Generator) -> Image.Image:
        return kind(image).enhance(level * 1.8 + 0.1)  # 0 grey, black, blurred; 1 as it is; up to 1.9

    return apply


def _cutout(image: Image.Image, level: float, sign: int, generator: np.random.Generator) -> Image.Image:
    half = round(level * 40 / REFERENCE_SIDE * min(image.size))
    x, y = (int(generator.integers(side)) for side in image.size)
    image = image.copy()
    image.paste(GREY, (max(x - half, 0), max(y - half, 0), min(x + half, image.width), min(y + half, image.height)))
    return image


def _solarize_add(image: Image.Image, level: float, sign: int, generator: np.random.Generator) -> Image.Image:
    added = int(level * 110)
    return image.point([min(value + added, 255) if value < 128 else value for value in range(256)] * 3)


def _move(image: Image.Image, right: int, down: int) -> Image.Image:
    pixels = np.asarray(image)
    columns = (np.arange(image.width) - right).clip(0, image.width - 1)
    rows = (np.arange(image.height) - down).clip(0, image.height - 1)
    return Image.fromarray(pixels[rows[:, None], columns])


def _shift(level: float, sign: int, side: int) -> float:
    return sign * level * 100 / REFERENCE_SIDE * side


# Name -> operation(image, level in 0..1, sign +-1, generator).
OPERATIONS: dict[str, Callable] = {
    "AutoContrast": lambda image, level, sign, generator: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign, generator: ImageOps.equalize(image),
    "Invert": lambda image, level, sign, generator: ImageOps.invert(image),
    "Rotate": lambda image, level, sign, generator: image.rotate(sign * level * 30, fillcolor=GREY),
    # Level 10 keeps four bits. The official code keeps fewer at lower levels, down to none; here one bit stays.
    "Posterize": lambda image, level, sign, generator: ImageOps.posterize(image, max(1, int(level * 4))),
    "Solarize": lambda image, level, sign, generator: ImageOps.solarize(image, int(level * 256)),
    "SolarizeAdd": _solarize_add,
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": lambda image, level, sign, generator: _affine(image, (1, sign * level * 0.3, 0, 0, 1, 0)),
    "ShearY": lambda image, level, sign, generator: _affine(image, (1, 0, 0, sign * level * 0.3, 1, 0)),
    "TranslateX": lambda image, level, sign, generator: _affine(
        image, (1, 0, _shift(level, sign, image.width), 0, 1, 0)
    ),
    "TranslateY": lambda image, level, sign, generator: _affine(
        image, (1, 0, 0, 0, 1, _shift(level, sign, image.height))
    ),
    "Cutout": _cutout,
}


class PhotoAugmentation:
    """Random views of photographs: flip, then shift, then RandAugment.

    It takes PIL images and as many seeds, by default from torch's global generator, and returns RGB images of the same
    sizes. The view of an image depends on its seed alone.

    Args:
        flip: Mirror half of the images, left to right.
        layers: Operations of RandAugment for each image, 0 for none.
        magnitude: Strength of the operations, 0 to 10.
        shift: Largest shift as a share of the side; border pixels are repeated into the gap. 0 moves nothing.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> from PIL import Image
        >>> from clippo.data import PhotoAugmentation
        >>> (view,) = PhotoAugmentation(flip=True, layers=2)([Image.new("RGB", (20, 10), "red")], seeds=[0])
        >>> view.size
        (20, 10)
    """

    def __init__(self, flip: bool = True, layers: int = 2, magnitude: float = 10, shift: float = 0.0):
        if layers < 0 or not 0 <= magnitude <= MAX_LEVEL:
            raise ValueError(f"RandAugment takes layers >= 0 and a magnitude of 0..10, got {layers} and {magnitude}.")
        if not 0 <= shift < 1:
            raise ValueError(f"shift={shift} is not a share of an image; give 0 to less than 1.")
        self.flip, self.layers, self.level, self.shift = flip, layers, magnitude / MAX_LEVEL, shift

    def __call__(self, images: Sequence[Image.Image], seeds: Sequence[int] | None = None) -> list[Image.Image]:
        if seeds is None:
            seeds = torch.randint(2**62, (len(images),)).tolist()
        # A stream of its own: the same seed also drew the caption, and the two draws must be independent.
        return [self.view(image, np.random.default_rng([seed, 1])) for image, seed in zip(images, seeds, strict=True)]

    def view(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """Random view of one image.

        Args:
            image: PIL image of any mode.
            generator: Source of randomness.

        Raises:
            TypeError: The image is not a PIL image.
        """
        if not isinstance(image, Image.Image):
            raise TypeError(f"Augmentation takes PIL images, got a {type(image).__name__}.")
        image = to_rgb(image)  # as in evaluation
        if self.flip and generator.random() < 0.5:
            image = ImageOps.mirror(image)
        if self.shift:
            image = _move(image, *(round(generator.uniform(-1, 1) * self.shift * side) for side in image.size))
        for name in generator.choice(list(OPERATIONS), size=self.layers):
            sign = 1 if generator.random() < 0.5 else -1
            image = OPERATIONS[name](image, self.level, sign, generator)
        return image
