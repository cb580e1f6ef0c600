"""The pictogram data set: icons and emoji of many sets, with words in many languages."""

from clippo.pictograms.build import build_pictograms
from clippo.pictograms.pairs import PictogramPairs
from clippo.pictograms.specs import PictogramSpec
from clippo.pictograms.validation import HeldOutPictograms
from clippo.pictograms.views import PictogramView

__all__ = ["HeldOutPictograms", "PictogramPairs", "PictogramSpec", "PictogramView", "build_pictograms"]
