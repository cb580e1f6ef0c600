"""New pairs and old pairs in one mixture: a fixed share of every batch is from what the model was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from clippo.data import PairMixture, SourcePairs, SourceSpec
from clippo.data.sampling import SampleKey
from clippo.emoji import EmojiPairs, EmojiSpec
from clippo.processing import to_rgb
from clippo.tasks.pairs.labels import LabelledImages, LabelSpec
from clippo.training.fingerprint import describe_data


class EmojiReplay:
    """The emoji data set as one source of a mixture: its images over white, with texts of the trained pairs.

    Args:
        spec: The emoji data set.
        texts_per_image: Texts drawn for each image, in different languages as far as there are enough.

    Example:
        >>> from pathlib import Path
        >>> from clippo.emoji import EmojiSpec
        >>> from clippo.tasks.pairs.sources import EmojiReplay
        >>> if Path("data/emoji").is_dir():
        ...     assert EmojiReplay(EmojiSpec("data/emoji")).read(0, np.random.default_rng(0))["image"].mode == "RGB"
    """

    def __init__(self, spec: EmojiSpec, texts_per_image: int = 1):
        self.spec = spec
        self.pairs: EmojiPairs = spec.open(texts_per_image)[0]

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, row: int, generator: np.random.Generator) -> dict[str, Any]:
        """Item {"image", "text"} of one image.

        Args:
            row: Number of the image.
            generator: Source of randomness.
        """
        item = self.pairs[SampleKey(0, row, int(generator.integers(2**62)))]
        return {"image": to_rgb(Image.fromarray(item["image"])), "text": item["text"]}


@describe_data.register
def _(dataset: EmojiReplay) -> dict[str, Any]:
    return describe_data(dataset.pairs)


def mix_pairs(
    sources: Sequence[Mapping[str, Any]],
    replay: Sequence[Mapping[str, Any]] = (),
    replay_share: float = 0.5,
    texts_per_image: int = 1,
) -> PairMixture:
    """Mixture of new and old pairs. The first new source defines the epoch.

    Args:
        sources: New pairs: mappings of `SourceSpec`, or of `LabelSpec` with `kind: labels`.
        replay: Old pairs, likewise, or the emoji data set (`kind: emoji`).
        replay_share: Share of every batch that is from `replay`.
        texts_per_image: Texts drawn for each image.

    Raises:
        ValueError: There are no sources, the share is not between 0 and 1, the weights of new or of old pairs do not
            sum to 1, or a source streams.

    Example:
        >>> from clippo.tasks.pairs.sources import mix_pairs
        >>> names = {"path": "docs/pictures/queries.json", "kind": "text_text", "caption_columns": ["text", "picture"]}
        >>> mix_pairs([names], [{**names, "name": "old"}], replay_share=0.25).weights
        [0.75, 0.25]
    """
    if not sources:
        raise ValueError("There are no pairs to fine-tune on; give sources, a list of mappings with a path each.")
    if replay and not 0 < replay_share < 1:
        raise ValueError(f"replay_share={replay_share} is not a share of the batch; write more than 0, less than 1.")
    new, old = _open(sources, "sources", texts_per_image), _open(replay, "replay", texts_per_image)
    shares = ((new, 1 - replay_share if old else 1.0), (old, replay_share))
    mixed = [(name, data, share * weight) for several, share in shares for name, data, weight in several]
    return PairMixture([data for _, data, _ in mixed], [weight for *_, weight in mixed], [name for name, *_ in mixed])


def _open(sources: Sequence[Mapping[str, Any]], title: str, texts_per_image: int) -> list[tuple[str, Any, float]]:
    """Name, data set and weight of each source."""
    specs = [_spec(source) for source in sources]
    total = sum(weight for *_, weight in specs)
    if specs and abs(total - 1) > 1e-6:
        raise ValueError(f"The weights of {title} must sum to 1, they sum to {total:g}.")
    return [(spec.name, kind(spec, texts_per_image=texts_per_image), weight) for spec, kind, weight in specs]


def _spec(source: Mapping[str, Any]) -> tuple[Any, type, float]:
    """Specification, data set class and weight of a source."""
    kind = source.get("kind") if isinstance(source, Mapping) else None
    if kind == "emoji":  # elsewhere the emoji data set is a source alone, without a weight
        fields = {name: value for name, value in source.items() if name != "weight"}
        return EmojiSpec.from_dict(fields), EmojiReplay, source.get("weight", 1.0)
    chosen = (LabelSpec, LabelledImages) if kind == "labels" else (SourceSpec, SourcePairs)
    spec = chosen[0].from_dict(source)
    return spec, chosen[1], spec.weight
