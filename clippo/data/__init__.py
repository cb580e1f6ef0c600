"""Pairs for contrastive training: sources, samples, mixtures, streams, augmentation and collation."""

from clippo.data.augmentation import PhotoAugmentation
from clippo.data.collator import ContrastiveCollator
from clippo.data.mixture import PairMixture, SourcePairs
from clippo.data.sources import load_rows
from clippo.data.specs import SourceSpec
from clippo.data.streaming import PairStream

__all__ = [
    "ContrastiveCollator",
    "PairMixture",
    "PairStream",
    "PhotoAugmentation",
    "SourcePairs",
    "SourceSpec",
    "load_rows",
]
