"""Photos and strings to the inputs of `ClippoModel`."""

from typing import Literal

from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs

from .image_processing_clippo import ClippoImageProcessor, ClippoImageProcessorKwargs
from .tokenization_clippo import ClippoTokenizer


class ClippoTextKwargs(TextKwargs, total=False):
    """
    Keyword arguments that `ClippoTokenizer` knows beside those of every tokenizer.

    canvas_format (`"uint8"`, `"float"` or `"packed"`, *optional*): Form of `text_pixel_values`.
    overflow (`"warn"`, `"raise"` or `"ignore"`, *optional*): What to do with a text that does not fit on the canvas.
    """

    canvas_format: Literal["uint8", "float", "packed"] | None
    overflow: Literal["warn", "raise", "ignore"] | None


class ClippoProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of `ClippoProcessor`, by modality."""

    text_kwargs: ClippoTextKwargs
    images_kwargs: ClippoImageProcessorKwargs
    _defaults = {}


class ClippoProcessor(ProcessorMixin):
    """
    Image processor and text renderer in one.

    Args:
        image_processor (`ClippoImageProcessor`): Makes `pixel_values` of photos.
        tokenizer (`ClippoTokenizer`): Makes `text_pixel_values` of strings.
    """

    valid_processor_kwargs = ClippoProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_size(cls, size: int | list[int], **tokenizer_kwargs) -> "ClippoProcessor":
        """Processor of a new model: photos and text canvases of `size`, an int or [height, width] in pixels."""
        return cls(ClippoImageProcessor(size=size), ClippoTokenizer(canvas_size=size, **tokenizer_kwargs))

    def __call__(self, images=None, text=None, **kwargs) -> BatchFeature:
        """
        Prepares photos, texts or both; pairs are by position, and for zero-shot their numbers may differ.

        Args:
            images: One picture or several, in any form that `ClippoImageProcessor` takes.
            text: One string or several, as `ClippoTokenizer` takes them.
            kwargs: Options of either (`return_tensors`, `size`, `canvas_format`, ...), or `images_kwargs={...}` and
                `text_kwargs={...}`.

        Returns:
            `BatchFeature` with `pixel_values` (N, 3, H, W), float32 in [-1, 1], if there are images, and
            `text_pixel_values` (M, 1, H, W), uint8 unless the tokenizer says otherwise, if there is text.

        Raises:
            `ValueError`: neither images nor text.
        """
        if images is None and text is None:
            raise ValueError("There are neither images nor text to process; pass images=, text= or both.")
        merged = self._merge_kwargs(ClippoProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        data = {}
        if text is not None:
            data.update(self.tokenizer(text, **merged["text_kwargs"]))
        if images is not None:
            data.update(self.image_processor(images, **merged["images_kwargs"]))
        return BatchFeature(data)
