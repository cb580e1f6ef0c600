"""The pipeline for questions about pictures. transformers 5.3 removed its own, and the name of the task with it.

`import clippo` registers it as "clippo-visual-question-answering". A saved checkpoint also names it, in
`config.custom_pipelines`, under the old task: `pipeline("visual-question-answering", folder, trust_remote_code=True)`
runs this file's copy in the folder.
"""

from typing import Any

import torch
from transformers import Pipeline
from transformers.image_utils import load_image

# For transformers: which class of which file in the checkpoint's folder serves the task, and what opens the model.
CUSTOM_PIPELINES = {
    "visual-question-answering": {
        "impl": "pipeline_clippo.ClippoVisualQuestionAnsweringPipeline",
        "pt": ["AutoModelForVisualQuestionAnswering"],
        "type": "multimodal",
    }
}


class ClippoVisualQuestionAnsweringPipeline(Pipeline):
    """Answers questions about pictures with a `ClippoForVisualQuestionAnswering` and its `ClippoProcessor`."""

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(self, top_k: int | None = None, timeout: float | None = None, **kwargs):
        if kwargs:
            raise TypeError(f"This pipeline has no option {', '.join(map(repr, kwargs))}; it has top_k and timeout.")
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise ValueError(f"top_k={top_k!r} is not a number of answers; give 1 or more.")
        return {"timeout": timeout}, {}, {} if top_k is None else {"top_k": top_k}

    def __call__(self, image=None, question=None, **kwargs) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """
        Args:
            image: A picture (PIL image, path or URL) or a list of them. Or, without `question`, what holds both:
                {"image": ..., "question": ...}, a list, data set or generator of such.
            question: A string or a list. One of either goes with all of the other, else they pair up by position.
            kwargs: `top_k`, the number of answers (5); `batch_size`; `timeout` in seconds for pictures from the web.

        Returns:
            [{"score": float, "answer": str}, ...], best first, for one question; a list of such for several. Scores
            are softmax probabilities, or the sigmoid of each answer for "multi_label_classification".

        Raises:
            ValueError: A question without a picture, or numbers that do not fit together.
        """
        if image is None:
            raise ValueError("A question needs a picture: pass image= (PIL image, path or URL) beside question=.")
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
                f"{len(images)} pictures and {len(questions)} questions do not pair up; give one of either, or as many "
                "of both."
            )
        images, questions = (items * (size // len(items)) for items in (images, questions))
        pairs = [{"image": i, "question": q} for i, q in zip(images, questions, strict=True)]
        return super().__call__(pairs[0] if single else pairs, **kwargs)

    def preprocess(self, inputs: dict[str, Any], timeout: float | None = None):
        inputs = inputs if isinstance(inputs, dict) else {"image": inputs}
        missing = [name for name in ("image", "question") if inputs.get(name) is None]
        if missing:
            raise ValueError(
                f"This input comes without {' and '.join(missing)}; each is a dict with 'image' (PIL image, path or "
                "URL) and 'question' (a string)."
            )
        image, question = inputs["image"], inputs["question"]
        if not isinstance(question, str):
            raise ValueError(f"An input has one question, a string, not {question!r}; give an input for each question.")
        if isinstance(image, str):
            image = load_image(image, timeout=timeout)
        canvases = self.processor(images=image, questions=question, return_tensors="pt")
        if len(canvases["pixel_values"]) != 1:
            raise ValueError(f"An input has one picture, not {len(canvases['pixel_values'])}; give an input for each.")
        return canvases

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k: int = 5) -> list[dict[str, Any]]:
        logits = model_outputs["logits"][0].float()  # (num_labels,)
        several = self.model.config.problem_type == "multi_label_classification"
        scores = torch.sigmoid(logits) if several else logits.softmax(-1)
        best = scores.topk(min(top_k, len(scores)))
        names = self.model.config.id2label
        return [
            {"score": s, "answer": names[i]} for s, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Model, processor and code. transformers' own would leave the processor, and with it the layout, behind."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


__all__ = ["ClippoVisualQuestionAnsweringPipeline"]
