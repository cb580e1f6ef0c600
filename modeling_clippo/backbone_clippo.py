"""The tower as a backbone: feature maps of chosen blocks, for the detection and segmentation heads of transformers."""

import torch
from transformers.modeling_outputs import BackboneOutput
from transformers.utils import can_return_tuple

from .configuration_clippo import ClippoConfig
from .tower_clippo import ClippoPreTrainedModel, ClippoVisionModel, closed_keywords


class ClippoBackbone(ClippoPreTrainedModel):
    """Feature maps of the tower for `AutoBackbone`, such as `UperNetForSemanticSegmentation` takes them.

    `AutoBackbone.from_config` and hub names work. For a folder use `ClippoBackbone.from_pretrained`: transformers 5.23
    looks a path up on the hub (`auto_factory.py`, `_BaseAutoBackboneClass`).

    Stage 0 is the output of the embeddings, and stage i that of block i. Each map has the LayerNorm of the tower.

    Args:
        config: Model config. `out_indices` chooses the stages; None means the last block.

    Raises:
        ValueError: A stage does not exist.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=4, image_size=32, out_indices=[2, 4])
        >>> backbone = clippo.ClippoBackbone(config)
        >>> [tuple(grid.shape) for grid in backbone(torch.zeros(1, 3, 32, 48)).feature_maps]
        [(1, 192, 2, 3), (1, 192, 2, 3)]
        >>> backbone.out_features, backbone.channels
        (['stage2', 'stage4'], [192, 192])
    """

    # A ClippoModel checkpoint has a projection and a temperature, which feature maps do not need.
    _keys_to_ignore_on_load_unexpected = [r"^logit_(scale|bias)$", r"^projection\."]
    input_modalities = ("image",)

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.vision_model = ClippoVisionModel._from_config(config)
        self.stage_names = ["stem", *(f"stage{i + 1}" for i in range(config.num_hidden_layers))]
        self.num_features = [config.hidden_size] * len(self.stage_names)
        number, wanted = len(self.stage_names), config.out_indices or [config.num_hidden_layers]
        if any(not -number <= index < number for index in wanted):
            raise ValueError(f"out_indices={list(wanted)} names no stage; the stages are 0 to {number - 1}.")
        self.out_indices = [index % number for index in wanted]
        self.out_features = [self.stage_names[index] for index in self.out_indices]
        self.channels = [config.hidden_size] * len(self.out_indices)
        self.post_init()

    @closed_keywords
    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BackboneOutput:
        """Compute feature maps of images of any size in whole patches.

        Args:
            pixel_values: Images, see `ClippoVisionModel.forward`. Positions are resampled to other canvases.
            kwargs: As in `ClippoVisionModel.forward`.

        Returns:
            `feature_maps`: a tuple of (B, D, rows, columns). `hidden_states` and `attentions`, if asked for.
        """
        wanted = kwargs.pop("output_hidden_states", self.config.output_hidden_states)
        output = self.vision_model(
            pixel_values, interpolate_pos_encoding=True, output_hidden_states=True, return_dict=True, **kwargs
        )
        rows, columns = (side // self.config.patch_size for side in pixel_values.shape[-2:])
        maps = [self.vision_model.post_layernorm(output.hidden_states[index]) for index in self.out_indices]
        return BackboneOutput(
            feature_maps=tuple(states.transpose(1, 2).unflatten(2, (rows, columns)) for states in maps),
            hidden_states=output.hidden_states if wanted else None,
            attentions=output.attentions,
        )

    def forward_with_filtered_kwargs(self, pixel_values: torch.Tensor, **kwargs) -> BackboneOutput:
        """`forward`, under the name that heads of transformers call."""
        return self(pixel_values, **kwargs)


__all__ = ["ClippoBackbone"]
