"""Grad-CAM: which patches raise the cosine of one embedding with another.

*Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization*, Selvaraju et al., ICCV 2017 (arXiv
1610.02391), section 3, with tokens in the place of the feature map's cells and a cosine in the place of a class score.
"""

import torch


def grad_cam(
    model, pixel_values: torch.Tensor, targets: torch.Tensor, layer: int = -1, modality: str = "image"
) -> torch.Tensor:
    """Relevance of every patch for the cosine of a canvas with its target.

    Args:
        model: a `ClippoModel`; neither its gradients nor its mode are changed.
        pixel_values: a batch that the tower accepts, pictures or rendered text.
        targets: (B, E) embeddings to be near to, one a canvas; (1, E) for all.
        layer: which hidden states to look at, an index into `hidden_states`; -1 is the output of the last block.
        modality: "image" or "text", as in the tower; a skipped patch gets 0.

    Returns:
        float32 (B, rows, columns), not negative, the largest of each map 1 unless all are 0.
    """
    tower, found, training = model.vision_model, {}, model.training
    hooks = [
        tower.embeddings.register_forward_hook(lambda *call: found.update(kept=call[-1][1])),
    ]
    model.eval()
    try:
        with torch.enable_grad():
            # Asking for hidden states keeps the tower from splitting the batch into groups of equal length.
            output = tower(pixel_values, modality=modality, output_hidden_states=True, return_dict=True)
            hidden = output.hidden_states[layer]  # (B, M, D)
            embeddings = torch.nn.functional.normalize(model.projection(output.pooler_output).float(), dim=-1)
            score = (embeddings * targets.to(embeddings)).sum()  # a canvas' gradient is its own: no sum couples them
            (gradient,) = torch.autograd.grad(score, hidden)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    kept = found["kept"]
    if kept is not None:
        real = kept.mask.to(hidden.device).unsqueeze(-1)
        channel = (gradient * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        relevance = kept.scatter((channel * hidden).sum(-1, keepdim=True).float().relu())
    else:
        relevance = (gradient.mean(1, keepdim=True) * hidden).sum(-1, keepdim=True).float().relu()  # (B, N, 1)
    relevance = relevance.detach().squeeze(-1)
    relevance = relevance / relevance.amax(1, keepdim=True).clamp(min=1e-12)
    rows = pixel_values.shape[-2] * (16 if pixel_values.ndim == 3 else 1) // tower.config.patch_size  # packed text
    return relevance.unflatten(1, (rows, -1))
