"""Pairs for contrastive training.

A recipe names sources. Data become batches in five steps; read their files in this order:

1. `specs.py`, `sources.py`: a source is opened as rows (`SourceSpec`, `load_rows`).
2. `samples.py`: a row becomes a sample of an image and a text, or of two texts; an unusable row is replaced.
3. `sampling.py`: keys decide which samples a run sees, in which order and with which random numbers.
4. `mixture.py`, `streaming.py`: sources are mixed in every batch by their weights, by row number or as a stream.
5. `collator.py`: samples become the arguments of `ClippoModel.forward`; `augmentation.py`, `photo_views.py` and
   `device_views.py` draw random views of the images, in the workers or on the device.
"""

from clippo.data.augmentation import PhotoAugmentation
from clippo.data.collator import ContrastiveCollator
from clippo.data.device_views import DeviceViews
from clippo.data.mixture import PairMixture, SourcePairs
from clippo.data.photo_views import PhotoViews
from clippo.data.sources import load_rows
from clippo.data.specs import SourceSpec
from clippo.data.streaming import PairStream

__all__ = [
    "ContrastiveCollator",
    "DeviceViews",
    "PairMixture",
    "PairStream",
    "PhotoAugmentation",
    "PhotoViews",
    "SourcePairs",
    "SourceSpec",
    "load_rows",
]
