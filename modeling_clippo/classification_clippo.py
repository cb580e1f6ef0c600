"""Classification heads for images, texts and visual question answering, with their losses and label checks.

The paper does not define heads; these are designs of this project.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_clippo import ClippoConfig
from .pixels_clippo import is_exporting, size_in_pixels
from .tower_clippo import ClippoPreTrainedModel, ClippoVisionModel, ClippoVisionOutput, closed_keywords


def split_canvases(values: torch.Tensor, canvas_height: int | None) -> torch.Tensor:
    """Split canvases of text pairs, one text below the other, into single canvases.

    Args:
        values: B rendered pairs in any format of the embeddings, twice the height of one canvas: (B, C, 2H, W), or
            packed (B, 2H/16, W/4).
        canvas_height: H in pixels, or None for any height.

    Returns:
        (2B, C, H, W), or packed (2B, H/16, W/4); all first texts, then all second texts.

    Raises:
        ValueError: The height is not that of two canvases.
    """
    height = size_in_pixels(values)[0]
    if values.shape[-2] % 2 or (canvas_height is not None and height != 2 * canvas_height):
        raise ValueError(
            f"The model takes pairs on two canvases of {canvas_height or 'equal'} pixels height, but got "
            f'{height} pixels; give the tokenizer text and text_pair, with pair_layout="two_canvas".'
        )
    return torch.cat(values.chunk(2, dim=-2))


def pair_features(pooled: torch.Tensor) -> torch.Tensor:
    """(2B, D), first texts before second texts -> (B, 4D): u, v, |u - v| and u * v, from which a linear layer compares.

    u and v are first scaled to mean 0 and variance 1. The output of the pooling head is not normalised, and products of
    large numbers would dominate the features.
    """
    u, v = F.layer_norm(pooled, pooled.shape[-1:]).chunk(2)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


class ClippoHeadHiddenLayer(nn.Module):
    """Dropout; with `config.classifier_hidden_size` also a linear layer, tanh and dropout."""

    def __init__(self, in_features: int, config):
        super().__init__()
        self.out_features = config.classifier_hidden_size or in_features
        self.dropout = nn.Dropout(config.classifier_dropout)
        if config.classifier_hidden_size:
            self.linear = nn.Linear(in_features, self.out_features)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, in_features) -> (B, out_features), with dropout before each linear layer, the last one included."""
        pooled = self.dropout(pooled)
        return self.dropout(self.linear(pooled).tanh()) if hasattr(self, "linear") else pooled


def check_labels(labels: torch.Tensor, config) -> torch.Tensor:
    """Check labels and convert them to the type that the loss needs.

    Without `config.problem_type` the labels decide, as in transformers: one label is a regression, whole numbers are
    classes, other numbers are several labels a text. Values are checked on the CPU and outside compiled code only,
    because reading them from an accelerator would make every step wait.

    Returns:
        int64 classes, or float32 for a regression or several labels.

    Raises:
        ValueError: The shape does not fit, a class is not among the labels, or a number is not finite.
    """
    problem, num_labels = config.problem_type, config.num_labels
    whole = _are_whole(labels)
    if problem is None:
        several = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if num_labels == 1 else several
    classes = problem == "single_label_classification"
    one_a_row = classes or (problem == "regression" and num_labels == 1)
    fits = labels.shape[1:] in ((), (1,)) if one_a_row else labels.shape[1:] == (num_labels,)
    if not fits or (classes and not whole):
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit problem_type={problem!r} with "
            f"{num_labels} labels; give {'int64' if classes else 'float'} "
            f"({'B,' if one_a_row else f'B, {num_labels}'}), or load the model with another problem_type."
        )
    if classes:
        _check_classes(labels, num_labels)
        return labels.long()
    _check_finite(labels)
    return labels.float()


def _are_whole(labels: torch.Tensor) -> bool:
    return not labels.is_floating_point() and labels.dtype != torch.bool


