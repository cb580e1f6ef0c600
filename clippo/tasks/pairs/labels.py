"""Labelled images as pairs: the text of an image is a template with the name of its class.

Several images of a batch have the same text. In both directions of the softmax loss the gradient is then that of a
softmax over the classes of the batch, weighted by their numbers of images; the loss has a constant more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from huggingface_hub.dataclasses import strict

from clippo.data.mixture import draw_item
from clippo.data.samples import UnusableRow, draw_several, read_image
from clippo.data.sampling import KeyedDataset, SampleKey, as_key
from clippo.data.sources import load_rows
from clippo.data.specs import read_spec
from clippo.evaluation.benchmarks import Benchmark, class_names, require_columns, suggest_column

TEMPLATES = ("a photo of a {}.",)


@strict
@dataclass
class LabelSpec:
    """Labelled images as a source of `clippo finetune pairs`.

    Args:
        path: Files, folder or hub name, see `load_rows`. A folder of images has a folder for each class.
        kind: "labels".
        name: Name in messages, the path by default.
        weight: Share of the new pairs; the weights of all sources sum to 1.
        split: Split of a folder or of a data set on the hub.
        config: Configuration of a data set on the hub.
        image_column: Column of the images.
        label_column: Column of the labels: numbers of classes with names, or the names themselves.
        class_names: Text file with one name a line, by label, in place of the data set's own names.
        templates: Texts with {} in the place of the name; one of them is drawn for each image.

    Raises:
        ValueError: There are no templates, or one has no {}.

    Example:
        >>> from clippo.tasks.pairs.labels import LabelSpec
        >>> LabelSpec.from_dict({"kind": "labels", "path": "data/flowers", "templates": ["a {}"]}).label_column
        'label'
    """

    path: str
    kind: str = "labels"
    name: str | None = None
    weight: float | int = 1.0
    split: str = "train"
    config: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    class_names: str | None = None
    templates: list[str] | None = None

    def __post_init__(self):
        self.name = self.name or self.path
        self.templates = list(TEMPLATES) if self.templates is None else self.templates
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates:
            given = repr(wrong[0]) if wrong else "an empty list"
            raise ValueError(f"{self.name}: templates holds {given}; write texts with one {{}} for the class name.")

    @classmethod
    def from_dict(cls, spec: dict[str, Any]) -> "LabelSpec":
        """The source that a mapping of a recipe describes; see `read_spec`."""
        return read_spec(cls, spec)


class LabelledImages(KeyedDataset):
    """Labelled images as pairs of an image and a text.

    Args:
        spec: The source.
        texts_per_image: Texts drawn for each image, from different templates as far as there are enough.

    Returns:
        Items {"image", "text", "seed", "skipped"}; "text" is a list when an image has several texts.

    Raises:
        ValueError: A column is missing, the classes have no names, or there are no rows.

    Example:
        >>> from clippo.tasks.pairs.labels import LabelledImages, LabelSpec
        >>> spec = LabelSpec("docs/pictures/queries.json", image_column="picture", label_column="text")
        >>> LabelledImages(spec).text_of(0, "a drawing of a {}")
        'a drawing of a Schmetterling'
    """

    def __init__(self, spec: LabelSpec, texts_per_image: int = 1):
        if texts_per_image < 1:
            raise ValueError(f"texts_per_image must be a positive number, got {texts_per_image}.")
        self.spec, self.texts_per_image = spec, texts_per_image
        split = None if spec.split == "train" else spec.split
        rows = load_rows(spec.path, split, spec.config, name=spec.name)
        remedy = suggest_column(rows, "label_column", datasets.ClassLabel)
        require_columns(rows, [spec.image_column, spec.label_column], spec.name, remedy)
        self.rows = rows.select_columns([spec.image_column, spec.label_column])
        if not len(self.rows):
            raise ValueError(f"{spec.name} has no rows; check its path and split.")
        self.names = self._class_names()

    def _class_names(self) -> list[str] | None:
        """Names by label; None where the labels are the names."""
        feature, spec = self.rows.features[self.spec.label_column], self.spec
        if spec.class_names is None and getattr(feature, "dtype", None) in ("string", "large_string"):
            return None
        benchmark = Benchmark(spec.path, label=spec.label_column, class_names=spec.class_names)
        return class_names(benchmark, self.rows, {"class_names": {}})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: SampleKey | int) -> dict:
        return draw_item(self.read, as_key(key), len(self), self.spec.name)

    def text_of(self, row: int, template: str) -> str:
        """Text of a row.

        Args:
            row: Number of the row.
            template: Text with {}.
        """
        return template.replace("{}", self._name(self.rows[row][self.spec.label_column]))

    def _name(self, label: Any) -> str:
        if label is None or (self.names is not None and not 0 <= label < len(self.names)):
            known = "a name" if self.names is None else f"0 to {len(self.names) - 1}"
            raise UnusableRow(f"no class: the label is {label}, not {known}")
        return label if self.names is None else self.names[label]

    def read(self, row: int, generator: np.random.Generator | None) -> dict:
        """Item of one row.

        Args:
            row: Number of the row.
            generator: Source of randomness; None takes the first templates.

        Raises:
            UnusableRow: The label has no class, or the image cannot be read.
        """
        cells, templates = self.rows[row], self.spec.templates
        name = self._name(cells[self.spec.label_column])
        drawn = _first(len(templates), self.texts_per_image, generator)
        texts = [templates[i].replace("{}", name) for i in drawn]
        image = read_image(cells[self.spec.image_column])
        return {"image": image, "text": texts[0] if len(texts) == 1 else texts}


def _first(count: int, wanted: int, generator: np.random.Generator | None) -> Sequence[int]:
    if generator is None:
        return [i % count for i in range(wanted)]
    return draw_several(count, wanted, generator)
