"""ClippoConfig: the shape of a CLIPPO model, the size presets, and what a saved folder tells transformers."""

import copy
import difflib
import math
from dataclasses import fields

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils import logging

from .config_checks_clippo import ConfigChecks

logger = logging.get_logger(__name__)

# The size letters of big_vision's `vit.decode_variant`: width, depth, MLP width, heads.
SIZES = {
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "H": (1280, 32, 5120, 16),
}

# The class that each Auto class opens from a folder with remote code. transformers alone would write down only the
# class that was saved; a CLIPPO checkpoint serves all of them, so every config has the whole map.
AUTO_MAP = {
    "AutoConfig": "configuration_clippo.ClippoConfig",
    "AutoModel": "modeling_clippo.ClippoModel",
    "AutoBackbone": "modeling_clippo.ClippoBackbone",
    "AutoModelForZeroShotImageClassification": "modeling_clippo.ClippoModel",
    "AutoModelForImageClassification": "modeling_clippo.ClippoForImageClassification",
    "AutoModelForSequenceClassification": "modeling_clippo.ClippoForSequenceClassification",
    "AutoModelForVisualQuestionAnswering": "modeling_clippo.ClippoForVisualQuestionAnswering",
    "AutoModelForImageTextToText": "modeling_clippo.ClippoForConditionalGeneration",
}
TOWER_AUTO_MAP = {**AUTO_MAP, "AutoModel": "modeling_clippo.ClippoVisionModel"}  # of a folder with a tower alone

# The pipelines that a saved folder adds, by architecture: the class in the folder that serves the task, and the Auto
# class that opens the model.
CUSTOM_PIPELINES = {
    "ClippoForVisualQuestionAnswering": {
        "visual-question-answering": {
            "impl": "pipeline_clippo.ClippoVisualQuestionAnsweringPipeline",
            "pt": ["AutoModelForVisualQuestionAnswering"],
            "type": "multimodal",
        }
    },
    "ClippoForConditionalGeneration": {
        "image-text-to-text": {
            "impl": "pipeline_generation_clippo.ClippoImageTextToTextPipeline",
            "pt": ["AutoModelForImageTextToText"],
            "type": "multimodal",
        }
    },
}


def _foreign_entries(auto_map: dict, custom_pipelines: dict) -> list[str]:
    """Entries of a loaded config that name other classes than those of clippo. A "repository--" prefix is ignored."""
    foreign = []
    for field, entries in (("auto_map", auto_map), ("custom_pipelines", custom_pipelines)):
        if not isinstance(entries, dict | None):
            raise ValueError(f"{field}={entries!r} is not a mapping; remove it from config.json.")
    for name, value in (auto_map or {}).items():
        if str(value).rpartition("--")[2] not in (AUTO_MAP.get(name), TOWER_AUTO_MAP.get(name)):
            foreign.append(f"auto_map[{name!r}] = {value!r}")
    known = {task: entry["impl"] for pipelines in CUSTOM_PIPELINES.values() for task, entry in pipelines.items()}
    for task, entry in (custom_pipelines or {}).items():
        implementation = entry.get("impl") if isinstance(entry, dict) else entry
        if task not in known or str(implementation).rpartition("--")[2] != known[task]:
            foreign.append(f"custom_pipelines[{task!r}] = {implementation!r}")
    return foreign


