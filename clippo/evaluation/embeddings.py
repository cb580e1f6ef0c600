"""Pictures and strings to unit vectors, in batches, for any amount of either."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tqdm.auto import tqdm


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards every module trains, or not, as it did before."""
    # Module by module: parts that were set to eval on purpose, as frozen ones are, must not wake up training.
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in before:
            module.training = training


def embed_images(
    model: Any, processor: Any, images: Sequence, batch_size: int = 64, progress: bool = False
) -> torch.Tensor:
    """Embeds pictures with a `ClippoModel`.

    Args:
        model: a `ClippoModel` on any device, of any dtype; its training mode is left as it was.
        processor: the `ClippoProcessor` that belongs to it.
        images: N pictures in any form that the processor takes. Indexed one by one, so a column of a data set that
            decodes on access never lies in memory as a whole.
        batch_size: pictures embedded at once.
        progress: show a progress bar.

    Returns:
        float32 (N, E) on the CPU, of unit length, in the order of `images`.

    Raises:
        TypeError: `images` is one picture instead of a sequence of them.
        ValueError: there are no pictures, or `batch_size` is not positive.
    """
    if isinstance(images, str | bytes) or not hasattr(images, "__getitem__"):
        raise TypeError(f"images is one {type(images).__name__}; pass a sequence of pictures.")

    def features(batch: list) -> torch.Tensor:
        inputs = processor(images=batch, return_tensors="pt").to(model.device)
        return model.get_image_features(**inputs).pooler_output

    order = range(len(images))
    return _embed(model, images, order, features, batch_size, "pictures" if progress else None)


def embed_texts(
    model: Any, processor: Any, texts: Sequence[str], batch_size: int = 256, progress: bool = False
) -> torch.Tensor:
    """Embeds strings with a `ClippoModel`, each different one once.

    Args:
        model: a `ClippoModel` on any device, of any dtype; its training mode is left as it was.
        processor: the `ClippoProcessor` that belongs to it.
        texts: N strings.
        batch_size: strings embedded at once.
        progress: show a progress bar.

    Returns:
        float32 (N, E) on the CPU, of unit length, in the order of `texts`.

    Raises:
        TypeError: `texts` is one string instead of a sequence of them.
        ValueError: there are no strings, or `batch_size` is not positive.
    """
    if isinstance(texts, str | bytes):
        raise TypeError("texts is one string; pass a list of strings.")

    def features(batch: list[str]) -> torch.Tensor:
        inputs = processor(text=batch, return_tensors="pt").to(model.device)
        return model.get_text_features(**inputs).pooler_output

    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct = list(place)
    # By length: where blank patches are skipped, a batch costs what its longest text costs.
    order = sorted(range(len(distinct)), key=lambda i: len(distinct[i]))
    embeddings = _embed(model, distinct, order, features, batch_size, "texts" if progress else None)  # (distinct, E)
    if len(distinct) == len(texts):
        return embeddings
    return embeddings[[place[text] for text in texts]]


def _embed(
    model: Any,
    items: Sequence,
    order: Sequence[int],
    features: Callable[[list], torch.Tensor],
    batch_size: int,
    label: str | None,
) -> torch.Tensor:
    """Unit vectors (N, E) of `items`, computed in `order` and returned in their own; a bar if there is a `label`."""
    if not order:
        raise ValueError("There is nothing to embed: the list is empty.")
    if batch_size < 1:
        raise ValueError(f"batch_size is a positive number, got {batch_size}.")
    result = None
    with evaluation_mode(model), tqdm(total=len(order), desc=label, disable=label is None) as bar:
        for start in range(0, len(order), batch_size):
            chosen = list(order[start : start + batch_size])
            vectors = features([items[i] for i in chosen]).float()
            vectors = (vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-8)).cpu()  # (b, E), official epsilon
            if result is None:
                result = vectors.new_empty(len(order), vectors.shape[-1])
            result[chosen] = vectors
            bar.update(len(chosen))
    return result.clone()  # made outside of inference mode, so that autograd may use it
