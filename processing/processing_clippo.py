"""Images and strings to the inputs of `ClippoModel`."""

import os
from dataclasses import asdict

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, TextKwargs
from transformers.utils import IMAGE_PROCESSOR_NAME

from .auto_map_clippo import warn_of_foreign_entries
from .bytes_clippo import ByteStreamer, to_labels, to_text
from .canvas_clippo import CanvasFormat, Overflow
from .image_processing_clippo import ClippoImageProcessor, ClippoImageProcessorKwargs
from .layout_question_clippo import QuestionLayout, draw_questions, pair_questions
from .tokenization_clippo import ClippoTokenizer


class ClippoTextKwargs(TextKwargs, total=False):
    """Keyword arguments of `ClippoTokenizer` beside those of every tokenizer.

    Args:
        canvas_format: Format of `text_pixel_values`: "uint8", "float" or "packed".
        overflow: Reaction to a text that does not fit on the canvas: "warn", "raise" or "ignore".
    """

    canvas_format: CanvasFormat | None
    overflow: Overflow | None


class ClippoProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of `ClippoProcessor`, by modality."""

    text_kwargs: ClippoTextKwargs
    images_kwargs: ClippoImageProcessorKwargs
    _defaults = {}


class ClippoProcessor(ProcessorMixin):
    """Image processor and text renderer in one object.

    Args:
        image_processor: A `ClippoImageProcessor`, which makes `pixel_values` of images.
        tokenizer: A `ClippoTokenizer`, which makes `text_pixel_values` of strings.
        question_layout: Layout of questions and their images: the fields of `QuestionLayout` as a dict, or its `place`
            alone. It is saved, since a model needs the layout it was trained with. None is the default layout.

    Example:
        >>> from PIL import Image
        >>> from clippo import ClippoProcessor
        >>> processor = ClippoProcessor.from_size(64)
        >>> image = Image.new("RGB", (80, 60))
        >>> inputs = processor(images=image, text=["a cat", "a dog"], return_tensors="pt")
        >>> {name: tuple(values.shape) for name, values in sorted(inputs.items())}
        {'pixel_values': (1, 3, 64, 64), 'text_pixel_values': (2, 1, 64, 64)}
        >>> processor(images=image, questions="what is it?", return_tensors="pt")["pixel_values"].shape
        torch.Size([1, 3, 64, 64])
    """

    valid_processor_kwargs = ClippoProcessorKwargs

    def __init__(self, image_processor=None, tokenizer=None, question_layout=None, **kwargs):
        if question_layout is not None:
            self.question_layout = asdict(QuestionLayout.from_options(question_layout))
        warn_of_foreign_entries(kwargs.pop("auto_map", None), type(self).__name__)
        super().__init__(image_processor, tokenizer, **kwargs)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Saves as transformers does, with `preprocessor_config.json` beside, which AutoFeatureExtractor reads."""
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        self.image_processor.to_json_file(os.path.join(save_directory, IMAGE_PROCESSOR_NAME))
        return saved

    @classmethod
    def from_size(cls, size: int | list[int], **tokenizer_kwargs) -> "ClippoProcessor":
        """Makes the processor of a new model.

        Args:
            size: Size of images and text canvases in pixels, an int or [height, width].
            **tokenizer_kwargs: Options of `ClippoTokenizer`.
        """
        return cls(ClippoImageProcessor(size=size), ClippoTokenizer(canvas_size=size, **tokenizer_kwargs))

    def __call__(
        self, images=None, text=None, questions=None, question_layout=None, targets=None, **kwargs
    ) -> BatchFeature:
        """Prepares images, texts or both; or images with questions drawn on them; and texts to be generated.

        Images and texts belong together by position. For zero-shot classification their numbers may differ.

        Args:
            images: One image or several, in any form that `ClippoImageProcessor` takes.
            text: One string or several, as `ClippoTokenizer` takes them.
            questions: One string or several: one for each image, many for one image, or a list of them for each image.
                Each question is drawn on one canvas with its image, or with the layout "two_canvas" on its own.
            question_layout: As in the constructor, for this call. A dict changes single fields.
            targets: One string or several that the model learns to generate. They may be given alone.
            **kwargs: Options of either part (`return_tensors`, `size`, `canvas_format`, ...), or `images_kwargs={...}`
                and `text_kwargs={...}`.

        Returns:
            `BatchFeature`. With images it has `pixel_values` (N, 3, H, W), float32 in [-1, 1]. With text it has
            `text_pixel_values` (M, 1, H, W), uint8 unless the tokenizer has another format. With questions
            `pixel_values` has one canvas for each of them; `canvas_format="uint8"` leaves it uint8. With the layout
            "two_canvas" it has the images, `text_pixel_values` the questions, and `image_index` int64 (M,) the image of
            each question where their numbers differ. With targets it has `labels`, int64 (N, L): byte ids, 1 at the
            end, then -100. They are tensors whatever `return_tensors` says.

        Raises:
            ValueError: Neither images nor text are given, or questions come without images or with options that
                they do not take.
        """
        if targets is not None:
            return self._with_targets(targets, images, text, questions, question_layout, **kwargs)
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

    def _with_targets(self, targets, images, text, questions, question_layout, **kwargs) -> BatchFeature:
        inputs = BatchFeature({})
        if images is not None or text is not None or questions is not None:
            inputs = self(images, text, questions, question_layout, **kwargs)
        labels = to_labels([targets] if isinstance(targets, str) else list(targets))
        return BatchFeature({**inputs, **BatchFeature({"labels": labels}, tensor_type="pt")})

    def batch_decode(self, sequences, **kwargs) -> list[str]:
        """Converts byte ids (B, L) of `generate` to texts. Keywords of other tokenizers have no effect."""
        return [self.decode(ids) for ids in sequences]

    def decode(self, token_ids, **kwargs) -> str:
        """Converts byte ids (L,) to a text, up to the end id. Bytes that are not UTF-8 become U+FFFD."""
        return to_text(token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids)

    def streamer(self) -> ByteStreamer:
        """Makes a streamer for `generate`."""
        return ByteStreamer()

    def _with_questions(self, images, text, questions, question_layout, canvas_format=None, **kwargs) -> BatchFeature:
        if images is None:
            raise ValueError("There are questions but no images; pass images= to draw them on.")
        if text is not None:
            raise ValueError("text= and questions= do not go together; a question is drawn on the canvas of its image.")
        layout = QuestionLayout.from_options(getattr(self, "question_layout", None))
        layout = QuestionLayout.from_options(question_layout, layout)
        of_images, of_text = (kwargs.get(name) or {} for name in ("images_kwargs", "text_kwargs"))
        canvas_format = canvas_format or of_text.get("canvas_format")
        if layout.place == "two_canvas":
            return self._on_two_canvases(images, questions, canvas_format, **kwargs)
        fixed = {"size", "do_resize", "do_center_crop", "crop_size"} & {*kwargs, *of_images}
        if self.image_processor.do_center_crop:
            fixed.add("do_center_crop")
        if not self.image_processor.do_resize:
            fixed.add("do_resize")
        if fixed:
            raise ValueError(
                f"{', '.join(sorted(fixed))} cannot be chosen with questions: the canvas is the "
                f"tokenizer's, {self.tokenizer.canvas_size}, and the layout decides the part that the image takes."
            )
        if canvas_format not in (None, "float", "uint8"):
            raise ValueError(f"canvas_format={canvas_format!r} cannot hold an image; choose 'float' or 'uint8'.")
        merged = self._merge_kwargs(ClippoProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        options, overflow = dict(merged["images_kwargs"]), merged["text_kwargs"].get("overflow")
        tensor_type = options.pop("return_tensors", None)
        if canvas_format is not None:
            options |= dict.fromkeys(("do_rescale", "do_normalize"), canvas_format == "float")
        canvases = draw_questions(
            self.tokenizer.renderer,
            self.image_processor,
            *pair_questions(images, questions),
            layout,
            overflow or self.tokenizer.overflow,
            **options,
        )
        if canvas_format == "uint8":
            _check_whole(canvases.dtype)
        return BatchFeature({"pixel_values": canvases if tensor_type else list(canvases)}, tensor_type=tensor_type)

    def _on_two_canvases(self, images, questions, canvas_format, **kwargs) -> BatchFeature:
        """Images, questions, and the image of each question where several are about one image."""
        images, questions = pair_questions(images, questions)
        number: dict[int, int] = {}  # id of an image object -> its number among the different ones
        index = [number.setdefault(id(image), len(number)) for image in images]
        different = [images[index.index(i)] for i in range(len(number))]
        merged = self._merge_kwargs(ClippoProcessorKwargs, tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        of_images, of_text = dict(merged["images_kwargs"]), dict(merged["text_kwargs"])
        if canvas_format is not None:
            of_text["canvas_format"] = canvas_format
            if canvas_format != "packed":
                of_images |= dict.fromkeys(("do_rescale", "do_normalize"), canvas_format == "float")
        data = {**self.tokenizer(questions, **of_text), **self.image_processor(different, **of_images)}
        if canvas_format == "uint8":
            _check_whole(data["pixel_values"][0].dtype)
        if len(different) < len(images):
            data["image_index"] = np.array(index)
        return BatchFeature(data, tensor_type=of_images.get("return_tensors"))


def _check_whole(dtype) -> None:
    if not str(dtype).endswith("uint8"):
        raise ValueError("canvas_format='uint8' needs images of whole numbers, 0..255, but one has floats.")