@strict
class ClippoConfig(ConfigChecks, PreTrainedConfig):
    """Config of a CLIPPO model. The defaults are those of the released B/16 (93,474,817 parameters).

    There is one tower, so there is one flat config without a vision or text sub-config.

    Args:
        hidden_size: Width of the tokens.
        intermediate_size: Width of the MLP in the blocks and in the pooling head.
        num_hidden_layers: Number of pre-LN transformer blocks.
        num_attention_heads: Number of attention heads in the blocks and in the pooling head.
        image_size: Side of the square canvas in pixels, or `[height, width]`. Images and rendered text share it.
        patch_size: Side of a square patch in pixels. It divides both sides of the canvas.
        num_channels: Channels of the patch projection. Canvases of one channel are repeated to this number.
        projection_dim: Width of the embeddings of images and texts.
        hidden_act: Activation of the MLPs. The official model uses Flax's default, GELU in its tanh approximation.
        layer_norm_eps: Epsilon of every LayerNorm (Flax's default, not PyTorch's).
        attention_dropout: Dropout on attention weights in training. The official value is 0.
        classifier_dropout: Dropout before every linear layer of the classification heads.
        classifier_hidden_size: Width of a hidden layer in the classification heads. None means a linear head.
        num_text_canvases: Number of canvases that `ClippoForSequenceClassification` takes as one input. With 2, each
            text of a pair has its own canvas, as the tokenizer draws them with `pair_layout="two_canvas"`.
        num_fusion_layers: Number of joint blocks that read two canvases side by side, those of image and question in
            `ClippoForVisualQuestionAnswering` and of two texts in `ClippoForSequenceClassification`. 0: none.
        image_grid_shape: Rows, columns and channels of image grids of another tower, which `image_grid` then takes in
            place of images. None: grids are those of this tower.
        out_indices: Stages whose maps `ClippoBackbone` returns: 0 the embeddings, i block i. None: the last block.
        logit_scale_init_value: Initial value of the learned log-temperature. Its `exp` multiplies the cosines.
        logit_scale_max: Upper bound of that multiplier (CLIP uses 100). None, the official value, means no bound. Above
            the bound the temperature has no gradient.
        logit_bias_init_value: Initial value of a learned number that is added to the scaled cosines. None means that
            there is no such parameter. The sigmoid loss needs one; SigLIP starts at -10, with a multiplier of 10.
        loss_type: Contrastive loss over the global batch, "softmax" (CLIPPO) or "sigmoid" (SigLIP).
        skip_blank_patches: Leave text patches without ink out of the attention and the pooling, so that the cost of a
            text is proportional to its ink. False for the official checkpoints, which were trained with blank patches.
            True for new models from `from_preset`.
        image_tower: Origin of image vectors. "shared" is the one tower, which reads texts too. "separate" is a tower of
            the same shape for images alone, and "locked" is the same, frozen. Any other string is the name of a model
            whose vectors are given as `image_embeds`, as `clippo embed --model` takes it.
        project_images: Project image vectors linearly. False is LiT's default: texts are projected to the width of the
            image vectors as they are.
        image_embed_dim: Width of given vectors that are projected. None means that they are not.
        position_embedding_init: Initial positions of a new model. "normal" is the official initialisation. With
            "sincos2d" neighbouring positions start alike; this option is not in the paper.
        initializer_range: Standard deviation of new classification heads.
        num_experts: Experts in the blocks of `expert_layers`, where they take the place of the MLP. 0 means no experts.
        num_experts_per_tok: Experts that the router chooses for each token. LIMoE uses 1.
        expert_layers: Numbers of the blocks with experts, from 0. None means every second block: 1, 3, 5, ...
        expert_capacity_factor: Limit of the tokens of one expert in training, as a multiple of an even share. Tokens
            above it skip the MLP. None means no limit, so that a canvas does not depend on its batch.
        expert_batch_priority: With a capacity, whether tokens with larger gates come first.
        router_noise_std: Noise of the router's logits in training, divided by the number of experts. V-MoE uses 1.0.
        router_importance_coef: Weight of the loss that balances the sums of the gates.
        router_load_coef: Weight of the loss that balances the numbers of tokens. It needs noise.
        router_z_coef: Weight of the loss that keeps the logits small.
        router_local_entropy_coef: Weight of the mean entropy of a token, or [images, texts].
        router_global_entropy_coef: Weight of the thresholded entropy of the mean token, or [images, texts].
        router_min_image_experts: Experts that images shall use; the threshold of the global loss is its logarithm. 0
            means that images have no global loss.
        router_min_text_experts: The same for texts.
        output_router_logits: Return the router's logits with every output of the tower.
        modality_norms: Whether images and texts have LayerNorms of their own (MS-CLIP).
        num_modality_layers: First blocks that images and texts have one of each.
        image_stem: "patch", the projection that images and texts share, or "conv", convolutions for images alone. They
            take the place of the first block of images too, if `num_modality_layers` is 1 or more.
        image_branch_layers: Blocks before which maps of a parallel branch of convolutions join the tokens of images.
            MS-CLIP-S has 2, 4, 6, 8, 10.
        num_decoder_layers: Number of blocks of a decoder that writes text. 0 means that there is none.
        decoder_vocab_size: Number of ids that the decoder knows. 384 are the byte ids of ByT5 with its extra ids.
        decoder_max_length: Largest number of ids of a text, its end included.
        pad_token_id: Start and padding of generated text. `Trainer` aligns it with the tokenizer and finds nothing to
            change.

    Source: big_vision `models/vit.py`, `models/proj/clippo/one_tower.py`, `configs/proj/clippo/train_clippo.py`.

    Example:
        >>> from clippo import ClippoConfig
        >>> config = ClippoConfig.from_preset("S/16", image_size=[64, 256])
        >>> config.hidden_size, config.patch_grid, config.skip_blank_patches
        (384, (4, 16), True)
    """

    model_type = "clippo"
    # `Trainer.evaluate` must not gather these over the whole set. The metrics need text_embeds and image_embeds.
    keys_to_ignore_at_inference = [
        "logits_per_image",
        "logits_per_text",
        "loss_per_pair",
        "hit_per_pair",
        "last_hidden_state",
        "pooler_output",
        "kept_patches",
        "vision_model_output",
        "text_model_output",
        "hidden_states",
        "attentions",
        "aux_loss",
        "caption_loss",
        "expert_tokens",
        "router_logits",
        "past_key_values",
        "encoder_last_hidden_state",
        "encoder_hidden_states",
        "encoder_attentions",
        "decoder_hidden_states",
        "decoder_attentions",
        "cross_attentions",
    ]

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    projection_dim: int = 768
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float | int = 1e-6
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    classifier_hidden_size: int | None = None
    num_text_canvases: int = 1
    num_fusion_layers: int = 0
    image_grid_shape: list[int] | tuple[int, int, int] | None = None
    out_indices: list[int] | tuple[int, ...] | None = None
    logit_scale_init_value: float | int = math.log(10.0)
    logit_scale_max: float | int | None = None
    logit_bias_init_value: float | int | None = None
    loss_type: str = "softmax"
    skip_blank_patches: bool = False
    image_tower: str = "shared"
    project_images: bool = True
    image_embed_dim: int | None = None
    position_embedding_init: str = "normal"
    initializer_range: float | int = 0.02
    num_experts: int = 0
    num_experts_per_tok: int = 1
    expert_layers: list[int] | tuple[int, ...] | None = None
    expert_capacity_factor: float | int | None = None
    expert_batch_priority: bool = True
    router_noise_std: float | int = 0.0
    router_importance_coef: float | int = 0.0
    router_load_coef: float | int = 0.0
    router_z_coef: float | int = 0.0
    router_local_entropy_coef: float | int | list[float | int] | tuple[float | int, ...] = 0.0
    router_global_entropy_coef: float | int | list[float | int] | tuple[float | int, ...] = 0.0
    router_min_image_experts: int = 0
    router_min_text_experts: int = 0
    output_router_logits: bool = False
    modality_norms: bool = False
    num_modality_layers: int = 0
    image_stem: str = "patch"
    image_branch_layers: list[int] | tuple[int, ...] = ()
    num_decoder_layers: int = 0
    decoder_vocab_size: int = 384
    decoder_max_length: int = 256
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs):
        if self.transformers_version is None:  # a file, perhaps of a later version, may have fields that are new
            self._refuse_misspelt(kwargs)
        names = self.architectures
        if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"architectures={names!r} is not a list of class names; mend or remove it in config.json.")
        auto_map, pipelines = kwargs.pop("auto_map", None), kwargs.pop("custom_pipelines", None)
        foreign = _foreign_entries(auto_map, pipelines)
        if foreign:
            # Saved again, they would run their code for a person who trusts the new folder.
            logger.warning("Dropped from the config, since clippo does not define them: %s.", ", ".join(foreign))
        super().__post_init__(**kwargs)
        self.is_encoder_decoder = self.num_decoder_layers > 0  # `generate` asks for it
        if pipelines and not foreign:
            # A copy, because `pipeline` replaces names in it by classes.
            known = {task: entry for several in CUSTOM_PIPELINES.values() for task, entry in several.items()}
            self.custom_pipelines = copy.deepcopy({task: known[task] for task in pipelines})

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in transformers. `AutoTokenizer` passes its options here too, but `canvas_size` is not a field."""
        kwargs.pop("canvas_size", None)
        return super().from_dict(config_dict, **kwargs)

    def _refuse_misspelt(self, others: dict) -> None:
        """Refuse a keyword that resembles a field; transformers keeps unknown ones as attributes without effect."""
        names = [field.name for field in fields(self)]
        for name in others:
            similar = [] if hasattr(type(self), name) else difflib.get_close_matches(name, names, n=1, cutoff=0.8)
            if similar:
                raise TypeError(f"{type(self).__name__} has no field {name!r}; did you mean {similar[0]!r}?")

    @property
    def auto_map(self) -> dict[str, str]:
        """The class that each Auto class opens, computed from `architectures`.

        Each access returns a new dict: saving a tower writes into it, and tower and model share their config.
        """
        return dict(TOWER_AUTO_MAP if self.architectures == ["ClippoVisionModel"] else AUTO_MAP)

    def to_dict(self) -> dict:
        """As in transformers, with `auto_map` and `custom_pipelines` of the architecture that is saved."""
        output = super().to_dict()
        output["auto_map"] = self.auto_map
        pipelines = CUSTOM_PIPELINES.get((self.architectures or [None])[0])
        if pipelines is None:
            output.pop("custom_pipelines", None)  # another head's, if its folder was loaded
        else:
            output["custom_pipelines"] = copy.deepcopy(pipelines)
        return output

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "ClippoConfig":
        """This config. For the decoder alone, a copy in which `num_hidden_layers` counts its blocks: so caches do."""
        if not decoder or encoder or not self.num_decoder_layers:
            return self
        config = copy.copy(self)
        config.num_hidden_layers = self.num_decoder_layers
        return config

    @property
    def vocab_size(self) -> int:
        """`decoder_vocab_size` under the name that `generate` reads. Without a decoder there is no such attribute."""
        if not self.num_decoder_layers:
            raise AttributeError("A model without decoder has no vocabulary; set num_decoder_layers.")
        return self.decoder_vocab_size

    @property
    def has_image_model(self) -> bool:
        """True if images have a tower of their own inside the model."""
        return self.image_tower in ("separate", "locked")

    @property
    def image_tower_is_foreign(self) -> bool:
        """True if image vectors come from another model and are given."""
        return self.image_tower != "shared" and not self.has_image_model

    @property
    def expert_blocks(self) -> tuple[int, ...]:
        """Numbers of the blocks with experts."""
        if not self.num_experts:
            return ()
        every_second = [block for block in range(1, self.num_hidden_layers, 2) if block >= self.num_modality_layers]
        return tuple(every_second if self.expert_layers is None else self.expert_layers)

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches on the canvas."""
        height, width = self.canvas_size
        return height // self.patch_size, width // self.patch_size

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "ClippoConfig":
        """Make the config of a new model from a big_vision name, such as "B/16" or "Ti/32".

        Unlike `ClippoConfig()`, the released model, a preset skips blank patches, so that the cost of a text is
        proportional to its ink. `skip_blank_patches=False` trains as in the paper.

        Args:
            name: Size letter (Ti, S, B, L, H), a slash, the patch size in pixels.
            overrides: Config fields that replace those of the preset.

        Raises:
            ValueError: The name is not of that form.
        """
        letter, _, patch = name.partition("/")
        if letter not in SIZES or not (patch.isascii() and patch.isdigit()):
            raise ValueError(
                f"Unknown preset {name!r}; write one of {', '.join(SIZES)}, a slash and a patch size, such as 'B/16'."
            )
        width, depth, mlp, heads = SIZES[letter]
        shape = {
            "hidden_size": width,
            "num_hidden_layers": depth,
            "intermediate_size": mlp,
            "num_attention_heads": heads,
            "patch_size": int(patch),
            "skip_blank_patches": True,
        }
        return cls(**{**shape, **overrides})


__all__ = ["ClippoConfig"]
