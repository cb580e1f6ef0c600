"""Pipeline for visual question answering. transformers 5.3 removed its own, and the name of the task with it.

`import clippo` registers it as "clippo-visual-question-answering". A saved checkpoint also names it, in
`config.custom_pipelines`, under the old task: `pipeline("visual-question-answering", folder, trust_remote_code=True)`
runs the copy of this file in the folder.
"""

from typing import Any

import torch
from transformers import Pipeline


class ClippoVisualQuestionAnsweringPipeline(Pipeline):
    """Answers questions about images with a `ClippoForVisualQuestionAnswering` and its `ClippoProcessor`.

    A model with fusion layers encodes an image once for all questions about it that follow each other.

    Example:
        >>> import clippo
        >>> from PIL import Image
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=64, num_labels=3)
        >>> model = clippo.ClippoForVisualQuestionAnswering(config)
        >>> processor = clippo.ClippoProcessor.from_size(64)
        >>> answer = clippo.ClippoVisualQuestionAnsweringPipeline(model=model, processor=processor)
        >>> len(answer(Image.new("RGB", (80, 60)), "is it red?", top_k=2))
        2
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False
    _last_image = None  # pixel values (1, 3, H, W) and grid (1, rows, columns, D) of the image of the last question

    def _sanitize_parameters(self, top_k: int | None = None, timeout: float | None = None, **kwargs):
        if kwargs:
            raise TypeError(f"This pipeline has no option {', '.join(map(repr, kwargs))}; pass top_k or timeout.")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k={top_k!r} is not a number of answers; give 1 or more.")
        return {"timeout": timeout}, {}, {} if top_k is None else {"top_k": top_k}

    def __call__(self, image=None, question=None, **kwargs) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """Answer one question or several.

        Args:
            image: An image (PIL image, path or URL) or a list of images. Without `question`: a dict {"image": ...,
                "question": ...}, or a list, data set or generator of such dicts.
            question: A string or a list of strings. A single image or question is used for all of the others;
                otherwise they pair up by position.
            kwargs: `top_k`, the number of answers (5); `batch_size`; `timeout` in seconds for images from the web.

        Returns:
            [{"score": float, "answer": str}, ...], best first, for one question; a list of such lists for several.
            Scores are softmax probabilities, or the sigmoid of each answer for "multi_label_classification".

        Raises:
            ValueError: A question has no image, or the numbers of images and questions do not pair up.
        """
        self._last_image = None  # The weights may have changed since the last call.
        if image is None:
            raise ValueError("A question needs an image; pass image= (PIL image, path or URL) beside question=.")
        if question is None:
            return super().__call__(image, **kwargs)
        if not isinstance(question, str | list | tuple):
            raise ValueError(f"question={question!r} is neither a string nor a list of strings.")
        single = isinstance(question, str) and not isinstance(image, list | tuple)
        images = list(image) if isinstance(image, list | tuple) else [image]
        questions = [question] if isinstance(question, str) else list(question)
        size = max(len(images), len(questions))
        if not images or not questions or {len(images), len(questions)} - {1, size}:
            raise ValueError(
                f"{len(images)} images and {len(questions)} questions do not pair up; give one of either, or equally "
                "many."
            )
        images, questions = (items * (size // len(items)) for items in (images, questions))
        pairs = [{"image": i, "question": q} for i, q in zip(images, questions, strict=True)]
        return super().__call__(pairs[0] if single else pairs, **kwargs)

    def preprocess(self, inputs: dict[str, Any], timeout: float | None = None):
        inputs = inputs if isinstance(inputs, dict) else {"image": inputs}
        missing = [name for name in ("image", "question") if inputs.get(name) is None]
        if missing:
            raise ValueError(
                f"This input has no {' and no '.join(missing)}; give a dict with 'image' (PIL image, path or URL) and "
                "'question' (a string)."
            )
        image, question = inputs["image"], inputs["question"]
        if not isinstance(question, str):
            raise ValueError(f"The question {question!r} is not a string; give one input for each question.")
        if isinstance(image, str):
            image = self.processor.image_processor.fetch_images(image, timeout=timeout)
        canvases = self.processor(images=image, questions=question, return_tensors="pt")
        if len(canvases["pixel_values"]) != 1:
            raise ValueError(
                f"An input has {len(canvases['pixel_values'])} images; give one input for each image and question."
            )
        return canvases

    def _forward(self, model_inputs):
        if "text_pixel_values" in model_inputs:
            model_inputs = {**model_inputs}
            model_inputs["image_grid"], model_inputs["image_index"] = self._grids(model_inputs.pop("pixel_values"))
        return self.model(**model_inputs)

    def _grids(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Grids of the different images in (B, 3, H, W), neighbours compared, and the grid of each row, int64 (B,)."""
        last, grid = self._last_image or (pixel_values[:0], None)
        rows = torch.cat([last, pixel_values])
        is_new = (rows[1:] != rows[:-1]).flatten(1).any(1)  # (B,) or (B - 1,) if there is no last image
        is_new = is_new if len(last) else torch.cat([is_new.new_ones(1), is_new])
        grids = [] if grid is None else [grid]
        if is_new.any():
            grids.append(self.model.get_grid_features(pixel_values[is_new]))
        grids = torch.cat(grids)
        self._last_image = pixel_values[-1:], grids[-1:]
        return grids, is_new.cumsum(0) - (0 if len(last) else 1)

    def postprocess(self, model_outputs, top_k: int = 5) -> list[dict[str, Any]]:
        logits = model_outputs["logits"][0].float()  # (num_labels,)
        if not logits.isfinite().all():
            raise ValueError("The scores of the answers are not finite; check the weights of the model.")
        several = self.model.config.problem_type == "multi_label_classification"
        scores = torch.sigmoid(logits) if several else logits.softmax(-1)
        best = scores.topk(min(top_k, len(scores)))
        names = self.model.config.id2label
        return [
            {"score": s, "answer": names[i]} for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save model, processor and code. The method of transformers would not save the processor with the layout."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


__all__ = ["ClippoVisualQuestionAnsweringPipeline"]
