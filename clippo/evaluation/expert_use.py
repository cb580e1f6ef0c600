"""Use of experts: the tokens that each expert receives from images and from texts of each script."""

from collections.abc import Mapping

import numpy as np
import torch

from clippo.modeling_clippo import ClippoModel


@torch.no_grad()
def expert_use(model: ClippoModel, groups: Mapping[str, tuple[torch.Tensor, str]]) -> dict[int, dict[str, list[int]]]:
    """Counts tokens by block, group and expert.

    Args:
        model: Model with experts.
        groups: Name -> canvases on the device of the model, in any format that it accepts, and "image" or "text".

    Returns:
        Block -> group -> tokens of each expert. Skipped patches are not counted.

    Raises:
        ValueError: The model has no experts.

    Example:
        >>> import clippo, torch
        >>> from clippo.evaluation.expert_use import expert_use
        >>> fields = dict(num_hidden_layers=2, image_size=32, num_experts=4)
        >>> model = clippo.ClippoModel(clippo.ClippoConfig.from_preset("Ti/16", **fields)).eval()
        >>> sum(expert_use(model, {"image": (torch.zeros(3, 3, 32, 32), "image")})[1]["image"])
        12
    """
    if not model.config.num_experts:
        raise ValueError("The model has no experts; its config has num_experts=0.")
    counts: dict[int, dict[str, list[int]]] = {block: {} for block in model.config.expert_blocks}
    for name, (canvases, modality) in groups.items():
        output = model.vision_model(canvases, modality=modality, output_router_logits=True)
        for block, logits in zip(counts, output.router_logits, strict=True):
            chosen = logits.topk(model.config.num_experts_per_tok, -1).indices  # (B, M, K), real tokens first
            if output.kept_patches is not None:
                places = torch.arange(chosen.shape[1], device=chosen.device)
                chosen = chosen[places < output.kept_patches.sum(1, keepdim=True)]
            counts[block][name] = torch.bincount(chosen.flatten(), minlength=logits.shape[-1]).tolist()
    return counts


def normalized_mutual_information(counts: Mapping[str, list[int]]) -> float:
    """Mutual information of group and expert over the smaller of their entropies, from 0 to 1.

    Groups have equal weight, whatever their number of tokens. 0 means that the expert says nothing about the group, 1
    that one determines the other.

    Args:
        counts: Group -> tokens of each expert. Groups without tokens are left out.
    """
    used = [row for row in counts.values() if sum(row)]
    if not used:
        return 0.0
    table = np.array(used, float)
    joint = table / table.sum(1, keepdims=True) / len(table)
    experts, groups = joint.sum(0), joint.sum(1)

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    smaller = min(entropy(experts), entropy(groups))
    if smaller <= 0:
        return 0.0
    return float((entropy(experts) + entropy(groups) - entropy(joint)) / smaller)
