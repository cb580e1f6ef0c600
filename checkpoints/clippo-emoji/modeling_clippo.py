"""PyTorch CLIPPO: one vision transformer that embeds photographs and rendered text.

*Image-and-Language Understanding from Pixels Only*, Tschannen, Mustafa, Houlsby, CVPR 2023 (arXiv 2212.08045). Official
code: big_vision `models/proj/clippo/one_tower.py` and `models/vit.py`.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutput, SequenceClassifierOutput
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.generic import maybe_autocast, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_clippo import ClippoConfig
from .contrast_clippo import check_text_pairs, in_micro_batches
from .embeddings_clippo import ClippoEmbeddings, KeptPatches
from .encoder_clippo import ClippoAttention, ClippoAttentionPoolingHead, ClippoEncoder, ClippoEncoderLayer
from .heads_clippo import ClippoHeadHiddenLayer, answer_loss, check_labels, pair_features, split_canvases
from .initialization_clippo import initialize_tower_module, lecun_normal
from .loss_clippo import contrastive_loss
from .model_card_clippo import model_card
from .pipeline_clippo import CUSTOM_PIPELINES


@dataclass
class ClippoOutput(ModelOutput):
    """What `ClippoModel` returns for images and texts together. B_i images, B_t texts, E = config.projection_dim.

    Args:
        loss: Scalar, when asked for: the config's contrastive loss, image i belonging to text i.
        logits_per_image: float32 (B_i, B_t), the scaled cosine, plus the bias if there is one. None in a training step.
        logits_per_text: float32 (B_t, B_i), the transpose.
        text_embeds: float32 (B_t, E), unit length.
        image_embeds: float32 (B_i, E), unit length; the first sentences of text-text pairs follow the images.
        text_model_output: What the tower said about the texts. None after encoding in micro-batches.
        vision_model_output: What the tower said about the images. None likewise, and without images.
        loss_per_pair: float32 (B_t,), with the loss: half of either direction, detached.
        hit_per_pair: float32 (B_t,), with the loss: 1, 0.5 or 0, in how many of the two directions the partner scored
            highest among all that the loss compared; its mean is R@1 in the batch.
    """

    loss: torch.Tensor | None = None
    logits_per_image: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    image_embeds: torch.Tensor | None = None
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None
    loss_per_pair: torch.Tensor | None = None
    hit_per_pair: torch.Tensor | None = None

    def to_tuple(self) -> tuple[Any]:
        return tuple(v.to_tuple() if isinstance(v, ModelOutput) else v for v in self.values())


class ClippoPreTrainedModel(PreTrainedModel):
    """What all CLIPPO models share: loading, the official initialisation, what transformers may do with them."""

    config_class = ClippoConfig
    config: ClippoConfig
    base_model_prefix = "vision_model"  # heads and ClippoModel hold the tower under this name: weights load across
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ClippoEmbeddings", "ClippoEncoderLayer", "ClippoAttentionPoolingHead"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True  # not with skip_blank_patches: how many are left is only known from the data
    _input_embed_layer = "patch_embedding"
    _can_record_outputs = {
        "hidden_states": ClippoEncoderLayer,
        # The layer name keeps the pooling head's attention, which is of another shape, out of the list.
        "attentions": OutputRecorder(ClippoAttention, index=1, layer_name="self_attn"),
    }
    # Losses here are means over the batch; Trainer must not divide them by a number of items (integration with
    # gradient accumulation is wrong otherwise).
    accepts_loss_kwargs = False
    _custom_pipelines = {}  # what a saved folder's config adds for `pipeline`

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, *args, **kwargs):
        """As in transformers; a folder without a README.md also gets one, so that it can go to the hub as it is."""
        auto_map = dict(self.config.auto_map)
        vars(self.config).pop("custom_pipelines", None)  # another head's, if its folder was loaded
        vars(self.config).update(self._custom_pipelines)
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        self.config.auto_map = auto_map  # saving noted this class there; the tower shares its config with the whole
        vars(self.config).pop("custom_pipelines", None)
        readme = Path(save_directory) / "README.md"
        if is_main_process and not readme.exists():
            readme.write_text(self._model_card(), encoding="utf-8")

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args, **kwargs):
        # Pushing puts a generated card over ours; one that somebody wrote, on the hub before, is left alone.
        readme = Path(working_dir) / "README.md"
        if readme.exists() and "automatically generated" in readme.read_text(encoding="utf-8"):
            readme.write_text(self._model_card(), encoding="utf-8")
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _text_options(self, **kwargs) -> dict[str, Any]:
        """Options of the tower for rendered text: whether blank patches are skipped is the config's, unless given."""
        return {"skip_blank_patches": self.config.skip_blank_patches, **kwargs}

    def _model_card(self) -> str:
        return model_card(type(self).__name__, self.config, self.num_parameters())

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False):
        # For classes outside transformers the default skips every module without parameters of its own, and attention,
        # whose parameters sit in its linear layers, would keep their plain normal initialisation. The default guards
        # against code that overwrites loaded weights; `_init_weights` below writes through functions that cannot.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """The official initialisation."""
        super()._init_weights(module)
        initialize_tower_module(module, self.config.hidden_size)
        if isinstance(module, ClippoModel):
            init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            if module.logit_bias is not None:
                init.constant_(module.logit_bias, self.config.logit_bias_init_value)
            lecun_normal(module.projection.weight)
            init.zeros_(module.projection.bias)


