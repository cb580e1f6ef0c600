"""Classification heads for images, texts and pairs of texts.

The paper does not define heads; these are designs of this project.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import ImageClassifierOutput, SequenceClassifierOutput
from transformers.utils import can_return_tuple

from .configuration_clippo import ClippoConfig
from .fusion_clippo import ClippoFusion
from .image_side_clippo import ImageTowerLoader
from .labels_clippo import check_labels
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


class ClippoForClassification(ClippoPreTrainedModel):
    """Base of the classification heads: tower, optional fusion, hidden layer and linear layer.

    Args:
        config: Model config.

    Example:
        >>> import clippo
        >>> from clippo.modeling_clippo.classification_clippo import ClippoForClassification
        >>> issubclass(clippo.ClippoForImageClassification, ClippoForClassification)
        True
    """

    # A ClippoModel checkpoint has a projection and a temperature, which a classifier does not use.
    _keys_to_ignore_on_load_unexpected = [r"^logit_(scale|bias)$", r"^(image_)?projection\.", r"^image_model\."]
    _modality = "image"
    _fuses = False  # whether the class reads two canvases of an example, and so `config.num_fusion_layers`

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vision_model = ClippoVisionModel._from_config(config)
        self.fusion = ClippoFusion(config) if self._fuses and config.num_fusion_layers else None
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

    def _encode(self, batches: list[tuple[torch.Tensor, str]], **kwargs) -> list[ClippoVisionOutput]:
        """Outputs of the tower for several batches of pixel values and their modality, from one pass if possible."""
        if is_exporting() or self.vision_model.records(**kwargs):
            return [self.vision_model(values, modality=kind, return_dict=True, **kwargs) for values, kind in batches]
        return self.vision_model.encode(batches, **kwargs)

    def _fuse(self, grids: Sequence[torch.Tensor], kept: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Two grids (B, N, D) of each example, and their kept patches, -> pooled vectors (B, D)."""
        backend = None if is_exporting() else self.vision_model.embeddings.packed_backend()
        return self.fusion(grids, kept, backend)

    def _classify(self, pixels: torch.Tensor, labels: torch.Tensor | None, **kwargs) -> dict[str, Any]:
        return self._score(*self._pool(pixels, **kwargs), labels)

    def _score(
        self, pooled: torch.Tensor, output: ClippoVisionOutput | None, labels: torch.Tensor | None
    ) -> dict[str, Any]:
        """Fields of the output from pooled vectors (B, _pooled_size) and, where there is one, the tower's output."""
        logits = self.classifier(self.classifier_hidden(pooled))  # (B, num_labels)
        loss = None if labels is None else self._loss(logits.float(), labels)
        states, attentions = (None, None) if output is None else (output.hidden_states, output.attentions)
        return {"loss": loss, "logits": logits, "hidden_states": states, "attentions": attentions}

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss_function(check_labels(labels, self.config), logits, self.config)


class ClippoForImageClassification(ImageTowerLoader, ClippoForClassification):
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


class ClippoForSequenceClassification(ClippoForClassification):
    """CLIPPO with a classifier on the pooled rendered text, or on the pooled vectors of two texts.

    With `config.num_text_canvases=2` each text of a pair is encoded alone, and the input of the classifier is u, v,
    |u - v| and u * v of their pooled vectors. With `config.num_fusion_layers` joint blocks read both canvases, and the
    input is their pooled vector.

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
    _fuses = True

    def __init__(self, config: ClippoConfig):
        if config.num_fusion_layers and config.num_text_canvases != 2:
            raise ValueError(
                f"num_fusion_layers={config.num_fusion_layers} reads two canvases, but num_text_canvases="
                f"{config.num_text_canvases}; set num_text_canvases=2, or num_fusion_layers=0 for single texts."
            )
        super().__init__(config)

    @staticmethod
    def _pooled_size(config: ClippoConfig) -> int:
        features = 4 if config.num_text_canvases == 2 and not config.num_fusion_layers else 1
        return config.hidden_size * features

    def _pool(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, ClippoVisionOutput]:
        if self.config.num_text_canvases == 1:
            return super()._pool(pixels, **kwargs)
        canvas_height = None if kwargs.get("interpolate_pos_encoding") else self.config.canvas_size[0]
        pooled, output = super()._pool(split_canvases(pixels, canvas_height), **kwargs)
        if self.fusion is None:
            return pair_features(pooled), output
        kept = (None, None) if output.kept_patches is None else output.kept_patches.chunk(2)
        return self._fuse(output.last_hidden_state.chunk(2), kept), output

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


__all__ = ["ClippoForImageClassification", "ClippoForSequenceClassification"]
