"""PyTorch CLIPPO: one vision transformer embeds images and rendered text.

*Image-and-Language Understanding from Pixels Only*, Tschannen, Mustafa, Houlsby, CVPR 2023 (arXiv 2212.08045). Official
code: big_vision `models/proj/clippo/one_tower.py` and `models/vit.py`.

This file holds ClippoModel. All model classes name it as their module, so transformers copies it and the files that it
imports beside a saved checkpoint.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple, logging
from transformers.utils.generic import maybe_autocast

from .backbone_clippo import ClippoBackbone
from .captioning_clippo import Captioning
from .classification_clippo import ClippoForImageClassification, ClippoForSequenceClassification
from .configuration_clippo import ClippoConfig
from .decoder_clippo import ClippoDecoder
from .generation_clippo import ClippoForConditionalGeneration
from .grad_cache_clippo import Batch, cut_batches, grad_cache
from .image_side_clippo import ImageSide, check_text_pairs
from .loss_clippo import ContrastiveLoss, contrastive_loss
from .pipeline_clippo import ClippoVisualQuestionAnsweringPipeline  # noqa: F401 - copied because it is imported here
from .pipeline_generation_clippo import ClippoImageTextToTextPipeline  # noqa: F401 - likewise
from .pixels_clippo import is_bit_packed, is_exporting
from .question_answering_clippo import ClippoForVisualQuestionAnswering
from .router_losses_clippo import auxiliary_loss, router_sums, sum_over_processes
from .tower_clippo import ClippoPreTrainedModel, ClippoVisionModel, ClippoVisionOutput, closed_keywords

logger = logging.get_logger(__name__)


@dataclass
class ClippoOutput(ModelOutput):
    """Output of `ClippoModel` for images with texts. B_i images, B_t texts, E = config.projection_dim.

    Args:
        loss: Scalar, if asked for: the contrastive loss of the config, in which text i belongs to image i.
        logits_per_image: float32 (B_i, B_t), the scaled cosines plus the bias if there is one. None in a training step.
        logits_per_text: float32 (B_t, B_i), the transpose.
        text_embeds: float32 (B_t, E), unit length.
        image_embeds: float32 (B_i, E), unit length. The first sentences of text-text pairs follow the images.
        text_model_output: Tower output for the texts. None after encoding in micro-batches.
        vision_model_output: Tower output for the images. None after encoding in micro-batches, and without images.
        loss_per_pair: float32 (B_t,), with the loss: mean of both directions, detached.
        hit_per_pair: float32 (B_t,), with the loss: 1, 0.5 or 0, the share of the two directions in which the partner
            has the highest score among all rows of the loss. Its mean is R@1 in the batch.
        aux_loss: Scalar, in a training step of a model with experts: the weighted losses of the routers, which `loss`
            contains.
        expert_tokens: float32 (blocks with experts, 2, experts), in such a step: the tokens that chose each expert, of
            the images and of the texts of this process, detached.
        caption_loss: Scalar, with captions: the mean over their bytes, detached. `loss` contains it, weighted.

    Example:
        >>> import clippo, torch
        >>> model = clippo.ClippoModel(clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32))
        >>> texts = clippo.ClippoTokenizer(canvas_size=32)(["a", "b"], return_tensors="pt")
        >>> output = model.eval()(pixel_values=torch.zeros(1, 3, 32, 32), **texts)
        >>> output.logits_per_image.shape, output.text_embeds.shape
        (torch.Size([1, 2]), torch.Size([2, 768]))
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_model_output: ClippoVisionOutput | None = None
    vision_model_output: ClippoVisionOutput | None = None
    loss_per_pair: torch.Tensor | None = None
    hit_per_pair: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None
    expert_tokens: torch.Tensor | None = None
    caption_loss: torch.Tensor | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(v.to_tuple() if isinstance(v, ModelOutput) else v for v in self.values())


def normalize(features: torch.Tensor) -> torch.Tensor:
    """Scale vectors to unit length in float32. The official epsilon is added to the norm (`one_tower.py`)."""
    features = features.float()
    return features / (features.norm(dim=-1, keepdim=True) + 1e-8)


