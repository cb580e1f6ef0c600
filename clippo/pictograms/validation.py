"""Validation pairs of the pictograms: a training picture of each concept, and a text in a held-out language."""

from torch.utils.data import Dataset

from clippo.pictograms.pairs import PictogramPairs
from clippo.pictograms.splits import share_of
from clippo.pictograms.texts import read_texts


class HeldOutPictograms(Dataset):
    """One pair a concept: a hash chooses the picture, and one of the languages whose pair is held out.

    Args:
        train: Training set, whose pictures are read.
        most: Most pairs.

    Returns:
        Items {"image": uint8 (S, S, 4), "text", "language", "picture"}.

    Example:
        >>> from pathlib import Path
        >>> from clippo.pictograms import HeldOutPictograms, PictogramPairs
        >>> if Path("data/pictograms").is_dir():
        ...     assert "text" in HeldOutPictograms(PictogramPairs("data/pictograms"))[0]
    """

    def __init__(self, train: PictogramPairs, most: int = 1024):
        texts, _ = read_texts(train.folder, "held_out", None)
        self.images, self._items = train.images, []
        for concept in sorted(texts, key=share_of):
            pictures = train.pictures_of(concept)
            if pictures:
                place = share_of(f"validation\t{concept}")
                row = texts[concept][int(place * len(texts[concept]))]
                self._items.append((pictures[int(place * len(pictures))], row.language, row.name))
        self._items = self._items[:most]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> dict:
        picture, language, text = self._items[number]
        return {"image": self.images.picture(picture), "text": text, "language": language, "picture": picture}
