"""Specification of the pictogram data set as the source of a training run."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict

from clippo.data.specs import AloneSpec
from clippo.pictograms.pairs import PictogramPairs
from clippo.pictograms.validation import HeldOutPictograms
from clippo.pictograms.views import PictogramView


@strict
@dataclass
class PictogramSpec(AloneSpec):
    """The pictogram data set as the only source of a recipe.

    Args:
        path: Folder that `clippo build pictograms` wrote, or its compact form.
        kind: "pictograms".
        name: Name in messages, the path by default.
        linked_share: Share of a batch for concepts with texts in many languages.
        text_share: Share of those concepts that are texts alone.
        grow: Two numbers of batches, between which the languages join English one after another.
        least_sets: Concepts with English words alone are left out if fewer sets draw them.

    Raises:
        StrictDataclassFieldValidationError: A value has the wrong type.

    Example:
        >>> from clippo.pictograms import PictogramSpec
        >>> PictogramSpec.from_dict({"kind": "pictograms", "path": "data/pictograms"}).linked_share
        0.6
    """

    title: ClassVar[str] = "pictogram"

    path: str
    kind: str = "pictograms"
    name: str | None = None
    linked_share: float | int = 0.6
    text_share: float | int = 0.1
    grow: list[int] | None = None
    least_sets: int = 1

    def __post_init__(self):
        self.name = self.name or self.path

    def open(self, texts_per_image: int = 1) -> tuple[PictogramPairs, HeldOutPictograms]:
        """Training items and validation pairs.

        Args:
            texts_per_image: Texts drawn for each picture of a training batch.

        Returns:
            The training set, and one held-out pair for each concept, so that metrics rank over all concepts.
        """
        train = PictogramPairs(
            self.path,
            texts_per_image,
            float(self.linked_share),
            float(self.text_share),
            grow=self.grow,
            least_sets=self.least_sets,
        )
        return train, HeldOutPictograms(train)

    @staticmethod
    def views(size: int) -> PictogramView:
        """Random views of the training pictures.

        Args:
            size: Side of the canvas in pixels.
        """
        return PictogramView(size, dtype=torch.uint8)