class ClippoModel(ImageSide, Captioning, ClippoPreTrainedModel):
    """CLIPPO: the tower, the projection into the embedding space, the temperature.

    One pass of the tower encodes a whole step: images and texts are one packed sequence. With another
    `config.image_tower` the tower `vision_model` reads texts, and `image_model` or another model reads images.

    Set `micro_batch_size` to train with batches larger than memory. A training step then encodes as many patches at a
    time as that many full canvases have, keeps their embeddings only, and encodes them again in backward with the same
    dropout (GradCache, arXiv 2101.06983). Loss and gradients are those of the whole batch. The attribute is not saved.

    Args:
        config: Model config.

    Example:
        >>> import clippo, torch
        >>> model = clippo.ClippoModel(clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32))
        >>> model.get_image_features(torch.zeros(2, 3, 32, 32)).pooler_output.shape
        torch.Size([2, 768])
        >>> texts = clippo.ClippoTokenizer(canvas_size=32)(["cat", "Hund"], return_tensors="pt")
        >>> model.get_text_features(**texts).pooler_output.shape
        torch.Size([2, 768])
    """

    micro_batch_size: int | None = None

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.vision_model = ClippoVisionModel._from_config(config)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim)
        self._add_image_side(config)
        self._add_decoder(config)
        self.logit_scale = nn.Parameter(torch.empty(1))  # one element, not a scalar: FSDP2 cannot shard 0 dimensions
        self.logit_bias = None if config.logit_bias_init_value is None else nn.Parameter(torch.empty(1))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)
            if self.logit_bias is not None:
                init.constant_(self.logit_bias, self.config.logit_bias_init_value)
            for projection in (self.projection, self.image_projection):
                self._init_projection(projection, init.zeros_)

    @closed_keywords
    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False, pooled_only: bool = False, **kwargs
    ) -> ClippoVisionOutput:
        """Embed images. `pooler_output` (B, E) is the projected vector, not normalised, as CLIP's in transformers 5."""
        return self._features(pixel_values, "image", interpolate_pos_encoding, pooled_only, **kwargs)

    @closed_keywords
    @can_return_tuple
    def get_text_features(
        self,
        text_pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        pixel_values: torch.Tensor | None = None,
        pooled_only: bool = False,
        **kwargs,
    ) -> ClippoVisionOutput:
        """Embed rendered texts. `pooler_output` (B, E) is the projected vector, not normalised.

        The trainer of sentence-transformers cuts "text_" off the name, so rendered texts may be `pixel_values` too.
        """
        if (text_pixel_values is None) == (pixel_values is None):
            raise TypeError("get_text_features takes one batch of rendered texts; pass text_pixel_values.")
        if text_pixel_values is None:
            text_pixel_values = pixel_values
            if not is_bit_packed(pixel_values) and pixel_values.shape[1] != 1:
                raise ValueError(
                    f"pixel_values of shape {tuple(pixel_values.shape)} are images; rendered texts have one channel. "
                    "Pass them as text_pixel_values."
                )
        return self._features(text_pixel_values, "text", interpolate_pos_encoding, pooled_only, **kwargs)

    @closed_keywords
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        first_text_pixel_values: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        caption_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> ClippoOutput | ClippoVisionOutput:
        """Score images against texts.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`.
            text_pixel_values: Rendered texts in the same formats.
            return_loss: Compute the contrastive loss. None means: only in training with gradients. The negatives are
                the rows of all processes in training, and of the local batch otherwise. Text i belongs to image i.
                With K times as many texts as images, texts i, B + i, 2B + i, ... belong to image i, and the loss is the
                mean over the K sets of texts. An image is then encoded once for K captions, and captions of different
                sets are not each other's negatives.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            first_text_pixel_values: Rendered texts in place of images, the first sentences of text-text pairs. They are
                rows after the images, and their partners come last in each set of `text_pixel_values`.
            image_embeds: float (B_i, E), vectors in the place of images: those of `config.image_tower`, or those of
                this model's own image side. They are normalised here and have no gradient. Where the config has
                `image_embed_dim`, they are that wide and are projected first.
            caption_ids: int64 (B_i or K*B_i, L), captions as byte ids, -100 after the end. Their loss is added, see
                `captioning_clippo.py`.
            kwargs: As in `ClippoVisionModel.forward`.

        Returns:
            `ClippoOutput` for both sides, without logits in a training step. For one side alone the output of the
            tower: `last_hidden_state` (B, N, D) and `pooler_output` (B, D) before the projection.

        Raises:
            ValueError: Neither side was given; the number of texts does not fit the other side; hidden states or
                attentions were asked for in a step with micro-batches; given vectors have another width; images were
                given, and another model makes the image vectors.
        """
        kwargs["interpolate_pos_encoding"] = interpolate_pos_encoding
        given = [] if image_embeds is None else [self.given_image_features(image_embeds)]
        if given and pixel_values is not None:
            raise ValueError("Both pixel_values and image_embeds were given; pass images or their vectors.")
        if first_text_pixel_values is not None:
            images = image_embeds if pixel_values is None else pixel_values
            check_text_pairs(images, first_text_pixel_values, text_pixel_values)
        elif (pixel_values is None and not given) or text_pixel_values is None:
            return self._encode_one_side(pixel_values, text_pixel_values, return_loss=return_loss, **kwargs)
        # A pipeline does not call eval(), so a model may come in training mode, without gradients, with many labels.
        learning = self.training and torch.is_grad_enabled()
        return_loss = learning if return_loss is None else return_loss
        kwargs["micro_batch_size"] = self.micro_batch_size if learning and return_loss else None

        batches = [(pixel_values, "image"), (first_text_pixel_values, "text"), (text_pixel_values, "text")]
        batches = [batch for batch in batches if batch[0] is not None]
        if learning and return_loss and self.config.num_experts:
            kwargs["router_statistics"] = []
        # The loss needs pooled vectors only; putting the tokens back on their canvases would cost memory for nothing.
        pooled_only = learning and return_loss and caption_ids is None
        features, outputs = self._embed_sides(batches, pooled_only=pooled_only, **kwargs)
        features = [vectors.to(features[-1].device) for vectors in given] + features
        scores = self._score(
            torch.cat(features[:-1]), features[-1], return_loss, with_logits=not (return_loss and learning)
        )
        scores |= self._router_scores(kwargs.get("router_statistics"), scores["loss"])
        vision_output = outputs[0] if outputs and pixel_values is not None else None
        text_output = outputs[-1] if outputs else None
        scores |= self._caption_scores(vision_output, caption_ids, scores["loss"])
        return ClippoOutput(**scores, text_model_output=text_output, vision_model_output=vision_output)

    def _encode_one_side(
        self, pixel_values: torch.Tensor | None, text_pixel_values: torch.Tensor | None, **kwargs
    ) -> ClippoVisionOutput:
        """Output of the tower for images or for texts."""
        if kwargs.pop("return_loss"):
            raise ValueError("The contrastive loss needs images and texts; pass pixel_values and text_pixel_values.")
        if pixel_values is None and text_pixel_values is None:
            raise ValueError("No input; pass pixel_values (images), text_pixel_values (rendered text) or both.")
        if text_pixel_values is None:
            return self.image_tower_module()(pixel_values, modality="image", return_dict=True, **kwargs)
        return self.vision_model(text_pixel_values, modality="text", return_dict=True, **kwargs)

    def _features(self, pixels: torch.Tensor, modality: str, interpolate: bool, pooled_only: bool, **kwargs):
        """Output of the tower with the projected vectors in the place of the pooled ones."""
        kwargs |= {"interpolate_pos_encoding": interpolate, "pooled_only": pooled_only, "modality": modality}
        output = self._tower_of(modality)(pixels, return_dict=True, **kwargs)
        output.pooler_output = self._project(output.pooler_output, modality)
        return output

    def _tower_of(self, modality: str) -> ClippoVisionModel:
        return self.image_tower_module() if modality == "image" else self.vision_model

    def _project(self, pooled: torch.Tensor, modality: str) -> torch.Tensor:
        """(B, D) -> (B, E)"""
        return self.project_image_features(pooled) if modality == "image" else self.projection(pooled)

    def _embed_sides(self, batches: list[Batch], **kwargs) -> tuple[list[torch.Tensor], list[ClippoVisionOutput]]:
        """As `_embed`. Images that have a tower of their own are encoded by it, first."""
        if self.image_model is None or batches[0][1] != "image":
            return self._embed(batches, **kwargs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.image_tower != "locked"):
            images, image_outputs = self._embed(batches[:1], **kwargs)
        texts, text_outputs = self._embed(batches[1:], **kwargs)
        return images + texts, image_outputs + text_outputs

    def _embed(
        self, batches: list[Batch], micro_batch_size: int | None = None, pooled_only: bool = False, **kwargs
    ) -> tuple[list[torch.Tensor], list[ClippoVisionOutput]]:
        """Projected vectors (B, E) of each batch, not normalised, and outputs of the tower, if they are kept.

        One pass of the tower encodes all batches. Micro-batches keep projected vectors only.
        """
        if micro_batch_size is not None:
            return self._embed_in_parts(batches, micro_batch_size, **kwargs), []
        tower = self._tower_of(batches[0][1])
        one_by_one = is_exporting() or tower.records(**kwargs)
        if one_by_one:
            outputs = [tower(values, modality=kind, return_dict=True, **kwargs) for values, kind in batches]
        else:
            outputs = tower.encode(batches, pooled_only=pooled_only, **kwargs)
        if one_by_one or self.image_model is not None or not self.config.project_images:
            pairs = zip(outputs, batches, strict=True)
            return [self._project(output.pooler_output, kind) for output, (_, kind) in pairs], outputs
        features = self.projection(torch.cat([output.pooler_output for output in outputs]))
        return list(features.split([len(values) for values, _ in batches])), outputs

    def _embed_in_parts(self, batches: list[Batch], micro_batch_size: int, **kwargs) -> list[torch.Tensor]:
        """Projected vectors of each batch by GradCache. A part has the patches of that many full canvases."""
        if self.vision_model.records(**kwargs):
            raise ValueError(
                f"output_hidden_states=True is not possible with micro_batch_size={micro_batch_size}, which keeps "
                "embeddings only, nor is output_attentions=True; set one of the two."
            )
        if micro_batch_size < 1:
            raise ValueError(
                f"micro_batch_size={micro_batch_size} encodes nothing; set 1 or more, or None for one pass."
            )
        if self.config.expert_capacity_factor is not None:
            logger.warning_once(
                f"expert_capacity_factor={self.config.expert_capacity_factor} drops tokens in each micro-batch, so "
                "loss and gradients are not those of the whole batch; set it to None for exact micro-batches."
            )
        rows, columns = self.config.patch_grid
        parts = cut_batches(batches, self.vision_model.count_patches(batches), micro_batch_size * rows * columns)
        collected = kwargs.pop("router_statistics", None)

        def encode(part: list[Batch]) -> tuple[torch.Tensor, ...]:
            statistics = None if collected is None else []
            features, _ = self._embed(part, pooled_only=True, router_statistics=statistics, **kwargs)
            return torch.cat(features), *(statistics or ())

        features, *statistics = zip(*grad_cache(encode, parts), strict=True)
        if collected is not None:
            collected.extend(sum(block) for block in statistics)
        return list(torch.cat(features).split([len(values) for values, _ in batches]))

    def _router_scores(
        self, statistics: list[torch.Tensor] | None, loss: torch.Tensor | None
    ) -> dict[str, torch.Tensor | None]:
        """Fields of `ClippoOutput` for the routers, from the statistics of the blocks in all passes of a step."""
        if not statistics:
            return {}
        blocks = len(self.config.expert_blocks)
        own = torch.stack(statistics).unflatten(0, (-1, blocks)).sum(0)  # (L, 2, 3 + 3 E)
        aux_loss = auxiliary_loss(sum_over_processes(own), self.config)
        return {"loss": loss + aux_loss, "aux_loss": aux_loss, "expert_tokens": router_sums(own.detach()).assigned}

    def _score(
        self, image_features: torch.Tensor, text_features: torch.Tensor, return_loss: bool, with_logits: bool
    ) -> dict[str, torch.Tensor | None]:
        """Embeddings, logits and loss of `ClippoOutput` from projected vectors (B_i, E) and (B_t, E)."""
        device = image_features.device
        logits, loss = None, ContrastiveLoss(None, None, None)
        with maybe_autocast(device.type, enabled=False):  # cosines and loss in float32
            image_embeds, text_embeds = normalize(image_features), normalize(text_features).to(device)
            scale, bias = self._logit_parameters(device)
            if return_loss:
                loss_type, gather = self.config.loss_type, self.training
                loss = contrastive_loss(image_embeds, text_embeds, scale, bias, loss_type, gather=gather)
            if with_logits:
                logits = image_embeds @ text_embeds.T * scale  # (B_i, B_t)
                logits = logits if bias is None else logits + bias
        return {
            **loss._asdict(),
            "logits_per_image": logits,
            "logits_per_text": None if logits is None else logits.T,
            "text_embeds": text_embeds,
            "image_embeds": image_embeds,
        }

    def _logit_parameters(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Multiplier and bias (1,) of the cosines, float32."""
        # With device_map these parameters of the root may lie on another device than the last layer.
        scale = self.logit_scale.to(device).float().exp()
        if self.config.logit_scale_max is not None:
            scale = scale.clamp(max=float(self.config.logit_scale_max))
        return scale, None if self.logit_bias is None else self.logit_bias.to(device).float()


__all__ = [
    "ClippoBackbone",
    "ClippoDecoder",
    "ClippoForConditionalGeneration",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoModel",
    "ClippoOutput",
    "ClippoPreTrainedModel",
    "ClippoVisionModel",
    "ClippoVisionOutput",
]

# transformers copies the file that a class names as its module, and the files imported there. With this file as the
# module of every class, every saved folder has all the code, and AUTO_MAP needs one file name.
for _name in __all__:
    globals()[_name].__module__ = __name__
