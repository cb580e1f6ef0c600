"""Every operation of RandAugment does the known thing, leaves the picture alone at its neutral level, and is seeded."""

import numpy as np
import pytest
from PIL import Image

from clippo.data.augmentation import GREY, OPERATIONS, PhotoAugmentation

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8))
NEUTRAL = {
    "Rotate": 0.0, "ShearX": 0.0, "ShearY": 0.0, "TranslateX": 0.0, "TranslateY": 0.0, "Cutout": 0.0,
    "SolarizeAdd": 0.0, "Solarize": 1.0, "Color": 0.5, "Contrast": 0.5, "Brightness": 0.5, "Sharpness": 0.5,
}  # fmt: skip


def apply(name, level, image=PICTURE, sign=1):
    return OPERATIONS[name](image, level, sign, np.random.default_rng(1))


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", OPERATIONS)
def test_changes_the_picture_and_not_its_size(name):
    before = pixels(PICTURE)
    changed = apply(name, 0.9)
    assert changed.size == PICTURE.size and changed.mode == "RGB"
    if name not in ("AutoContrast",):  # this one already uses the whole range
        assert (pixels(changed) != before).any()
    assert (pixels(PICTURE) == before).all(), "the original stays"


@pytest.mark.parametrize(("name", "level"), NEUTRAL.items())
def test_neutral_level(name, level):
    assert np.abs(pixels(apply(name, level)) - pixels(PICTURE)).max() <= 1


def test_known_results():
    before = pixels(PICTURE)
    assert (pixels(apply("Invert", 1)) == 255 - before).all()
    assert (pixels(apply("Posterize", 0.5)) == before // 64 * 64).all()
    assert (pixels(apply("Solarize", 0.5)) == np.where(before >= 128, 255 - before, before)).all()
    assert (pixels(apply("SolarizeAdd", 0.5)) == np.where(before < 128, before + 55, before)).all()
    shifted = pixels(apply("TranslateX", 1.0))  # 100 of 331 pixels: 18 of 60
    assert (shifted[:, :40] == before[:, 18:58]).all() and (shifted[:, -17:] == GREY).all()
    assert (pixels(apply("TranslateX", 1.0, sign=-1))[:, :17] == GREY).all()
    hole = (pixels(apply("Cutout", 1.0)) == GREY).all(-1)
    assert 25 <= hole.sum() <= 100  # a square of 10 pixels, cut at the border
    dull = Image.new("RGB", (8, 8), (100, 100, 100))
    dull.putpixel((0, 0), (150, 150, 150))
    assert pixels(apply("AutoContrast", 0, dull)).max() == 255


def test_pictures_are_opened_as_in_evaluation():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    deep = Image.fromarray(np.full((4, 4), 30000, np.uint16))
    augment = PhotoAugmentation(flip=True, layers=0)
    for image, value in ((clear, 255), (deep, 30000 >> 8)):
        (seen,) = augment([image], [0])
        assert (pixels(seen) == value).all() and seen.mode == "RGB"


def test_the_seed_decides_and_batch_mates_do_not():
    augment = PhotoAugmentation()
    one = augment([PICTURE, PICTURE, PICTURE], [1, 2, 3])
    other = augment([PICTURE, PICTURE], [3, 1])
    assert (pixels(one[2]) == pixels(other[0])).all() and (pixels(one[0]) == pixels(other[1])).all()
    assert (pixels(one[0]) != pixels(one[1])).any()


def test_flips_alone():
    views = PhotoAugmentation(layers=0)([PICTURE] * 200, list(range(200)))
    mirrored = sum((pixels(view) == pixels(PICTURE)[:, ::-1]).all() for view in views)
    same = sum((pixels(view) == pixels(PICTURE)).all() for view in views)
    assert mirrored + same == 200 and 70 < mirrored < 130


def test_bad_options():
    with pytest.raises(ValueError, match=r"magnitude of 0\.\.10, got 2 and 11"):
        PhotoAugmentation(magnitude=11)
    with pytest.raises(TypeError, match="takes PIL images, got a ndarray"):
        PhotoAugmentation()([pixels(PICTURE)], [1])


def test_shifts_repeat_the_border():
    rows = np.arange(100, dtype=np.uint8).reshape(10, 10)
    picture = Image.fromarray(np.stack([rows] * 3, -1))
    views = [pixels(view)[..., 0] for view in PhotoAugmentation(False, 0, shift=0.3)([picture] * 100, range(100))]
    moves = set()
    for view in views:
        across, down = int(view[5, 5]) % 10 - 5, int(view[5, 5]) // 10 - 5  # where the centre came from
        source = np.arange(10)
        expected = rows[(source + down).clip(0, 9)[:, None], (source + across).clip(0, 9)]
        np.testing.assert_array_equal(view, expected)
        moves.add((across, down))
    assert {move for pair in moves for move in pair} == set(range(-3, 4)) and len(moves) > 20
    with pytest.raises(ValueError, match=r"shift=1\.5 is not a share of an image"):
        PhotoAugmentation(shift=1.5)
