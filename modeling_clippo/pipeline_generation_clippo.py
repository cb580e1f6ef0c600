"""Pipeline that writes text about images and drawn prompts.

`import clippo` registers it as "clippo-image-text-to-text". A saved checkpoint names it, in `config.custom_pipelines`,
under the stock task: `pipeline("image-text-to-text", folder, trust_remote_code=True)` runs the copy in the folder.
"""

from collections.abc import Iterator
from threading import Thread
from typing import Any

from transformers import Pipeline

OPTIONS = (
    "max_new_tokens",
    "num_beams",
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "num_return_sequences",
    "streamer",
)


class ClippoImageTextToTextPipeline(Pipeline):
    """Writes texts with a `ClippoForConditionalGeneration` and its `ClippoProcessor`.

    The prompt is drawn. It goes on the image if the processor has a `question_layout`, else on a canvas of its own.

    Example:
        >>> import clippo
        >>> from PIL import Image
        >>> config = clippo.ClippoConfig.from_preset(
        ...     "Ti/16", num_hidden_layers=1, num_decoder_layers=1, image_size=64
        ... )
        >>> model = clippo.ClippoForConditionalGeneration(config)
        >>> processor = clippo.ClippoProcessor.from_size(64)
        >>> write = clippo.ClippoImageTextToTextPipeline(model=model, processor=processor)
        >>> [list(text) for text in write(Image.new("RGB", (80, 60)), "caption en", max_new_tokens=3)]
        [['generated_text']]
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(self, timeout: float | None = None, generate_kwargs: dict | None = None, **kwargs):
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs} | (generate_kwargs or {})
        if kwargs:
            raise TypeError(
                f"This pipeline has no option {', '.join(map(repr, kwargs))}; pass {', '.join(OPTIONS)}, timeout, or "
                "other options of generate in generate_kwargs={...}."
            )
        return {"timeout": timeout}, options, {}

    def __call__(self, images=None, text=None, **kwargs) -> list[dict[str, str]] | list[list[dict[str, str]]]:
        """Write a text about an image, or several.

        Args:
            images: An image (PIL image, path or URL) or a list of images; None for a drawn text alone. Without `text`:
                a dict {"image": ..., "text": ...} of which either may be absent, or a list or generator of such dicts.
            text: A prompt, or a list of prompts. A single image or prompt is used for all of the others; otherwise they
                pair up by position.
            kwargs: `max_new_tokens`, `num_beams` and other options of `generate`; `batch_size`; `timeout` in seconds
                for images from the web; `streamer`, which takes ids.

        Returns:
            [{"generated_text": str}, ...] for one input, with `num_return_sequences` entries; a list of such lists for
            several inputs.

        Raises:
            ValueError: There is neither image nor text, or their numbers do not pair up.
        """
        if text is None:
            if images is None:
                raise ValueError("There is neither an image nor a text; pass images=, text= or both.")
            return super().__call__(images, **kwargs)
        single = isinstance(text, str) and not isinstance(images, list | tuple)
        images = list(images) if isinstance(images, list | tuple) else [images]
        texts = [text] if isinstance(text, str) else list(text)
        size = max(len(images), len(texts))
        if not images or not texts or {len(images), len(texts)} - {1, size}:
            raise ValueError(
                f"{len(images)} images and {len(texts)} texts do not pair up; give one of either, or equally many."
            )
        images, texts = (items * (size // len(items)) for items in (images, texts))
        pairs = [{"image": i, "text": t} for i, t in zip(images, texts, strict=True)]
        return super().__call__(pairs[0] if single else pairs, **kwargs)

    def stream(self, image=None, text: str | None = None, **options) -> Iterator[str]:
        """Write one text and yield it in pieces of whole characters.

        Args:
            image: An image, or None.
            text: The prompt, or None.
            options: As in the call. Beam search cannot stream.

        Example:
            >>> import clippo
            >>> config = clippo.ClippoConfig.from_preset(
            ...     "Ti/16", num_hidden_layers=1, num_decoder_layers=1, image_size=64
            ... )
            >>> model = clippo.ClippoForConditionalGeneration(config)
            >>> processor = clippo.ClippoProcessor.from_size(64)
            >>> write = clippo.ClippoImageTextToTextPipeline(model=model, processor=processor)
            >>> pieces = list(write.stream(text="hello", max_new_tokens=3))
            >>> all(isinstance(piece, str) for piece in pieces)
            True
        """
        streamer, errors = self.processor.streamer(), []

        def write():
            try:
                self({"image": image, "text": text}, streamer=streamer, **options)
            except BaseException as error:  # raised in the thread that reads
                errors.append(error)
                streamer.end()

        thread = Thread(target=write, daemon=True)
        thread.start()
        yield from streamer
        thread.join()
        if errors:
            raise errors[0]

    def preprocess(self, inputs: Any, timeout: float | None = None):
        inputs = inputs if isinstance(inputs, dict) else {"image": inputs}
        image, text = inputs.get("image"), inputs.get("text")
        if image is None and text is None:
            raise ValueError("An input has neither 'image' (PIL image, path or URL) nor 'text' (a string).")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"The text {text!r} is not a string; give one input for each text.")
        if isinstance(image, str):
            image = self.processor.image_processor.fetch_images(image, timeout=timeout)
        drawn_on_image = image is not None and getattr(self.processor, "question_layout", None) is not None
        prompt = {"questions": text or ""} if drawn_on_image else {"text": text}
        return self.processor(images=image, **prompt, return_tensors="pt")

    def _forward(self, model_inputs, **options):
        ids = self.model.generate(**model_inputs, **options)  # (B * num_return_sequences, L)
        rows = len(next(iter(model_inputs.values())))
        return {"ids": ids.unflatten(0, (rows, -1))}

    def postprocess(self, model_outputs) -> list[dict[str, str]]:
        return [{"generated_text": text} for text in self.processor.batch_decode(model_outputs["ids"][0])]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save model, processor and code. The method of transformers would not save the processor with the layout."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


__all__ = ["ClippoImageTextToTextPipeline"]
