"""The pictogram data set: icons and emoji of many sets, with words in many languages."""

from clippo.pictograms.build import build_pictograms

__all__ = ["build_pictograms"]
