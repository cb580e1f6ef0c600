"""Data sets of image-text pairs, their builders, augmentation and collation."""

from clippo.data.augmentation import RandomView
from clippo.data.collator import ContrastiveCollator
from clippo.data.pairs import EmojiPairs, ImageTextPairs

__all__ = ["ContrastiveCollator", "EmojiPairs", "ImageTextPairs", "RandomView"]
