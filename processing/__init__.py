"""Strings and images to tensors. Import it as `clippo.processing`, or simply from `clippo`."""

from .bytes_clippo import ByteStreamer
from .canvas_clippo import RenderedText, RenderOptions
from .fonts_clippo import FontChain
from .image_processing_clippo import ClippoImageProcessor
from .images_clippo import check_image, open_image, to_rgb, upright
from .processing_clippo import ClippoProcessor
from .rendering_clippo import TextRenderer
from .tokenization_clippo import ClippoTokenizer

__all__ = [
    "ByteStreamer",
    "ClippoImageProcessor",
    "ClippoProcessor",
    "ClippoTokenizer",
    "FontChain",
    "RenderOptions",
    "RenderedText",
    "TextRenderer",
    "check_image",
    "open_image",
    "to_rgb",
    "upright",
]
