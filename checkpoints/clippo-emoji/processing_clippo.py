"""Photos and strings to the inputs of `ClippoModel`."""

from dataclasses import asdict
from typing import Literal

from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs

from .image_processing_clippo import ClippoImageProcessor, ClippoImageProcessorKwargs
from .layout_question_clippo import QuestionLayout, draw_questions, pair_questions
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
        question_layout (`str` or `dict`, *optional*): How questions are drawn with their pictures: fields of
            `QuestionLayout`, or its `place` alone. Saved, since a model knows only the layout it was trained with.
    """

    valid_processor_kwargs = ClippoProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, question_layout=None, **kwargs):
        if question_layout is not None:
            self.question_layout = asdict(QuestionLayout.from_options(question_layout))
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_size(cls, size: int | list[int], **tokenizer_kwargs) -> "ClippoProcessor":
        """Processor of a new model: photos and text canvases of `size`, an int or [height, width] in pixels."""
        return cls(ClippoImageProcessor(size=size), ClippoTokenizer(canvas_size=size, **tokenizer_kwargs))

    def __call__(self, images=None, text=None, questions=None, question_layout=None, **kwargs) -> BatchFeature:
        """
        Prepares photos, texts or both; pairs are by position, and for zero-shot their numbers may differ. With
        questions, every question is drawn on one canvas with its photo.

        Args:
            images: One picture or several, in any form that `ClippoImageProcessor` takes.
            text: One string or several, as `ClippoTokenizer` takes them.
            questions: One string, or several: one a picture, many for one picture, or a list of them for each picture.
            question_layout: As in the constructor, for this call; a dict changes single fields.
            kwargs: Options of either (`return_tensors`, `size`, `canvas_format`, ...), or `images_kwargs={...}` and
                `text_kwargs={...}`.

        Returns:
            `BatchFeature` with `pixel_values` (N, 3, H, W), float32 in [-1, 1], if there are images, and
            `text_pixel_values` (M, 1, H, W), uint8 unless the tokenizer says otherwise, if there is text. With
            questions `pixel_values` has one canvas for each of them; `canvas_format="uint8"` leaves it uint8.

        Raises:
            `ValueError`: neither images nor text; questions without images, or with options that they do not take.
        """
        if questions is not None:
            return self._with_questions(images, text, questions, question_layout, **kwargs)
        if images is None and text is None:
            raise ValueError("There are neither images nor text to process; pass images=, text= or both.")
        merged = self._merge_kwargs(ClippoProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        data = {}
        if text is not None:
            data.update(self.tokenizer(text, **merged["text_kwargs"]))
        if images is not None:
            data.update(self.image_processor(images, **merged["images_kwargs"]))
        return BatchFeature(data)

    def _with_questions(self, images, text, questions, question_layout, canvas_format=None, **kwargs) -> BatchFeature:
        if images is None:
            raise ValueError("There are questions but no images; pass images=, which the questions are drawn into.")
        if text is not None:
            raise ValueError("text= and questions= do not go together; a question is drawn on the canvas of its image.")
        of_images, of_text = (kwargs.get(name) or {} for name in ("images_kwargs", "text_kwargs"))
        canvas_format = canvas_format or of_text.get("canvas_format")
        fixed = {"size", "do_resize", "do_center_crop", "crop_size"} & {*kwargs, *of_images}
        if self.image_processor.do_center_crop:
            fixed.add("do_center_crop")
        if not self.image_processor.do_resize:
            fixed.add("do_resize")
        if fixed:
            raise ValueError(
                f"{', '.join(sorted(fixed))} cannot be chosen with questions: the canvas is the "
                f"tokenizer's, {self.tokenizer.canvas_size}, and the layout says what part of it the picture takes."
            )
        if canvas_format not in (None, "float", "uint8"):
            raise ValueError(f"canvas_format={canvas_format!r} cannot hold a picture; choose 'float' or 'uint8'.")
        merged = self._merge_kwargs(ClippoProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        options, overflow = dict(merged["images_kwargs"]), merged["text_kwargs"].get("overflow")
        tensor_type = options.pop("return_tensors", None)
        if canvas_format is not None:
            options |= dict.fromkeys(("do_rescale", "do_normalize"), canvas_format == "float")
        layout = QuestionLayout.from_options(getattr(self, "question_layout", None))
        canvases = draw_questions(
            self.tokenizer,
            self.image_processor,
            *pair_questions(images, questions),
            QuestionLayout.from_options(question_layout, layout),
            overflow or self.tokenizer.overflow,
            **options,
        )
        if canvas_format == "uint8" and canvases.dtype != "uint8":
            raise ValueError("canvas_format='uint8' needs images of whole numbers, 0..255, but one has floats.")
        return BatchFeature({"pixel_values": canvases if tensor_type else list(canvases)}, tensor_type=tensor_type)
