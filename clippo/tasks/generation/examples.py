"""Examples of the tasks: image, drawn prompt, and the text to write."""

import copy
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from clippo.data.samples import UnusableRow, captions_of, read_image
from clippo.data.sampling import SampleKey
from clippo.data.sources import check_columns, load_rows
from clippo.emoji import EmojiPairs
from clippo.tasks.generation.lines import alphabet, draw_line, passages, random_line, split_line
from clippo.tasks.generation.specs import TaskSpec
from clippo.tasks.vqa.data import VisualQuestions


class TaskExamples(Dataset):
    """Examples of one task.

    Items are {"image": PIL image or None, "prompt", "target", "language", "task"}. In training the caption, the
    language, the line and its cut are drawn; in evaluation they are fixed, and `references` holds the right texts.

    Args:
        spec: The task.
        sampling: Draw at random, for training.
        fits: Function from drawn texts to booleans; lines that do not fit are left out of an evaluation.

    Raises:
        ValueError: A column is missing, or there is no example.

    Example:
        >>> from clippo.tasks.generation.specs import TaskSpec
        >>> spec = TaskSpec("docs/pictures/queries.json", "read", text_columns="text", prompt="read {text}")
        >>> item = TaskExamples(spec, sampling=False)[0]
        >>> item["prompt"] == f"read {item['target']}"
        True
    """

    def __init__(
        self, spec: TaskSpec, sampling: bool = True, fits: Callable[[Sequence[str]], Sequence[bool]] | None = None
    ):
        self.spec, self.sampling = spec, sampling
        self._move = 0  # rows between an example and the image it is shown with
        kinds = {"answer": _Answers, "name": _Names, "caption": _Captions, "split": _SplitCaptions}
        kind = kinds.get(spec.task, _Lines)
        self.source = kind(spec, sampling)
        self.order = np.arange(len(self.source))
        if not sampling and spec.limit is not None and spec.limit < len(self.order):
            self.order = np.unique(np.linspace(0, len(self.order) - 1, spec.limit, dtype=int))
        if not sampling and fits is not None and isinstance(self.source, _Lines):
            self.order = self.order[np.asarray(fits([self.read(i, None)["prompt"] for i in range(len(self.order))]))]
        if not len(self.order):
            raise ValueError(f"{spec.name}: there is no example in {spec.path}; check columns, languages and rows.")

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> dict[str, Any]:
        try:
            return self.read(int(row), None)
        except UnusableRow as error:
            raise ValueError(f"{self.spec.name}: example {row} cannot be used ({error}); mend or drop it.") from error

    def read(self, row: int, generator: np.random.Generator | None) -> dict[str, Any]:
        """Example of a row.

        Args:
            row: Number of the example.
            generator: Source of randomness; None for the fixed example of an evaluation.

        Raises:
            UnusableRow: The row has no text, or no image that can be decoded.
        """
        number = int(self.order[row])
        image, prompt, target, language = self.source.read(number, generator)
        if self._move:
            image = self.source.read(int(self.order[(row + self._move) % len(self)]), generator)[0]
        return {"image": image, "prompt": prompt, "target": target, "language": language, "task": self.spec.task}

    @property
    def references(self) -> list[list[str]]:
        """The right texts of each example."""
        return [self.source.references(int(number)) for number in self.order]

    @property
    def languages(self) -> list[str]:
        """The language of each example."""
        return [self.source.language(int(number)) for number in self.order]

    def exchanged(self) -> "TaskExamples":
        """The same prompts and references with the images of other examples: the control of what images contribute."""
        other = copy.copy(self)
        other._move = max(1, len(self) // 2)
        return other


class _Captions:
    """Images with captions. A row is an image in training, and an image and a language in evaluation."""

    def __init__(self, spec: TaskSpec, sampling: bool):
        self.spec, self.columns = spec, spec.columns_of
        rows = _open(spec, [spec.image_column, *chain(*self.columns.values())])
        self.images = rows[spec.image_column]
        texts = rows.select_columns(list(chain(*self.columns.values())))
        self.captions = [{n: list(chain(*captions_of(row, c))) for n, c in self.columns.items()} for row in texts]
        pairs = [(row, name) for row, by in enumerate(self.captions) for name, found in by.items() if found]
        self.index = list(dict.fromkeys((row, "") for row, _ in pairs)) if sampling else pairs

    def __len__(self) -> int:
        return len(self.index)

    def language(self, number: int) -> str:
        return self.index[number][1]

    def references(self, number: int) -> list[str]:
        row, language = self.index[number]
        return self.captions[row][language]

    def read(self, number: int, generator: np.random.Generator | None) -> tuple[Any, str, str, str]:
        row, language = self.index[number]
        if generator is not None:
            names = [name for name, found in self.captions[row].items() if found]
            language = names[generator.integers(len(names))]
        found = self.captions[row][language]
        target = found[0 if generator is None else generator.integers(len(found))]
        return read_image(self.images[row]), self.spec.draw(language), target, language


class _SplitCaptions(_Captions):
    """Images with the first part of a caption; the target is the rest."""

    def __init__(self, spec: TaskSpec, sampling: bool):
        super().__init__(spec, sampling)
        if not sampling:  # the first caption is the one that is cut
            self.index = [(row, name) for row, name in self.index if len(self._words(self.captions[row][name][0])) > 1]

    @staticmethod
    def _words(caption: str) -> str:
        return " ".join(caption.split())

    def references(self, number: int) -> list[str]:
        row, language = self.index[number]
        return [_cut(self._words(self.captions[row][language][0]), np.random.default_rng(number))[1]]

    def read(self, number: int, generator: np.random.Generator | None) -> tuple[Any, str, str, str]:
        image, _, caption, language = super().read(number, generator)
        first, rest = _cut(self._words(caption), np.random.default_rng(number) if generator is None else generator)
        return image, self.spec.draw(language, text=first), rest, language


class _Answers:
    """Questions about images."""

    def __init__(self, spec: TaskSpec, sampling: bool):
        self.spec = spec
        rows = _open(spec, [spec.image_column])
        columns = (spec.image_column, spec.question_column, spec.answer_column)
        self.questions = VisualQuestions.from_rows(rows, *columns)
        if spec.question_pattern is not None:
            found = [row for row in self.questions.rows if re.search(spec.question_pattern, row[1])]
            self.questions.rows = found

    def __len__(self) -> int:
        return len(self.questions)

    def language(self, number: int) -> str:
        return ""

    def references(self, number: int) -> list[str]:
        return self.questions.rows[number][2]

    def read(self, number: int, generator: np.random.Generator | None) -> tuple[Any, str, str, str]:
        image, question, answers = self.questions.rows[number]
        target = answers[0 if generator is None else generator.integers(len(answers))]
        return read_image(self.questions.images[image]), self.spec.draw(question=question), target, ""


class _Names:
    """Names of emoji. A row is an image in training, and an image and a language in evaluation."""

    def __init__(self, spec: TaskSpec, sampling: bool):
        self.spec = spec
        self.pairs = EmojiPairs(spec.path, spec.split, spec.languages, sampling=sampling, p_name=1.0)

    def __len__(self) -> int:
        return len(self.pairs)

    def language(self, number: int) -> str:
        return self.pairs[number]["language"]

    def references(self, number: int) -> list[str]:
        return [self.pairs[number]["text"]]

    def read(self, number: int, generator: np.random.Generator | None) -> tuple[Any, str, str, str]:
        item = self.pairs[number if generator is None else SampleKey(0, number, int(generator.integers(2**62)))]
        return Image.fromarray(item["image"]), self.spec.draw(item["language"]), item["text"], item["language"]


class _Lines:
    """Lines of running text, for "read" and "continue". A row is a passage of at most 400 characters."""

    def __init__(self, spec: TaskSpec, sampling: bool):
        self.spec, columns = spec, spec.columns_of
        needed = [*chain(*columns.values()), *([spec.language_column] if spec.language_column else [])]
        self.passages: list[tuple[str, str]] = []
        for row in _open(spec, needed):
            for language, names in columns.items():
                language = str(row[spec.language_column]) if spec.language_column else language
                if spec.languages is None or language in spec.languages:
                    texts = (text for found in captions_of(row, names) for text in found)
                    self.passages += [(part, language) for text in texts for part in passages(text)]
        self.alphabets = {}
        if sampling and spec.random_share:
            for language in {language for _, language in self.passages}:
                self.alphabets[language] = alphabet(text for text, name in self.passages if name == language)

    def __len__(self) -> int:
        return len(self.passages)

    def language(self, number: int) -> str:
        return self.passages[number][1]

    def references(self, number: int) -> list[str]:
        return [self.read(number, None)[2]]

    def read(self, number: int, generator: np.random.Generator | None) -> tuple[Any, str, str, str]:
        passage, language = self.passages[number]
        chance = np.random.default_rng(number) if generator is None else generator
        least, most = self.spec.min_columns, self.spec.max_columns
        if self.alphabets and chance.random() < self.spec.random_share:
            line = random_line(self.alphabets[language], least, most, chance)
        else:
            line = draw_line(passage, least, most, chance)
        if not line:
            raise UnusableRow("no line")
        if self.spec.task == "read":
            return None, self.spec.draw(language, text=line), line, language
        first, rest = _cut(line, chance)
        return None, self.spec.draw(language, text=first), rest, language


def _cut(text: str, generator: np.random.Generator) -> tuple[str, str]:
    """First part and rest; UnusableRow if the text is too short."""
    try:
        return split_line(text, generator)
    except ValueError as error:
        raise UnusableRow("text of fewer than two characters") from error


def _open(spec: TaskSpec, columns: Sequence[str]) -> Any:
    """Rows of a task within its range."""
    rows = load_rows(spec.path, None if spec.split == "train" else spec.split, name=spec.name)
    check_columns(rows, columns, spec.name)
    if spec.rows is not None:
        rows = rows.select(range(spec.rows[0], min(spec.rows[1], len(rows))))
    return rows
