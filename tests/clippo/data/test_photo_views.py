"""Batched crops and flips: their geometry, their seeds, and the same pictures wherever they are computed."""

import numpy as np
import pytest
import torch
from PIL import Image

from clippo import ClippoProcessor
from clippo.data import ContrastiveCollator, DeviceViews, PhotoAugmentation, PhotoViews
from clippo.data.grey_levels import images_as_levels
from clippo.emoji import RandomView


def smooth(count=6, side=32):
    """Images without hard edges, so that a rounded place changes a pixel by little."""
    y, x = np.mgrid[:side, :side] / side
    planes = [np.stack([x, y, (x + y) / 2], -1) * (100 + 25 * i) for i in range(count)]
    return torch.from_numpy(np.stack(planes).astype(np.uint8)).permute(0, 3, 1, 2)


def test_without_crop_half_of_the_images_are_mirrored_and_the_others_untouched():
    images, seeds = smooth(64), list(range(64))
    views = PhotoViews(32)(images, seeds)
    mirrored = [torch.equal(view, image.flip(2)) for view, image in zip(views, images, strict=True)]
    same = [torch.equal(view, image) for view, image in zip(views, images, strict=True)]
    assert 20 < sum(mirrored) < 44
    assert all(one != other for one, other in zip(mirrored, same, strict=True))


def test_a_seed_flips_what_the_augmentation_of_pil_images_flips():
    images, seeds = smooth(20), list(range(20))
    pil = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    expected = images_as_levels(ClippoProcessor.from_size(32).image_processor, PhotoAugmentation(True, 0)(pil, seeds))
    assert torch.equal(PhotoViews(32)(images, seeds), expected)


def test_a_crop_is_a_part_of_the_image():
    """The values of a ramp say which part is seen: a window that lies inside and keeps at least half of the area."""
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(200, 3, 64, 64).clone()
    rows = PhotoViews(64, flip=False, crop=0.5)(ramp, list(range(200)))[:, 0, 0].float() / 4
    left, right = rows[:, 0], rows[:, -1]
    side = (right - left) / 63
    assert side.min() > 0.5**0.5 - 0.03 and side.max() <= 1
    assert (side**2).mean() == pytest.approx(0.75, abs=0.04)
    assert left.min() >= 0 and left.max() > 10 and right.max() <= 63.5


def test_the_seed_decides():
    views, images = PhotoViews(24, crop=0.3), smooth()
    assert torch.equal(views(images, range(6)), views(images, range(6)))
    assert torch.equal(views(images, range(6))[2:3], views(images[2:3], [2])), "and not the neighbours"
    assert not torch.equal(views(images, range(6)), views(images, range(6, 12)))


def test_float64_gives_the_same_pictures(monkeypatch):
    """Another device rounds otherwise, as float64 does here: at most one grey level, and rarely."""
    pictures = torch.randint(0, 256, (40, 24, 24, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for view, images in ((RandomView(20, dtype=torch.uint8), pictures), (PhotoViews(20, crop=0.4), smooth(40))):
        draws = view.draw(range(40))
        single = view.views(images, draws)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            patch.setattr(type(view), "CHUNK", 7)
            double = view.views(images, draws.to(torch.float64))
        difference = (single.int() - double.int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 0.001


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 0}, "size must be a positive"), ({"size": 8, "crop": 0}, "crop=0 is not a share of the area")],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PhotoViews(**options)


def test_only_grey_levels():
    with pytest.raises(ValueError, match=r"uint8 \(B, 3, H, W\) images, got torch.float32 \(2, 3, 8, 8\); the image"):
        PhotoViews(8)(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("by_number", [False, True])
def test_on_the_device_or_in_the_workers(by_number):
    """The same items give the same batch, whether the collator or the device computes the views."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 4), dtype=np.uint8)
    photos = [Image.fromarray(image[..., :3]) for image in pictures]
    items = [
        {"image": pictures[i] if by_number else photos[i], "picture": i, "text": f"{i}", "seed": 10 + i, "skipped": 0}
        for i in (3, 0, 4)
    ]
    processor = ClippoProcessor.from_size(32)
    if by_number:
        views = RandomView(32, dtype=torch.uint8)
        at_work = ContrastiveCollator(processor, augment=views)
    else:
        views = PhotoViews(32, crop=0.5)
        at_work = ContrastiveCollator(processor, views=views)
    on_device = ContrastiveCollator(processor, views=views, on_device=True, by_number=by_number)
    sent = on_device(items)
    assert ("pixel_values" in sent) != by_number
    expected, batch = at_work(items), DeviceViews(views, pictures if by_number else None)(sent)
    assert list(batch) == list(expected)
    assert torch.equal(batch["pixel_values"], expected["pixel_values"])
    assert torch.equal(batch["text_pixel_values"], expected["text_pixel_values"])


def test_a_batch_for_evaluation_passes():
    batch = {"pixel_values": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}
    assert DeviceViews(PhotoViews(8))(batch)["pixel_values"] is batch["pixel_values"]
