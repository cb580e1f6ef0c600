"""The emoji data set: build, pairs, augmentation, gallery and evaluation."""

from clippo.emoji.augmentation import RandomView
from clippo.emoji.pairs import EmojiPairs
from clippo.emoji.specs import EmojiSpec

__all__ = ["EmojiPairs", "EmojiSpec", "RandomView"]
