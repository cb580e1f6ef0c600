"""The page that runs a model in the browser: its glyph table, its files, a server for trying it."""

from clippo.web.build import build_web
from clippo.web.glyphs import glyph_files

__all__ = ["build_web", "glyph_files"]
