"""Search in a folder of vectors that `clippo embed` wrote: by a text in any language, or by a picture."""

from clippo.search.index import Hit, SearchIndex

__all__ = ["Hit", "SearchIndex"]
