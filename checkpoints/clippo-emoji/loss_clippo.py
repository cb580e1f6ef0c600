"""The contrastive loss: find the partner among everything the whole job sees in this step.

Every process scores its own rows against the columns of all processes, so the negatives of one large batch are kept
when it is spread over many devices (big_vision `trainers/proj/image_text`, softmax loss).
"""

import torch
import torch.distributed as dist
from torch.nn import functional as F


class _GatherRows(torch.autograd.Function):
    """Concatenate the rows of all processes. Backward sums what every process has to say about our rows.

    Data parallelism averages gradients over processes, and each process's loss is a mean over its own rows: with a
    summing backward the average is exactly the gradient of the global mean, with no factor to correct.
    """

    @staticmethod
    def forward(ctx, rows):
        gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, rows.contiguous())
        return torch.cat(gathered)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def contrastive_loss(
    image_embeds: torch.Tensor, text_embeds: torch.Tensor, logit_scale: torch.Tensor, gather: bool = False
) -> torch.Tensor:
    """Symmetric softmax cross-entropy; row i of one side belongs to row i of the other.

    Args:
        image_embeds: (B, E) unit vectors.
        text_embeds: (B, E) unit vectors, or K sets of them below each other, (K*B, E).
        logit_scale: (1,) the multiplier of the cosines, already exponentiated.
        gather: Score against the rows of all processes. Every process must then make this call, with equally many rows.

    Returns:
        Scalar: the mean over own rows, and over the sets, of half the image-to-text and half the text-to-image loss.

    Raises:
        ValueError: The texts are no multiple of the images.
    """
    rows = len(image_embeds)
    if len(text_embeds) == 0 or len(text_embeds) % rows:
        raise ValueError(
            f"The contrastive loss pairs row with row, but got {rows} images and {len(text_embeds)} texts; pass as "
            "many texts as images, or a multiple."
        )
    gather = gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    own = torch.arange(rows, device=image_embeds.device)
    if gather:
        own = own + dist.get_rank() * rows
    all_images = _GatherRows.apply(image_embeds) if gather else image_embeds  # (W*B, E)
    losses = []
    for texts in text_embeds.split(rows):
        all_texts = _GatherRows.apply(texts) if gather else texts  # (W*B, E)
        losses.append(F.cross_entropy(image_embeds @ all_texts.T * logit_scale, own))
        losses.append(F.cross_entropy(texts @ all_images.T * logit_scale, own))
    return torch.stack(losses).mean()
