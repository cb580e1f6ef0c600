"""Visual question answering on one canvas, or on two that joint blocks read side by side.

The paper draws the question on the image and does not define head and loss. Two canvases follow CLIP-ViL (arXiv
2107.06383), which feeds the grid of an image before pooling and a question into joint layers.
"""

import torch
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import can_return_tuple

from .classification_clippo import ClippoForClassification
from .labels_clippo import answer_loss
from .pixels_clippo import is_exporting
from .tower_clippo import ClippoVisionOutput, closed_keywords


class ClippoForVisualQuestionAnswering(ClippoForClassification):
    """CLIPPO with a classifier of answers to a question about an image.

    Without fusion the question is drawn on the image. With `config.num_fusion_layers` question and image have a canvas
    each, and joint blocks read the grids of both.

    The answers are those of `config.id2label`. The two answers "false" and "true" make a classifier of statements about
    an image. `config.problem_type` names the loss: "multi_label_classification" (several answers may be right) or
    "single_label_classification". The paper does not define head and loss.

    Args:
        config: Model config. `id2label` holds the answers.

    Example:
        >>> import clippo
        >>> from PIL import Image
        >>> answers = {0: "yes", 1: "no"}
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=64, id2label=answers)
        >>> model = clippo.ClippoForVisualQuestionAnswering(config)
        >>> processor = clippo.ClippoProcessor.from_size(64)
        >>> inputs = processor(images=Image.new("RGB", (80, 60)), questions="is it red?", return_tensors="pt")
        >>> model(**inputs).logits.shape
        torch.Size([1, 2])
        >>> config.num_fusion_layers = 1
        >>> model = clippo.ClippoForVisualQuestionAnswering(config)
        >>> questions = processor.tokenizer(["is it red?", "is it big?"], return_tensors="pt")
        >>> images = processor(images=Image.new("RGB", (80, 60)), return_tensors="pt")
        >>> model(**questions, image_grid=model.get_grid_features(**images)).logits.shape
        torch.Size([2, 2])
    """

    input_modalities = ("image",)
    _fuses = True

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return answer_loss(logits, labels, self.config)

    @closed_keywords
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        text_pixel_values: torch.Tensor | None = None,
        image_grid: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        question_tokens: torch.Tensor | None = None,
        question_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Score the answers.

        Args:
            pixel_values: Images with their questions, from `ClippoProcessor(images=..., questions=...)`. With fusion,
                images alone (I, 3, H, W).
            labels: float (B, num_labels), the score of every answer, 0 to 1; or int64 (B,), the right answer, -100
                where no answer of the config is right. For "multi_label_classification" all answers of such a row are
                wrong; "single_label_classification" ignores the row.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            text_pixel_values: With fusion: B rendered questions, in any format of `ClippoVisionModel.forward`.
            image_grid: With fusion, in place of pixel_values: `get_grid_features` of I images, (I, rows, columns, D) in
                any floating-point type; or grids of another tower, of the shape `config.image_grid_shape`.
            image_index: int64 (B,), with fusion: the image of each question. None: question i is about image i, or all
                are about the only image. An image is encoded once for all of its questions.
            question_tokens: With fusion, in place of text_pixel_values: kept tokens of B questions after the last
                LayerNorm, (B, M, D) in any floating-point type, in any order of the patches.
            question_mask: bool (B, M), False for the padding of question_tokens. None: there is no padding.
            kwargs: As in `ClippoVisionModel.forward`.

        Returns:
            logits (B, num_labels). The loss is a mean over the batch, of the sum of the binary cross-entropies of all
            answers or of the softmax cross-entropy. Without `config.problem_type`, float labels mean the former. With
            fusion, `hidden_states` and `attentions` are those of the images.

        Raises:
            ValueError: An input does not go with the number of fusion layers, or images and questions do not pair up.
        """
        kwargs["interpolate_pos_encoding"] = interpolate_pos_encoding
        others = {"image_grid": image_grid, "image_index": image_index, "question_tokens": question_tokens}
        self._check_inputs(pixel_values, {"text_pixel_values": text_pixel_values, **others})
        if self.fusion is None:
            return ImageClassifierOutput(**self._classify(pixel_values, labels, **kwargs))
        given = (question_tokens, question_mask)
        pooled, output = self._read_both(pixel_values, text_pixel_values, image_grid, image_index, given, **kwargs)
        return ImageClassifierOutput(**self._score(pooled, output, labels))

    def _check_inputs(self, pixel_values: torch.Tensor | None, others: dict[str, torch.Tensor | None]) -> None:
        """Raise ValueError if a source is missing, or an input is not for a model with or without fusion."""
        if self.fusion is None:
            given = [name for name, value in others.items() if value is not None]
            if given:
                raise ValueError(
                    f"{', '.join(given)} needs a model with num_fusion_layers of 1 or more; this one reads question "
                    "and image on one canvas, as a processor with another layout than 'two_canvas' draws them."
                )
            if pixel_values is None:
                raise ValueError("pixel_values is missing; pass images with their questions from the processor.")
            return
        questions = [others[name] for name in ("text_pixel_values", "question_tokens") if others[name] is not None]
        if len(questions) == 2:
            raise ValueError("text_pixel_values and question_tokens are the same questions twice; pass one of them.")
        if not questions:
            raise ValueError(
                f"text_pixel_values is missing: with num_fusion_layers={self.config.num_fusion_layers} the question "
                "has its own canvas; give the processor question_layout='two_canvas'."
            )
        if (pixel_values is None) == (others["image_grid"] is None):
            raise ValueError("A question needs its image once; pass either pixel_values or image_grid.")
        if pixel_values is not None and self.config.image_grid_shape is not None:
            raise ValueError(
                f"The model reads grids of another tower, of shape {list(self.config.image_grid_shape)}; pass them as "
                "image_grid in place of pixel_values."
            )

    def _read_both(
        self,
        pixel_values: torch.Tensor | None,
        text_pixel_values: torch.Tensor | None,
        image_grid: torch.Tensor | None,
        image_index: torch.Tensor | None,
        given: tuple[torch.Tensor | None, torch.Tensor | None],
        **kwargs,
    ) -> tuple[torch.Tensor, ClippoVisionOutput | None]:
        """Pooled vectors (B, D) of questions with their images, and the tower's output for the images, if any."""
        batches = [(pixel_values, "image"), (text_pixel_values, "text")]
        batches = [batch for batch in batches if batch[0] is not None]
        outputs = self._encode(batches, **kwargs) if batches else []
        image = outputs[0] if pixel_values is not None else None
        grid = self._given_grid(image_grid) if image is None else image.last_hidden_state  # (I, N, D)
        tokens, kept = given if text_pixel_values is None else (outputs[-1].last_hidden_state, outputs[-1].kept_patches)
        tokens = tokens.to(grid.dtype)  # (B, M, D)
        return self._fuse((tokens, _rows_of(grid, len(tokens), image_index)), (kept, None)), image

    def _given_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """(I, rows, columns, channels) -> (I, N, D) in the type of the weights."""
        shape = self.config.image_grid_shape
        fits = grid.ndim == 4 and grid.is_floating_point()
        if not fits or (
            grid.shape[-1] != self.config.hidden_size if shape is None else list(grid.shape[1:]) != [*shape]
        ):
            wanted = (
                f"(I, rows, columns, {self.config.hidden_size})" if shape is None else f"(I, {str([*shape])[1:-1]})"
            )
            raise ValueError(f"image_grid of shape {tuple(grid.shape)} and type {grid.dtype} is not float {wanted}.")
        grid = grid.to(self.fusion.source_embedding.dtype)
        return grid.flatten(1, 2) if shape is None else self.fusion.grid_projection(grid)


def _rows_of(grid: torch.Tensor, questions: int, index: torch.Tensor | None) -> torch.Tensor:
    """Grids (I, N, D) of images -> the grid of each question (B, N, D).

    Raises:
        ValueError: The numbers do not fit, or the index names no image.
    """
    images = len(grid)
    if index is None:
        if images not in (1, questions):
            raise ValueError(
                f"{images} images and {questions} questions do not pair up; give one image, one for each question, or "
                "image_index."
            )
        return grid if images == questions else grid.expand(questions, -1, -1)
    if index.shape != (questions,) or index.is_floating_point():
        raise ValueError(f"image_index of shape {tuple(index.shape)} is not int64 ({questions},), one a question.")
    if index.device.type == "cpu" and not is_exporting() and not 0 <= int(index.min()) <= int(index.max()) < images:
        raise ValueError(f"image_index has {index.tolist()}; there are {images} images, 0 to {images - 1}.")
    return grid[index]


__all__ = ["ClippoForVisualQuestionAnswering"]