def _can_check(labels: torch.Tensor) -> bool:
    traced = torch.compiler.is_compiling() or is_exporting()
    return labels.device.type == "cpu" and labels.numel() > 0 and not traced


def _check_finite(labels: torch.Tensor) -> None:
    if _can_check(labels) and not labels.isfinite().all():
        row = int((~labels.isfinite()).flatten(1 if labels.ndim > 1 else 0).nonzero()[0][0])
        raise ValueError(f"The label of row {row} is {labels[row].tolist()}; drop rows without a finite label.")


def _check_classes(labels: torch.Tensor, num_labels: int) -> None:
    if not _can_check(labels) or not (labels != -100).any():
        return
    lowest, highest = labels[labels != -100].aminmax()
    if lowest < 0 or highest >= num_labels:
        raise ValueError(
            f"Label {int(lowest) if lowest < 0 else int(highest)} is not one of the model's {num_labels} labels, 0 to "
            f"{num_labels - 1}; load the model with num_labels=... or correct the data."
        )


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, config) -> torch.Tensor:
    """Loss of `ClippoForVisualQuestionAnswering`, a mean over the batch.

    Args:
        logits: float32 (B, num_labels).
        labels: float (B, num_labels), or int64 (B,) with -100 where no answer is right.
        config: Model config.

    Raises:
        ValueError: The shape does not fit, an answer is not among the labels, or a score is not finite.
    """
    classes = _are_whole(labels)
    binary = config.problem_type == "multi_label_classification"
    if config.problem_type is None:
        binary = not classes
    if labels.shape != (logits.shape[:1] if classes else logits.shape):
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit {config.num_labels} answers and "
            f"a batch of {len(logits)}; give float (B, num_labels) or int64 (B,)."
        )
    if classes:
        _check_classes(labels, config.num_labels)
        # An additional class takes the rows without an answer and is cut off again.
        known = torch.where(labels == -100, config.num_labels, labels).long()
        labels = F.one_hot(known, config.num_labels + 1)[:, :-1]
    else:
        _check_finite(labels)
    scores = labels.to(logits.device, logits.dtype)  # (B, num_labels)
    if binary:
        return F.binary_cross_entropy_with_logits(logits, scores, reduction="sum") / len(logits)
    return F.cross_entropy(logits, scores)


class _ClippoForClassification(ClippoPreTrainedModel):
    """Tower, hidden layer and linear layer, shared by the classification heads."""

    # A ClippoModel checkpoint has a projection and a temperature, which a classifier does not use.
    _keys_to_ignore_on_load_unexpected = [r"^logit_(scale|bias)$", r"^projection\."]
    _modality = "image"

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vision_model = ClippoVisionModel._from_config(config)
        self.classifier_hidden = ClippoHeadHiddenLayer(self._pooled_size(config), config)
        self.classifier = nn.Linear(self.classifier_hidden.out_features, config.num_labels)
        self.post_init()

    @staticmethod
    def _pooled_size(config: ClippoConfig) -> int:
        """Width of the output of `_pool`."""
        return config.hidden_size

    def _pool(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, ClippoVisionOutput]:
        """Features for the classifier, (B, _pooled_size), and the output of the tower."""
        output = self.vision_model(pixels, modality=self._modality, return_dict=True, **kwargs)
        return output.pooler_output, output

    def _classify(self, pixels: torch.Tensor, labels: torch.Tensor | None, **kwargs) -> dict[str, Any]:
        pooled, output = self._pool(pixels, **kwargs)
        logits = self.classifier(self.classifier_hidden(pooled))  # (B, num_labels)
        loss = None if labels is None else self._loss(logits.float(), labels)
        return {"loss": loss, "logits": logits, "hidden_states": output.hidden_states, "attentions": output.attentions}

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss_function(check_labels(labels, self.config), logits, self.config)