class ClippoVisionModel(ClippoPreTrainedModel):
    """The tower: pixels to tokens to one pooled vector. It does not know whether it looks at a photo or at text."""

    input_modalities = ("image",)

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.embeddings = ClippoEmbeddings(config)
        self.encoder = ClippoEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = ClippoAttentionPoolingHead(config)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = False,
        skip_blank_patches: bool = False,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """
        Args:
            pixel_values: float (B, 3 or 1, H, W) in [-1, 1], uint8 of the same shape, or a packed text canvas, int64
                (B, H/16, W/4).
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            skip_blank_patches: Read only the patches that differ from the background of rendered text. The result for
                one canvas does not depend on the others in the batch.
            kwargs: `output_hidden_states`, `output_attentions` (needs the eager attention), `return_dict`.

        Returns:
            last_hidden_state (B, N, D) after the final LayerNorm, in reading order of the patches, zero where a blank
            patch was skipped; pooler_output (B, D), the MAP head's vector before the projection (`pre_logits`).
            `hidden_states`, if asked for, hold only the kept patches when blank ones are skipped.
        """
        tokens, kept = self.embeddings(pixel_values, interpolate_pos_encoding, skip_blank_patches)
        if kept is None:
            hidden_states, pooled = self._read(tokens, None, **kwargs)
        else:
            hidden_states, pooled = self._read_in_groups(tokens, kept, **kwargs)
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _read(
        self, tokens: torch.Tensor, padding_mask: torch.Tensor | None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, D) -> what the tower thinks of every token (B, T, D), and of the whole (B, D)."""
        hidden_states = self.post_layernorm(self.encoder(tokens, padding_mask, **kwargs))
        return hidden_states, self.head(hidden_states, padding_mask)

    def _read_in_groups(self, tokens: torch.Tensor, kept: KeptPatches, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for kept patches (B, M, D), in groups of similar length, put back on the canvas (B, N, D)."""
        wanted = (
            kwargs.get(name, getattr(self.config, name)) for name in ("output_hidden_states", "output_attentions")
        )
        if any(wanted):
            hidden_states, pooled = self._read(tokens, kept.mask, **kwargs)  # recorded by hooks, whole batches only
            return kept.put_back(hidden_states), pooled
        hidden_parts, pooled_parts, order = [], [], []
        for rows, length in kept.by_length():
            hidden_states, pooled = self._read(tokens[rows, :length], kept.mask[rows, :length], **kwargs)
            hidden_parts.append(nn.functional.pad(hidden_states, (0, 0, 0, tokens.shape[1] - length)))
            pooled_parts.append(pooled)
            order.append(rows)
        back = torch.cat(order).argsort().to(pooled.device)
        return kept.put_back(torch.cat(hidden_parts)[back]), torch.cat(pooled_parts)[back]


