"""Collation: both sides in order, texts by the tokenizer, pictures by the image processor or the augmentation."""

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.data import ContrastiveCollator
from clippo.emoji import EmojiPairs, RandomView
from clippo.modeling_clippo.pixels_clippo import as_pixels
from clippo.processing import ClippoProcessor

TEXTS = ["cat", "кошка", "猫"]


@pytest.fixture(scope="module")
def processor():
    return ClippoProcessor.from_size(32)


@pytest.fixture
def pairs():
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 4), dtype=np.uint8)
    return [{"image": image, "text": text, "language": "?"} for image, text in zip(images, TEXTS, strict=True)]


def test_without_augmentation_it_is_the_processor(processor, pairs):
    batch = ContrastiveCollator(processor)(pairs)
    expected = processor(images=[pair["image"] for pair in pairs], text=TEXTS, return_tensors="pt")
    assert batch.keys() == {"pixel_values", "text_pixel_values", "return_loss"}
    assert batch["return_loss"] is True
    assert batch["pixel_values"].shape == (3, 3, 32, 32)
    assert batch["pixel_values"].dtype == torch.uint8
    torch.testing.assert_close(as_pixels(batch["pixel_values"], 3), expected["pixel_values"], atol=0, rtol=0)
    torch.testing.assert_close(batch["text_pixel_values"], expected["text_pixel_values"], atol=0, rtol=0)


def test_transparent_pictures_are_seen_on_white(processor, pairs):
    batch = ContrastiveCollator(processor)(pairs)
    for pair in pairs:
        image = Image.fromarray(pair["image"])
        pair["image"] = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    on_white = ContrastiveCollator(processor)(pairs)
    torch.testing.assert_close(batch["pixel_values"], on_white["pixel_values"], atol=0, rtol=0)


def test_packed_texts(pairs):
    batch = ContrastiveCollator(ClippoProcessor.from_size(32, canvas_format="packed"))(pairs)
    assert batch["text_pixel_values"].dtype == torch.int64
    assert batch["text_pixel_values"].shape == (3, 2, 8)


def test_several_texts_an_image_come_in_sets(processor, pairs):
    several = [{**pair, "text": [pair["text"], pair["text"] * 2]} for pair in pairs]
    batch = ContrastiveCollator(processor)(several)
    expected = processor(text=TEXTS + [text * 2 for text in TEXTS], return_tensors="pt")
    torch.testing.assert_close(batch["text_pixel_values"], expected["text_pixel_values"], atol=0, rtol=0)
    several[1]["text"] = ["only one"]
    with pytest.raises(ValueError, match=r"equally many texts, got \[1, 2\]"):
        ContrastiveCollator(processor)(several)


def test_augmentation_takes_the_pictures(processor, pairs):
    torch.manual_seed(0)
    batch = ContrastiveCollator(processor, augment=RandomView(32))(pairs)
    torch.manual_seed(0)
    expected = RandomView(32)(np.stack([pair["image"] for pair in pairs]))
    torch.testing.assert_close(batch["pixel_values"], expected, atol=0, rtol=0)


def test_photos_of_any_size_without_augmentation(processor):
    pairs = [{"image": Image.new("RGB", (40 + i, 20), "red"), "text": text} for i, text in enumerate(TEXTS)]
    assert ContrastiveCollator(processor)(pairs)["pixel_values"].shape == (3, 3, 32, 32)
    with pytest.raises(ValueError, match=r"RGBA images \(H, W, 4\) of one size"):
        ContrastiveCollator(processor, augment=RandomView(32))(pairs)


def test_removed_columns_are_explained(processor):
    with pytest.raises(KeyError, match="remove_unused_columns=False"):
        ContrastiveCollator(processor)([{"image": Image.new("RGB", (8, 8))}])


def test_in_a_data_loader(processor, emoji_folder):
    loader = torch.utils.data.DataLoader(
        EmojiPairs(emoji_folder), batch_size=8, collate_fn=ContrastiveCollator(processor, augment=RandomView(32))
    )
    batch = next(iter(loader))
    assert len(batch["pixel_values"]) == len(batch["text_pixel_values"]) == 8
