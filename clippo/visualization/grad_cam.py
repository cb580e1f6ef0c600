"""Grad-CAM: patches that raise the cosine of one embedding with another.

*Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, Selvaraju et al., ICCV 2017 (arXiv
1610.02391), section 3. Tokens replace the cells of the feature map, and a cosine replaces the class score.
"""

import torch

from clippo.evaluation.encoder import evaluation_mode
from clippo.modeling_clippo.modeling_clippo import normalize
from clippo.visualization.patch_maps import on_canvas, token_mask


def grad_cam(
    model, pixel_values: torch.Tensor, targets: torch.Tensor, layer: int = -1, modality: str = "image"
) -> torch.Tensor:
    """Computes the relevance of every patch for the cosine of a canvas with its target.

    Args:
        model: `ClippoModel`. Its gradients and its mode do not change.
        pixel_values: Batch that the tower accepts, images or rendered text.
        targets: (B, E) target embeddings, one a canvas, or (1, E) for all.
        layer: Index into `hidden_states`. -1 is the output of the last block.
        modality: "image" or "text", as in the tower. A skipped patch gets 0.

    Returns:
        float32 (B, rows, columns), not negative. The maximum of each map is 1, unless all values are 0.
    """
    with evaluation_mode(model), torch.enable_grad():
        output = model.vision_model(pixel_values, modality=modality, output_hidden_states=True, return_dict=True)
        hidden, kept = output.hidden_states[layer], output.kept_patches  # (B, M, D), bool (B, N)
        embeddings = normalize(model.projection(output.pooler_output))
        score = (embeddings * targets.to(embeddings)).sum()  # canvases are independent, so one sum gives all gradients
        (gradient,) = torch.autograd.grad(score, hidden)
    if kept is None:
        channels = gradient.mean(1, keepdim=True)  # (B, 1, D)
    else:
        real = token_mask(kept, hidden.shape[1]).to(hidden.device).unsqueeze(-1)
        channels = (gradient * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
    relevance = (channels * hidden).sum(-1).float().relu().detach()  # (B, M)
    maps = on_canvas(relevance, kept, pixel_values, model.config.patch_size)
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-12)