class ClippoModel(ClippoPreTrainedModel):
    """CLIPPO: the tower, the projection into the shared space, the temperature.

    Set `micro_batch_size` to train with batches larger than memory: a training step then encodes that many pictures at
    a time and keeps nothing of them but their embeddings; backward encodes them once more, with the same dropout
    (GradCache, arXiv 2101.06983). Loss and gradients are those of the whole batch. The attribute is not saved. FSDP2
    wants equally many encodings of every process, that is equal batches.
    """

    micro_batch_size: int | None = None

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.vision_model = ClippoVisionModel._from_config(config)
        self.projection = nn.Linear(config.hidden_size, config.projection_dim)
        self.logit_scale = nn.Parameter(torch.empty(1))  # one element, not a scalar: FSDP2 cannot shard 0 dimensions
        self.logit_bias = None if config.logit_bias_init_value is None else nn.Parameter(torch.empty(1))
        self.post_init()

    def _embed(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        """Projected vectors (B, E), not normalised, and the tower's own output."""
        output = self.vision_model(pixels, return_dict=True, **kwargs)
        return self.projection(output.pooler_output), output

    def _embed_for_loss(
        self, pixels: torch.Tensor, micro_batch_size: int | None, **kwargs
    ) -> tuple[torch.Tensor, BaseModelOutputWithPooling | None]:
        """`_embed`, or the same vectors from micro-batches and no output of the tower."""
        if micro_batch_size is None:
            return self._embed(pixels, **kwargs)
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.get(name, getattr(self.config, name)):
                raise ValueError(f"{name}=True is not possible with micro_batch_size, which keeps none of them.")
        return in_micro_batches(lambda part: self._embed(part, **kwargs)[0], pixels, micro_batch_size), None

    def _logit_parameters(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Multiplier and bias (1,) of the cosines, float32."""
        # With device_map these, parameters of the root, may lie on another device than the last layer.
        scale = self.logit_scale.to(device).float().exp()
        if self.config.logit_scale_max is not None:
            scale = scale.clamp(max=self.config.logit_scale_max)
        return scale, None if self.logit_bias is None else self.logit_bias.to(device).float()

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False, **kwargs
    ) -> BaseModelOutputWithPooling:
        """Embed images. `pooler_output` (B, E) is the projected vector, not normalised, as CLIP's in transformers 5."""
        features, output = self._embed(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        output.pooler_output = features
        return output

    @can_return_tuple
    def get_text_features(
        self, text_pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False, **kwargs
    ) -> BaseModelOutputWithPooling:
        """Embed rendered texts. `pooler_output` (B, E) is the projected vector, not normalised."""
        options = self._text_options(interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        features, output = self._embed(text_pixel_values, **options)
        output.pooler_output = features
        return output

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        text_pixel_values: torch.Tensor | None = None,
        return_loss: bool | None = None,
        interpolate_pos_encoding: bool = False,
        first_text_pixel_values: torch.Tensor | None = None,
        **kwargs,
    ) -> ClippoOutput | BaseModelOutputWithPooling:
        """Score images against texts.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`.
            text_pixel_values: Rendered texts, same formats.
            return_loss: Compute the contrastive loss. None means: only while training with gradients. The negatives are
                those of all processes while training, those of the local batch otherwise. Text i belongs to image i;
                with K times as many texts as images, texts i, B + i, 2B + i, ... do, and the loss is the mean over the
                K sets of texts. An image is then encoded once for K captions, none of them another's negative.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            first_text_pixel_values: Rendered texts that take the place of images, the first sentences of text-text
                pairs. They count as rows after the images, and their partners come last in `text_pixel_values`.

        Returns:
            `ClippoOutput` for both sides. In training mode with a loss it has no logits: the loss never makes the
            matrix. For one side alone the tower's output for it: `last_hidden_state` (B, N, D) and `pooler_output`
            (B, D) before the projection.

        Raises:
            ValueError: Neither side was given; a loss was asked for and the texts are no multiple of the images; first
                texts came with another number of texts than one a row; the tower's inner states are wanted of a step
                in micro-batches.
        """
        text_options = self._text_options(interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        options = {name: value for name, value in text_options.items() if name != "skip_blank_patches"}
        if first_text_pixel_values is not None:
            check_text_pairs(pixel_values, first_text_pixel_values, text_pixel_values)
        elif pixel_values is None and text_pixel_values is None:
            raise ValueError(
                "Nothing to look at: pass pixel_values (images), text_pixel_values (rendered text) or both."
            )
        elif text_pixel_values is None:
            return self.vision_model(pixel_values, return_dict=True, **options)
        elif pixel_values is None:
            return self.vision_model(text_pixel_values, return_dict=True, **text_options)

        if return_loss is None:
            # Pipelines call models in training mode, without gradients, with one image and many labels.
            return_loss = self.training and torch.is_grad_enabled()
        micro = self.micro_batch_size if return_loss and self.training and torch.is_grad_enabled() else None
        image_features, vision_output = [], None
        if pixel_values is not None:
            features, vision_output = self._embed_for_loss(pixel_values, micro, **options)
            image_features.append(features)
        if first_text_pixel_values is not None:
            image_features.append(self._embed_for_loss(first_text_pixel_values, micro, **text_options)[0])
        text_features, text_output = self._embed_for_loss(text_pixel_values, micro, **text_options)

        device = image_features[0].device
        with maybe_autocast(device.type, enabled=False):  # cosines and loss in float32
            image_embeds, text_embeds = normalize(torch.cat(image_features)), normalize(text_features).to(device)
            scale, bias = self._logit_parameters(device)
            loss, logits = (None, None, None), None
            if return_loss:
                loss = contrastive_loss(
                    image_embeds, text_embeds, scale, bias, self.config.loss_type, gather=self.training
                )
            if not (return_loss and self.training):
                logits = image_embeds @ text_embeds.T * scale  # (B_i, B_t)
                logits = logits if bias is None else logits + bias

        return ClippoOutput(
            loss=loss[0],
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.T,
            text_embeds=text_embeds,
            image_embeds=image_embeds,
            text_model_output=text_output,
            vision_model_output=vision_output,
            loss_per_pair=loss[1],
            hit_per_pair=loss[2],
        )


def normalize(features: torch.Tensor) -> torch.Tensor:
    """To unit length in float32. The official epsilon is added to the norm, not a floor under it (`one_tower.py`)."""
    features = features.float()
    return features / (features.norm(dim=-1, keepdim=True) + 1e-8)


class _ClippoForClassification(ClippoPreTrainedModel):
    """Tower, dropout, linear layer: what the classification heads share. The paper is silent on heads; this is ours."""

    # A ClippoModel checkpoint brings its projection and temperature along; a classifier has no use for them.
    _keys_to_ignore_on_load_unexpected = [r"^logit_(scale|bias)$", r"^projection\."]

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.vision_model = ClippoVisionModel._from_config(config)
        self.classifier_hidden = ClippoHeadHiddenLayer(self._pooled_size(config), config)
        self.classifier = nn.Linear(self.classifier_hidden.out_features, config.num_labels)
        self.post_init()

    @staticmethod
    def _pooled_size(config: ClippoConfig) -> int:
        """Width of what `_pool` gives the classifier to see."""
        return config.hidden_size

    def _pool(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        """What the classifier sees, (B, _pooled_size), and the tower's own output."""
        output = self.vision_model(pixels, return_dict=True, **kwargs)
        return output.pooler_output, output

    def _classify(self, pixels: torch.Tensor, labels: torch.Tensor | None, **kwargs) -> dict[str, Any]:
        pooled, output = self._pool(pixels, **kwargs)
        logits = self.classifier(self.classifier_hidden(pooled))  # (B, num_labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(check_labels(labels, self.config), logits.float(), self.config)
        return {"loss": loss, "logits": logits, "hidden_states": output.hidden_states, "attentions": output.attentions}


class ClippoForImageClassification(_ClippoForClassification):
    """CLIPPO with a linear classifier on the pooled image."""

    input_modalities = ("image",)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`.
            labels: int64 (B,) classes; float (B, num_labels) for several labels an image; float (B,) for regression.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
        """
        return ImageClassifierOutput(
            **self._classify(pixel_values, labels, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        )


class ClippoForSequenceClassification(_ClippoForClassification):
    """CLIPPO with a classifier on the pooled rendered text, or on those of two texts.

    With `config.num_text_canvases=2` each text of a pair is read alone, and the classifier sees u, v, |u - v| and u * v
    of their pooled vectors.
    """

    main_input_name = "text_pixel_values"
    input_modalities = ("text",)

    @staticmethod
    def _pooled_size(config: ClippoConfig) -> int:
        return config.hidden_size * (4 if config.num_text_canvases == 2 else 1)

    def _pool(self, pixels: torch.Tensor, **kwargs) -> tuple[torch.Tensor, BaseModelOutputWithPooling]:
        if self.config.num_text_canvases == 1:
            return super()._pool(pixels, **kwargs)
        canvas_height = None if kwargs.get("interpolate_pos_encoding") else self.config.canvas_size[0]
        pooled, output = super()._pool(split_canvases(pixels, canvas_height), **kwargs)
        return pair_features(pooled), output

    @can_return_tuple
    def forward(
        self,
        text_pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """
        Args:
            text_pixel_values: Rendered texts, see `ClippoVisionModel.forward`; with `num_text_canvases=2` pairs, of
                twice the canvas's height. `hidden_states` and `attentions` are then of 2B texts, all first ones first.
            labels: int64 (B,) classes; float (B, num_labels) for several labels a text; float (B,) for regression.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.

        Raises:
            ValueError: A label that the config does not know, or that is not finite (looked for on the CPU only).
        """
        options = self._text_options(interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        return SequenceClassifierOutput(**self._classify(text_pixel_values, labels, **options))


class ClippoForVisualQuestionAnswering(_ClippoForClassification):
    """CLIPPO that answers questions drawn into the picture: a linear layer on the pooled canvas, one score an answer.

    The answers are the config's `id2label`. Two of them, "false" and "true", make a classifier of statements about a
    picture. `config.problem_type` names the loss: "multi_label_classification" (several answers may be right) or
    "single_label_classification". The paper is silent on head and loss; this is ours.
    """

    input_modalities = ("image",)

    _custom_pipelines = {"custom_pipelines": CUSTOM_PIPELINES}

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> ImageClassifierOutput:
        """
        Args:
            pixel_values: Pictures with their questions, from `ClippoProcessor(images=..., questions=...)`.
            labels: float (B, num_labels), how right every answer is, 0 to 1; or int64 (B,), the one right answer, -100
                where it is none of them. Such a row teaches "multi_label_classification" that all answers are wrong,
                and "single_label_classification" nothing.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.

        Returns:
            logits (B, num_labels). The loss is a mean over the batch: the sum of the binary cross-entropies of all
            answers, or the softmax cross-entropy. Without `config.problem_type`, float labels mean the former.
        """
        output = self._classify(pixel_values, None, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        if labels is not None:
            output["loss"] = answer_loss(output["logits"].float(), labels, self.config)
        return ImageClassifierOutput(**output)


__all__ = [
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoModel",
    "ClippoOutput",
    "ClippoPreTrainedModel",
    "ClippoVisionModel",
]
