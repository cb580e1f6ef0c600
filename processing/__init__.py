"""Strings and photographs to the tensors the model reads."""

from .fonts_clippo import FontChain
from .rendering_clippo import RenderedText, TextRenderer

__all__ = ["FontChain", "RenderedText", "TextRenderer"]
