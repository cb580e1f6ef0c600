"""Specification of one task of text generation, as a recipe writes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.dataclasses import strict

from clippo.data.specs import read_spec

# Task -> its prompt where the recipe gives none.
PROMPTS = {
    "caption": "caption {language}",
    "answer": "{question}",
    "name": "name {language}",
    "split": "{text}",
    "continue": "{text}",
    "read": "{text}",
}
OF_IMAGES = ("caption", "answer", "name", "split")


@strict
@dataclass
class TaskSpec:
    """One task: the data, the drawn prompt and the text to write.

    Args:
        path: File, glob, folder or hub name, see `load_rows`; for "name" the folder of the emoji data set.
        task: "caption" (describe an image), "answer" (a question about an image), "name" (name an emoji), "continue"
            (draw the first part of a text, write the rest) or "read" (draw a text and write it).
        name: Name in messages and metrics, the task by default.
        weight: Share of the batch; the weights of all tasks sum to 1.
        split: Split of a folder or of a data set on the hub; for "name" also "held_out".
        rows: First and last row, the last one exclusive, to divide a file into training and validation.
        prompt: Text that is drawn. {language}, {question} and {text} are replaced.
        image_column: Column of the images.
        text_columns: Columns of captions or texts: {language: column or columns}, or columns without a language.
        language_column: Column with the language of a row, in place of languages in `text_columns`.
        languages: Languages to keep. None keeps all.
        question_column: Column of questions. Default: "questions", or else "question".
        answer_column: Column of answers. Default: "answers", or else "answer".
        question_pattern: Regular expression; only questions in which it is found are kept. A second entry of the same
            file can then train the kinds of questions that a model still gets wrong more often.
        min_columns: Shortest line for "continue" and "read", in columns of 8 pixels. A Chinese character takes two.
        max_columns: Longest line.
        random_share: Share of the lines for "read" that are random characters of their language instead of its words.
            Rare characters are then seen more often.
        limit: Largest number of examples in an evaluation, evenly spaced.

    Raises:
        ValueError: The task is not known, or a value does not go with it.

    Example:
        >>> from clippo.tasks.generation.specs import TaskSpec
        >>> TaskSpec("data/books/train.parquet", "read", text_columns="text").columns_of
        {'': ['text']}
    """

    path: str
    task: str
    name: str | None = None
    weight: float | int = 1.0
    split: str = "train"
    rows: list[int] | None = None
    prompt: str | None = None
    image_column: str = "image"
    text_columns: str | list[str] | dict[str, Any] | None = None
    language_column: str | None = None
    languages: list[str] | None = None
    question_column: str | None = None
    answer_column: str | None = None
    question_pattern: str | None = None
    min_columns: int = 4
    max_columns: int = 60
    random_share: float | int = 0.0
    limit: int | None = None

    def __post_init__(self):
        if self.task not in PROMPTS:
            raise ValueError(f"{self.path}: task={self.task!r} is not known; write one of {', '.join(PROMPTS)}.")
        self.name = self.name or self.task
        self.prompt = PROMPTS[self.task] if self.prompt is None else self.prompt
        if self.task in ("caption", "split", "continue", "read") and not self.text_columns:
            raise ValueError(f"{self.name}: the task {self.task!r} needs text_columns.")
        if self.task in ("split", "continue", "read") and "{text}" not in self.prompt:
            raise ValueError(f"{self.name}: the prompt {self.prompt!r} draws no text; write {{text}} in it.")
        if self.task == "answer" and "{question}" not in self.prompt:
            raise ValueError(f"{self.name}: the prompt {self.prompt!r} draws no question; write {{question}} in it.")
        self._check_pattern()
        if not 1 <= self.min_columns <= self.max_columns:
            raise ValueError(
                f"{self.name}: min_columns={self.min_columns} and max_columns={self.max_columns} must be a rising "
                "range from 1."
            )
        if self.rows is not None and (len(self.rows) != 2 or not 0 <= self.rows[0] < self.rows[1]):
            raise ValueError(f"{self.name}: rows={self.rows} is not a range; give the first row and the one after.")
        if not 0 <= self.random_share <= 1:
            raise ValueError(f"{self.name}: random_share={self.random_share} is not a share from 0 to 1.")

    def _check_pattern(self):
        if self.question_pattern is None:
            return
        if self.task != "answer":
            raise ValueError(
                f"{self.name}: question_pattern selects questions, but the task is {self.task!r}; drop it."
            )
        try:
            re.compile(self.question_pattern)
        except re.error as error:
            raise ValueError(
                f"{self.name}: question_pattern={self.question_pattern!r} is not a regular expression ({error}); "
                "correct it."
            ) from error

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "TaskSpec":
        """The task that a mapping of a recipe describes; see `read_spec`."""
        return read_spec(cls, spec)

    @property
    def columns_of(self) -> dict[str, list[str]]:
        """Language -> columns of its texts; "" where the recipe names no language."""
        columns = self.text_columns
        columns = columns if isinstance(columns, dict) else {"": columns}
        listed = {language: [c] if isinstance(c, str) else list(c or []) for language, c in columns.items()}
        return {name: c for name, c in listed.items() if not name or self.languages is None or name in self.languages}

    def draw(self, language: str = "", question: str = "", text: str = "") -> str:
        """The drawn prompt of one example."""
        return self.prompt.replace("{language}", language).replace("{question}", question).replace("{text}", text)
