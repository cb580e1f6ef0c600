"""Questions about pictures: where they come from, the answers to choose among, and batches of canvases."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from PIL import Image
from torch.utils.data import Dataset

from clippo.data.pictures import UnusableRow, read_picture
from clippo.tasks.vqa.answers import normalize_answer

BLIND = ("picture", "question")


class VisualQuestions(Dataset):
    """Questions, each with a picture and the answers that people gave.

    Items: {"image", "question", "answers": list of str}. Fetched as a batch (as a DataLoader does), a picture with
    several questions in it is opened once.

    Args:
        images: pictures by index: a sequence of files, or a column-like object that decodes on access.
        questions: (index of the picture, question, answers) each.
    """

    def __init__(self, images: Sequence, questions: Iterable[tuple[int, str, list[str]]]):
        self.images, self.rows = images, list(questions)
        if not self.rows:
            raise ValueError("There are no questions in this data set.")

    @classmethod
    def from_rows(cls, rows, image_column="image", question_column=None, answer_column=None) -> "VisualQuestions":
        """From a `datasets.Dataset`.

        A cell of the question column is one question or a list of questions about the row's picture. The answer column
        holds for each question one answer, or a list of several people's (strings, or dicts with "answer" as VQAv2's).
        True and false are the answers "true" and "false", numbers are what they are written as.

        Raises:
            ValueError: a column is missing, a row has not as many answers as questions, or a question or an answer is
                nothing of that kind.
        """
        question_column = question_column or ("questions" if "questions" in rows.column_names else "question")
        answer_column = answer_column or ("answers" if "answers" in rows.column_names else "answer")
        missing = [n for n in (image_column, question_column, answer_column) if n not in rows.column_names]
        if missing:
            raise ValueError(f"No column {', '.join(missing)} in the data set; it has {', '.join(rows.column_names)}.")
        triples = []
        for i, (asked, given) in enumerate(zip(rows[question_column], rows[answer_column], strict=True)):
            if not isinstance(asked, list | tuple):
                asked, given = [asked], [given]
            wrong = [question for question in asked if not isinstance(question, str)]
            if wrong:
                raise ValueError(f"Row {i}: the question is {wrong[0]!r}; it has to be a string. Mend or drop the row.")
            if len(asked) != len(given):
                raise ValueError(f"Row {i} has {len(asked)} questions and {len(given)} answers; they belong in pairs.")
            triples += [(i, q, _as_answers(a, f"Row {i}")) for q, a in zip(asked, given, strict=True)]
        return cls(rows[image_column], triples)

    @classmethod
    def from_vqa_v2(cls, questions_file: str, annotations_file: str, image_folder: str) -> "VisualQuestions":
        """From the official VQAv2 files. A picture's file is the one whose name ends in its id, as COCO's do.

        Raises:
            ValueError: questions without annotation. FileNotFoundError: pictures that are not in the folder.
        """
        asked = json.loads(Path(questions_file).read_text(encoding="utf-8"))["questions"]
        given = json.loads(Path(annotations_file).read_text(encoding="utf-8"))["annotations"]
        answers = {
            entry["question_id"]: _as_answers(entry["answers"], f"Question {entry['question_id']}") for entry in given
        }
        numbered = ((re.search(r"(\d+)$", path.stem), path) for path in sorted(Path(image_folder).iterdir()))
        files = {int(found[1]): path for found, path in numbered if found}
        without = [entry["question_id"] for entry in asked if entry["question_id"] not in answers]
        if without:
            raise ValueError(f"{len(without)} questions have no annotation in {annotations_file}, first {without[0]}.")
        absent = sorted({entry["image_id"] for entry in asked} - set(files))
        if absent:
            raise FileNotFoundError(f"{len(absent)} pictures are not in {image_folder}, the first has id {absent[0]}.")
        ids = sorted({entry["image_id"] for entry in asked})
        place = {image_id: i for i, image_id in enumerate(ids)}
        return cls(
            [files[image_id] for image_id in ids],
            [(place[entry["image_id"]], entry["question"], answers[entry["question_id"]]) for entry in asked],
        )

    @property
    def answers(self) -> list[list[str]]:
        """What people answered, question by question."""
        return [answers for _, _, answers in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        rows = [self.rows[int(i)] for i in indices]
        opened = {picture: self._open(picture) for picture, _, _ in rows}
        return [{"image": opened[picture], "question": q, "answers": answers} for picture, q, answers in rows]

    def _open(self, picture: int):
        image = self.images[picture]
        try:
            return read_picture(str(image) if isinstance(image, Path) else image)
        except UnusableRow as error:
            raise ValueError(f"Picture {picture} cannot be used, {error}; mend or drop its row.") from error


def load_questions(source: str) -> VisualQuestions:
    """The questions that a name stands for.

    Args:
        source: a parquet file, a hub name "name:split", or VQAv2's "questions.json,annotations.json,image folder".

    Raises:
        ValueError: the source is neither one name nor three, or a hub name comes without its split.
    """
    parts = source.split(",")
    if len(parts) == 3:
        return VisualQuestions.from_vqa_v2(*parts)
    if len(parts) != 1 or not source:
        raise ValueError(
            f"{source!r} names no questions; give a parquet file, 'hub/name:split', or three paths with commas: "
            "questions.json,annotations.json,image folder."
        )
    if source.endswith(".parquet"):
        return VisualQuestions.from_rows(load_dataset("parquet", data_files=source, split="train"))
    name, _, split = source.partition(":")
    if not split:
        raise ValueError(f"{source!r} says no split; write {source}:train, or whichever it is to be.")
    return VisualQuestions.from_rows(load_dataset(name, split=split))


def _as_answers(cell, place: str) -> list[str]:
    if isinstance(cell, dict):
        cell = cell.get("answer")
    if isinstance(cell, list | tuple):
        return [answer for entry in cell for answer in _as_answers(entry, place)]
    if isinstance(cell, bool):
        return [str(cell).lower()]
    if isinstance(cell, str | int | float):
        return [str(cell)]
    raise ValueError(
        f"{place}: the answer is {cell!r}; it has to be a string, or a list of them. Mend or drop the row."
    )


class AnswerVocabulary:
    """The answers that a model chooses among.

    Args:
        answers: the texts, one a class.
        normalize: compare in the official form of the VQA challenge.
    """

    def __init__(self, answers: Sequence[str], normalize: bool = False):
        self.answers, self.normalize = list(answers), normalize
        self._index = {answer: i for i, answer in enumerate(self.answers)}
        if len(self._index) != len(self.answers) or not self.answers:
            raise ValueError(f"An answer vocabulary needs different answers, at least one; got {self.answers[:10]}.")

    @classmethod
    def from_data(
        cls, answers: Iterable[Sequence[str]], size: int | None = None, min_count: int = 1, normalize: bool = False
    ) -> "AnswerVocabulary":
        """The most frequent answers first, ties in alphabetical order; counted once a question.

        Args:
            answers: what people answered, question by question.
            size: at most so many (3129 is usual for VQAv2).
            min_count: questions that an answer has to be right for. An empty one, as "the" once normalised, is none.
            normalize: as in the class.
        """
        forms = ({normalize_answer(a) if normalize else a for a in several} - {""} for several in answers)
        counts = Counter(answer for form in forms for answer in form)
        kept = sorted((a for a, n in counts.items() if n >= min_count), key=lambda a: (-counts[a], a))
        return cls(kept[:size], normalize)

    @property
    def id2label(self) -> dict[int, str]:
        """For `ClippoConfig`."""
        return dict(enumerate(self.answers))

    def scores(self, answers: Sequence[str]) -> torch.Tensor:
        """How right every answer of the vocabulary is, float32 (A,): min(people / 3, 1), as the VQA challenge counts.

        With fewer than three people (ours), the share of them. All zeros if nobody's answer is in the vocabulary.
        """
        scores = torch.zeros(len(self.answers))
        for answer, people in Counter(normalize_answer(a) if self.normalize else a for a in answers).items():
            if answer in self._index:
                scores[self._index[answer]] = min(people / min(3, len(answers)), 1.0)
        return scores


@dataclass
class QuestionCollator:
    """Batches `VisualQuestions` for `ClippoForVisualQuestionAnswering`.

    Args:
        processor: a `ClippoProcessor`; draws every question with its picture, as uint8, a quarter of the bytes.
        vocabulary: what the labels are scores of.
        blind: "picture" shows a grey picture to every question, "question" asks nothing about every picture: what a
            model gets right then it does not owe to what it cannot see. With `min_rows == max_rows` in the layout the
            rest of the canvas stays as it is.
        augment: called with the pictures, returns as many (`PhotoAugmentation`); every question then has a view of its
            own. A mirrored picture answers questions about left and right wrongly.

    Returns `pixel_values` uint8 (B, 3, H, W) and `labels` float32 (B, A).
    """

    processor: Any
    vocabulary: AnswerVocabulary
    blind: str | None = None
    augment: Callable[[list], list] | None = None

    def __post_init__(self):
        if self.blind not in (None, *BLIND):
            raise ValueError(f"blind={self.blind!r} is not known; choose 'picture', 'question' or None.")
        self._grey = Image.new("RGB", (16, 16), (127, 127, 127))

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = [self._grey if self.blind == "picture" else item["image"] for item in items]
        if self.augment is not None:
            images = self.augment(images)
        questions = ["" if self.blind == "question" else item["question"] for item in items]
        inputs = self.processor(images=images, questions=questions, canvas_format="uint8", return_tensors="pt")
        return {
            "pixel_values": inputs["pixel_values"],
            "labels": torch.stack([self.vocabulary.scores(item["answers"]) for item in items]),
        }
