"""Attention roll-out: shares of the patches in a pooled vector, through all layers.

*Quantifying Attention Flow in Transformers*, Abnar and Zuidema, ACL 2020 (arXiv 2005.00928), section 3. The last step
goes through CLIPPO's pooling head in the place of a class token; the paper does not have it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from clippo.evaluation.encoder import evaluation_mode
from clippo.visualization.patch_maps import on_canvas

FUSIONS = {"mean": lambda weights: weights.mean(1), "max": lambda weights: weights.amax(1)}


def rollout(attentions: Sequence[torch.Tensor], fusion: str = "mean") -> torch.Tensor:
    """Computes the share of every input token in every output token, under the assumption that attention alone mixes.

    Args:
        attentions: Weights of every layer, first to last, each (B, H, N, N) with rows that sum to 1.
        fusion: Reduction over the heads of a layer: "mean" (as in the paper) or "max".

    Returns:
        float32 (B, N, N), rows that sum to 1: the product of `(A + I) / 2` over the layers. I is the residual stream.

    Raises:
        ValueError: There are no layers, their shape is another, or the fusion is unknown.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion={fusion!r} is not known; choose one of {', '.join(map(repr, FUSIONS))}.")
    if not len(attentions):
        raise ValueError('There are no attention weights; ask for output_attentions=True with the "eager" backend.')
    flow = None
    for weights in attentions:
        if weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
            raise ValueError(f"Attention weights must have the shape (B, H, N, N), got {tuple(weights.shape)}.")
        fused = FUSIONS[fusion](weights.float())  # (B, N, N)
        mixed = fused + torch.eye(fused.shape[-1], device=fused.device)
        mixed = mixed / mixed.sum(-1, keepdim=True)
        flow = mixed if flow is None else mixed @ flow
    return flow


@torch.no_grad()
def patch_relevance(
    model, pixel_values: torch.Tensor, fusion: str = "mean", modality: str = "image", **kwargs
) -> torch.Tensor:
    """Computes the share of every patch in the pooled vector of its canvas.

    Args:
        model: CLIPPO tower, or a model that holds one as `vision_model`. It runs with the "eager" attention backend,
            the only one that returns weights, and without dropout. Both settings are restored.
        pixel_values: Batch that the tower accepts, images or rendered text.
        fusion: Reduction over the heads, as in `rollout`. The heads of the pooling head are always averaged.
        modality: "image" or "text", as in the tower. A skipped patch gets 0.
        kwargs: Arguments of the tower, such as `interpolate_pos_encoding=True`.

    Returns:
        float32 (B, rows, columns). Each map sums to 1.
    """
    tower = getattr(model, "vision_model", model)
    with evaluation_mode(tower), _eager(tower), _pooling_weights(tower) as pooling:
        output = tower(pixel_values, modality=modality, output_attentions=True, return_dict=True, **kwargs)
    pool = pooling[0].float().mean(1)  # (B, 1, M)
    relevance = (pool @ rollout(output.attentions, fusion)).squeeze(1)  # (B, M)
    return on_canvas(relevance, output.kept_patches, pixel_values, tower.config.patch_size)


@contextmanager
def _eager(tower) -> Iterator[None]:
    """Switches the attention backend to "eager" inside the block."""
    backend = tower.config._attn_implementation
    tower.set_attn_implementation("eager")
    try:
        yield
    finally:
        tower.set_attn_implementation(backend)


@contextmanager
def _pooling_weights(tower) -> Iterator[list[torch.Tensor]]:
    """Records the attention weights (B, H, 1, M) of the pooling head, which are not among the tower's `attentions`."""
    recorded: list[torch.Tensor] = []

    def record(module, args, output):
        recorded.append(output[1])

    hook = tower.head.attention.register_forward_hook(record)
    try:
        yield recorded
    finally:
        hook.remove()
