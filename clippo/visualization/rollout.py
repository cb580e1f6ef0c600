"""Attention roll-out: which patches a pooled vector is made of, followed through all layers.

*Quantifying Attention Flow in Transformers*, Abnar and Zuidema, ACL 2020 (arXiv 2005.00928), section 3. The last step,
through CLIPPO's pooling head instead of a class token, is ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FUSIONS = {"mean": lambda weights: weights.mean(1), "max": lambda weights: weights.amax(1)}


def rollout(attentions: list[torch.Tensor] | tuple[torch.Tensor, ...], fusion: str = "mean") -> torch.Tensor:
    """How much of every input token is in every output token, if attention were all that moves content.

    Args:
        attentions: weights of every layer, first to last, each (B, H, N, N), rows summing to 1: `output_attentions`.
        fusion: how the heads of a layer become one: "mean" (the paper's) or "max".

    Returns:
        float32 (B, N, N), rows summing to 1: the product of `(A + I) / 2` over the layers, I for the residual stream.

    Raises:
        ValueError: no layers, another shape, or an unknown fusion.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r} is not known; choose one of {', '.join(map(repr, FUSIONS))}.")
    if not len(attentions):
        raise ValueError('There are no attention weights; ask for output_attentions=True with the "eager" backend.')
    flow = None
    for weights in attentions:
        if weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
            raise ValueError(f"Attention weights come as (B, H, N, N), got {tuple(weights.shape)}.")
        fused = FUSIONS[fusion](weights.float())  # (B, N, N)
        mixed = fused + torch.eye(fused.shape[-1], device=fused.device)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    return flow


@torch.no_grad()
def patch_relevance(
    model, pixel_values: torch.Tensor, fusion: str = "mean", modality: str = "image", **kwargs
) -> torch.Tensor:
    """What the pooled vector of every canvas looked at, as a map over its patches.

    Args:
        model: a CLIPPO tower, or a model that holds one as `vision_model`. Its attention backend is switched to
            "eager", the only one that returns weights, and back afterwards; dropout is off meanwhile.
        pixel_values: a batch that the tower accepts, pictures or rendered text: float or uint8 (B, C, H, W), or packed.
        fusion: as in `rollout`; the pooling head's heads are always averaged.
        modality: "image" or "text", as in the tower; a skipped patch gets 0.
        kwargs: of the tower, such as `interpolate_pos_encoding=True`.

    Returns:
        float32 (B, rows, columns), each map summing to 1.
    """
    tower = getattr(model, "vision_model", model)
    layers = [layer.self_attn for layer in tower.encoder.layers]
    canvas, recorded = {}, []
    hooks = [module.register_forward_hook(lambda *call: recorded.append(call[-1][1])) for module in layers]
    hooks += [
        tower.head.attention.register_forward_hook(lambda *call: canvas.update(pool=call[-1][1])),
        tower.embeddings.register_forward_hook(lambda *call: canvas.update(kept=call[-1][1])),
        tower.embeddings.patch_embedding.register_forward_hook(lambda *call: canvas.update(grid=call[-1].shape[-2:])),
    ]
    try:
        with _eager_and_in_evaluation(tower):
            # Asking for attentions keeps the tower from splitting the batch into groups of equal length.
            tower(pixel_values, modality=modality, output_attentions=True, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    pool = canvas["pool"].float().mean(1)  # (B, 1, N)
    relevance = (pool @ rollout(recorded, fusion)).transpose(1, 2)  # (B, N, 1)
    if canvas["kept"] is None:
        return relevance.squeeze(-1).unflatten(1, canvas["grid"])
    size = tower.config.patch_size
    rows = pixel_values.shape[-2] * (16 if pixel_values.ndim == 3 else 1) // size  # packed: a row of 16 pixels each
    return canvas["kept"].scatter(relevance).squeeze(-1).unflatten(1, (rows, -1))


@contextmanager
def _eager_and_in_evaluation(tower) -> Iterator[None]:
    backend, training = tower.config._attn_implementation, tower.training
    tower.set_attn_implementation("eager")
    tower.eval()
    try:
        yield
    finally:
        tower.set_attn_implementation(backend)
        tower.train(training)
