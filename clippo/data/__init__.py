"""Data sets of pairs: opening sources, drawing from them by keys, mixing them, augmentation, collation."""

from clippo.data.augmentation import RandomView
from clippo.data.collator import ContrastiveCollator
from clippo.data.mixture import PairMixture, SourcePairs
from clippo.data.pairs import EmojiPairs
from clippo.data.photo_augmentation import PhotoAugmentation
from clippo.data.sources import SourceSpec
from clippo.data.streaming import PairStream

__all__ = [
    "ContrastiveCollator",
    "EmojiPairs",
    "PairMixture",
    "PairStream",
    "PhotoAugmentation",
    "RandomView",
    "SourcePairs",
    "SourceSpec",
]
