"""The emoji data set: build, pairs, augmentation, gallery and evaluation."""

from clippo.emoji.augmentation import RandomView
from clippo.emoji.pairs import EmojiPairs

__all__ = ["EmojiPairs", "RandomView"]
