"""What a contrastive training step needs around the tower: batches larger than memory, pairs of texts."""

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint


# torch.compile would unroll all parts into one graph, and its own checkpointing forgets the random numbers. Left alone,
# this function calls an `encode` that is compiled once.
@torch.compiler.disable(recursive=False)
def in_micro_batches(
    encode: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, micro_batch_size: int
) -> torch.Tensor:
    """`encode(pixels)` for a batch whose activations do not fit: part by part, each of them encoded again in backward.

    GradCache (Gao et al., arXiv 2101.06983) without a training loop of its own: the loss sees the embeddings of all
    parts, and autograd asks for the activations of one part at a time, the last part first. Data parallel wrappers find
    one forward and one backward, as usual.

    Args:
        encode: (b, ...) -> (b, E). Called twice with the same random numbers and under the same autocast; has to do the
            same both times.
        pixels: (B, ...).
        micro_batch_size: b; the last part may be smaller.

    Returns:
        (B, E).

    Raises:
        ValueError: micro_batch_size is below 1.
    """
    if micro_batch_size < 1:
        raise ValueError(f"micro_batch_size={micro_batch_size} encodes nothing; set 1 or more, or None for one pass.")
    # The second pass runs to its end, not just to the last tensor that backward wants: FSDP2 frees the parameters of a
    # module in a hook after its forward, which an early stop would skip.
    parts = [checkpoint(encode, part, use_reentrant=False, early_stop=False) for part in pixels.split(micro_batch_size)]
    return torch.cat(parts)


def check_text_pairs(images: torch.Tensor | None, first_texts: torch.Tensor, texts: torch.Tensor | None) -> None:
    """Text-text pairs have one partner a row: what several texts an image are to a first sentence is not defined.

    Args:
        images: (B_i, ...) or None.
        first_texts: (B_f, ...).
        texts: (B_i + B_f, ...), the partners of both.

    Raises:
        ValueError: There are more or fewer texts, or none.
    """
    rows = (0 if images is None else len(images)) + len(first_texts)
    if texts is None or len(texts) != rows:
        raise ValueError(
            f"first_text_pixel_values has {len(first_texts)} rows beside {rows - len(first_texts)} images, so "
            f"text_pixel_values needs {rows}, captions first and second sentences after them; it has "
            f"{0 if texts is None else len(texts)}."
        )
