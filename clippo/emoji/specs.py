"""Specification of the emoji data set as the source of a training run."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict

from clippo.data.specs import AloneSpec
from clippo.emoji.augmentation import RandomView
from clippo.emoji.pairs import EmojiPairs


@strict
@dataclass
class EmojiSpec(AloneSpec):
    """The emoji data set as the only source of a recipe.

    Args:
        path: Folder that `clippo build emoji` wrote.
        kind: "emoji".
        name: Name in messages, the path by default.
        languages: CLDR codes of the languages to train on, all by default. "*" stands for all that are not listed.
        anchor: Language of the first text of every image while other languages are learned.
        grow: Two numbers of batches, between which the languages join one after another, the anchor first.
        balance: How much more often languages are drawn whose script few others have, 0 to 1, see `EmojiPairs`.
        name_probability: Probability that a text is the name of its image and not a keyword.

    Raises:
        StrictDataclassFieldValidationError: A value has the wrong type.

    Example:
        >>> from clippo.emoji import EmojiSpec
        >>> EmojiSpec.from_dict({"kind": "emoji", "path": "data/emoji", "languages": "en"}).languages
        ['en']
    """

    title: ClassVar[str] = "emoji"

    path: str
    kind: str = "emoji"
    name: str | None = None
    languages: str | list[str] | None = None
    anchor: str | None = None
    grow: list[int] | None = None
    balance: float | int = 0.0
    name_probability: float | int = 0.5

    def __post_init__(self):
        self.name = self.name or self.path
        if isinstance(self.languages, str):
            self.languages = [self.languages]

    def open(self, texts_per_image: int = 1) -> tuple[EmojiPairs, EmojiPairs]:
        """Training pairs and held-out pairs.

        Args:
            texts_per_image: Texts drawn for each image of a training batch.

        Returns:
            The training set, and one held-out pair for each image, so that metrics rank over all images.
        """
        train = EmojiPairs(
            self.path,
            "train",
            self.languages,
            p_name=self.name_probability,
            texts_per_image=texts_per_image,
            anchor=self.anchor,
            grow=self.grow,
            balance=self.balance,
        )
        return train, EmojiPairs(self.path, "held_out", self.languages, sampling=False).one_per_picture()

    @staticmethod
    def views(size: int) -> RandomView:
        """Random views of the training images.

        Args:
            size: Side of the canvas in pixels.
        """
        return RandomView(size, dtype=torch.uint8)