class ClippoForImageClassification(_ClippoForClassification):
    """CLIPPO with a classifier on the pooled image.

    Args:
        config: Model config. `num_labels` or `id2label` sets the classes.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32, num_labels=10)
        >>> model = clippo.ClippoForImageClassification(config)
        >>> output = model(pixel_values=torch.zeros(2, 3, 32, 32), labels=torch.tensor([3, 7]))
        >>> output.logits.shape, output.loss.shape
        (torch.Size([2, 10]), torch.Size([]))
    """

    input_modalities = ("image",)

    @closed_keywords
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Classify images.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`.
            labels: int64 (B,) classes; float (B, num_labels) for several labels an image; float (B,) for regression.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            kwargs: As in `ClippoVisionModel.forward`.

        Raises:
            ValueError: A label is not known to the config, or not finite (checked on the CPU only).
        """
        return ImageClassifierOutput(
            **self._classify(pixel_values, labels, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        )


class ClippoForSequenceClassification(_ClippoForClassification):
    """CLIPPO with a classifier on the pooled rendered text, or on the pooled vectors of two texts.

    With `config.num_text_canvases=2` each text of a pair is encoded alone, and the input of the classifier is u, v,
    |u - v| and u * v of their pooled vectors.

    Args:
        config: Model config. `num_labels` or `id2label` sets the classes.

    Example:
        >>> import clippo
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32, num_labels=3)
        >>> model = clippo.ClippoForSequenceClassification(config)
        >>> texts = clippo.ClippoTokenizer(canvas_size=32)(["good", "bad"], return_tensors="pt")
        >>> model(**texts).logits.shape
        torch.Size([2, 3])
    """

    main_input_name = "text_pixel_values"
    input_modalities = ("text",)
    _modality = "text"

    @staticmethod
    def _pooled_size(config: ClippoConfig) -> int:
        return config.hidden_size * (4 if config.num_text_canvases == 2 else 1)

    def _pool(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, ClippoVisionOutput]:
        if self.config.num_text_canvases == 1:
            return super()._pool(pixels, **kwargs)
        canvas_height = None if kwargs.get("interpolate_pos_encoding") else self.config.canvas_size[0]
        pooled, output = super()._pool(split_canvases(pixels, canvas_height), **kwargs)
        return pair_features(pooled), output

    @closed_keywords
    @can_return_tuple
    def forward(
        self,
        text_pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Classify texts or pairs of texts.

        Args:
            text_pixel_values: Rendered texts, see `ClippoVisionModel.forward`. With `num_text_canvases=2`, pairs of
                twice the canvas's height; `hidden_states` and `attentions` are then those of 2B texts, all first texts
                before all second texts.
            labels: int64 (B,) classes; float (B, num_labels) for several labels a text; float (B,) for regression.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            kwargs: As in `ClippoVisionModel.forward`.

        Raises:
            ValueError: A label is not known to the config, or not finite (checked on the CPU only).
        """
        return SequenceClassifierOutput(
            **self._classify(text_pixel_values, labels, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        )


class ClippoForVisualQuestionAnswering(_ClippoForClassification):
    """CLIPPO with a classifier of answers on an image with a question drawn into it.

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
    """

    input_modalities = ("image",)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return answer_loss(logits, labels, self.config)

    @closed_keywords
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Score the answers.

        Args:
            pixel_values: Images with their questions, from `ClippoProcessor(images=..., questions=...)`.
            labels: float (B, num_labels), the score of every answer, 0 to 1; or int64 (B,), the right answer, -100
                where no answer of the config is right. For "multi_label_classification" all answers of such a row are
                wrong; "single_label_classification" ignores the row.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            kwargs: As in `ClippoVisionModel.forward`.

        Returns:
            logits (B, num_labels). The loss is a mean over the batch, of the sum of the binary cross-entropies of all
            answers or of the softmax cross-entropy. Without `config.problem_type`, float labels mean the former.
        """
        return ImageClassifierOutput(
            **self._classify(pixel_values, labels, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        )


__all__ = ["ClippoForImageClassification", "ClippoForSequenceClassification", "ClippoForVisualQuestionAnswering"]
