"""Questions about images: reading them from any data set, and the collator that draws question and image."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, RandomSampler, Sampler

from clippo.data.samples import UnusableRow, read_image
from clippo.data.sampling import SampleKey
from clippo.data.sources import check_columns, has_splits, load_rows
from clippo.tasks.vqa.answers import AnswerVocabulary

BLIND = ("picture", "question")


class VisualQuestions(Dataset):
    """Questions, each with an image and the answers of people.

    Items are {"image", "image_number", "question", "answers": list of str}. That of a `SampleKey` has its "seed" too.
    An image is opened once for all its questions in a batch that a DataLoader fetches. With `grids` no image is opened,
    and items have "grid" in place of "image".

    Args:
        images: Images by index: a sequence of files, or a column that decodes on access.
        questions: (index of the image, question, answers) for each question.

    Attributes:
        grids: `ImageGrids` of the images, or None.
        tokens: `QuestionTokens` of the questions, or None. Items then have "question_tokens" too.

    Raises:
        ValueError: There are no questions.

    Example:
        >>> questions = VisualQuestions([Image.new("RGB", (8, 8))], [(0, "Is it black?", ["yes"])])
        >>> questions[0]["question"], questions.answers
        ('Is it black?', [['yes']])
    """

    def __init__(self, images: Sequence, questions: Iterable[tuple[int, str, list[str]]]):
        self.images, self.rows, self.grids, self.tokens = images, list(questions), None, None
        if not self.rows:
            raise ValueError("There are no questions in this data set.")

    @classmethod
    def from_rows(
        cls,
        rows: Any,
        image_column: str = "image",
        question_column: str | None = None,
        answer_column: str | None = None,
    ) -> "VisualQuestions":
        """Reads questions from a `datasets.Dataset`.

        Args:
            rows: The data set.
            image_column: Column of the images.
            question_column: Column with one question, or a list of questions about the image. Default: "questions", or
                else "question".
            answer_column: Column with one answer for each question, or a list of answers of several people. An answer
                is a string, a number, a boolean, a class of the data set, which stands for its name, or a dict with
                "answer" as in VQAv2. Default: "answers", or else "answer".

        Raises:
            ValueError: A column is missing, a row has different numbers of questions and answers, or a question or an
                answer has another type.
        """
        question_column = question_column or ("questions" if "questions" in rows.column_names else "question")
        answer_column = answer_column or ("answers" if "answers" in rows.column_names else "answer")
        check_columns(rows, (image_column, question_column, answer_column), "the data set", nested=False)
        triples, names = [], getattr(rows.features[answer_column], "names", None)
        for i, (asked, given) in enumerate(zip(rows[question_column], rows[answer_column], strict=True)):
            given = names[given] if names and given is not None else given
            if not isinstance(asked, list | tuple):
                asked, given = [asked], [given]
            wrong = [question for question in asked if not isinstance(question, str)]
            if wrong:
                raise ValueError(f"Row {i}: the question is {wrong[0]!r}; it has to be a string. Fix or drop the row.")
            if len(asked) != len(given):
                raise ValueError(f"Row {i} has {len(asked)} questions and {len(given)} answers; give as many of both.")
            triples += [(i, q, _parse_answers(a, f"Row {i}")) for q, a in zip(asked, given, strict=True)]
        return cls(rows[image_column], triples)

    @classmethod
    def from_vqa_v2(cls, questions_file: str, annotations_file: str, image_folder: str) -> "VisualQuestions":
        """Reads the official VQAv2 files.

        Args:
            questions_file: JSON file of the questions.
            annotations_file: JSON file of the answers.
            image_folder: Folder of images whose names end in their id, as COCO's do.

        Raises:
            FileNotFoundError: An image is missing from the folder.
            ValueError: A question has no annotation.
        """
        asked = json.loads(Path(questions_file).read_text(encoding="utf-8-sig"))["questions"]
        given = json.loads(Path(annotations_file).read_text(encoding="utf-8-sig"))["annotations"]
        answers = {
            entry["question_id"]: _parse_answers(entry["answers"], f"Question {entry['question_id']}")
            for entry in given
        }
        numbered = ((re.search(r"(\d+)$", path.stem), path) for path in sorted(Path(image_folder).iterdir()))
        files = {int(found[1]): path for found, path in numbered if found}
        without = [entry["question_id"] for entry in asked if entry["question_id"] not in answers]
        if without:
            raise ValueError(f"{len(without)} questions have no annotation in {annotations_file}, first {without[0]}.")
        ids = sorted({entry["image_id"] for entry in asked})
        absent = [image_id for image_id in ids if image_id not in files]
        if absent:
            raise FileNotFoundError(f"{len(absent)} images are not in {image_folder}, the first has id {absent[0]}.")
        index = {image_id: i for i, image_id in enumerate(ids)}
        return cls(
            [files[image_id] for image_id in ids],
            [(index[entry["image_id"]], entry["question"], answers[entry["question_id"]]) for entry in asked],
        )

    @property
    def answers(self) -> list[list[str]]:
        """Answers of people to each question."""
        return [answers for _, _, answers in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | SampleKey) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | SampleKey]) -> list[dict[str, Any]]:
        numbers = [i.row if isinstance(i, SampleKey) else int(i) for i in indices]
        rows = [self.rows[number] for number in numbers]
        kind, fetch = ("image", self._open) if self.grids is None else ("grid", self.grids.__getitem__)
        fetched = {image: fetch(image) for image, _, _ in rows}
        items = [
            {kind: fetched[image], "image_number": image, "question": question, "answers": answers}
            for image, question, answers in rows
        ]
        if self.tokens is not None:
            items = [{**item, "question_tokens": self.tokens[n]} for item, n in zip(items, numbers, strict=True)]
        return [
            {**item, "seed": i.seed} if isinstance(i, SampleKey) else item
            for item, i in zip(items, indices, strict=True)
        ]

    def _open(self, index: int) -> Any:
        image = self.images[index]
        try:
            return read_image(image)
        except UnusableRow as error:
            raise ValueError(f"Image {index} cannot be used, {error}; fix or drop its row.") from error


def load_questions(source: str, **columns: str | None) -> VisualQuestions:
    """Loads questions by name.

    Args:
        source: A data set in the notation of `load_rows` ("train.parquet", "hub/name:split"), or the three paths of
            VQAv2, "questions.json,annotations.json,image folder".
        columns: `image_column`, `question_column` and `answer_column` of `VisualQuestions.from_rows`.

    Raises:
        ValueError: The source is neither one name nor three paths, or a data set with splits comes without its split.
    """
    parts = source.split(",")
    if len(parts) == 3:
        return VisualQuestions.from_vqa_v2(*parts)
    if len(parts) != 1 or not source:
        raise ValueError(
            f"{source!r} is not a source of questions; give a file, 'hub/name:split', or three paths with commas: "
            "questions.json,annotations.json,image folder."
        )
    if has_splits(source) and ":" not in source:
        raise ValueError(f"{source!r} has no split; write {source}:train, or the name of another split.")
    return VisualQuestions.from_rows(load_rows(source), **columns)


def _parse_answers(cell: Any, place: str) -> list[str]:
    """Converts a cell to strings; True and False become "true" and "false"."""
    if isinstance(cell, dict):
        cell = cell.get("answer")
    if isinstance(cell, list | tuple):
        return [answer for entry in cell for answer in _parse_answers(entry, place)]
    if isinstance(cell, bool):
        return [str(cell).lower()]
    if isinstance(cell, str | int | float):
        return [str(cell)]
    raise ValueError(f"{place}: the answer is {cell!r}; it has to be a string, or a list of them. Fix or drop the row.")


class SeededSampler(Sampler):
    """Order of another sampler, with a seed for each row that depends on the run's seed, the epoch and the row only.

    A run that resumes in the middle of an epoch therefore augments its images as an uninterrupted run does. Seeds from
    torch's global generator would not, because the data loader fetches batches before they are trained on.

    Args:
        sampler: Sampler of rows. A `RandomSampler` is replaced by one whose order follows from the seed and the epoch.
        rows: Number of rows of the data set.
        seed: Seed of the run.

    Example:
        >>> sampler = SeededSampler(range(2), rows=2, seed=0)
        >>> [key.row for key in sampler], list(sampler) == list(sampler)
        ([0, 1], True)
    """

    def __init__(self, sampler: Any, rows: int, seed: int):
        if isinstance(sampler, RandomSampler):
            # Accelerate would put this one into its place.
            sampler = SeedableRandomSampler(sampler.data_source, data_seed=seed)
        self.sampler, self.rows, self.seed, self.epoch = sampler, rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SampleKey]:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.epoch)
        seeds = np.random.default_rng([self.seed, self.epoch]).integers(2**62, size=self.rows)  # (rows,)
        for row in self.sampler:
            yield SampleKey(0, row, int(seeds[row]))


@dataclass
class QuestionCollator:
    """Draws questions and images on canvases for `ClippoForVisualQuestionAnswering`.

    Items with a "grid" become `text_pixel_values` and `image_grid`. A grid or, with two canvases, an image that several
    items share is in the batch once, and `image_index` names it.

    Args:
        processor: A `ClippoProcessor`.
        vocabulary: Answers that the labels score.
        blind: "picture" replaces every image by a grey one, and "question" asks an empty question. The difference shows
            how much a model uses either. The rest of the canvas is unchanged if the layout has min_rows == max_rows.
        augment: Function from a list of images, and their seeds or None, to augmented images (`PhotoAugmentation`).
            Every question has a view of its own. A mirrored image makes answers about left and right wrong.
        share_images: False repeats images and grids for each question, as torch's DataParallel needs, which cuts every
            tensor of a batch alike.

    Returns:
        `pixel_values` uint8 (B, 3, H, W), a quarter of the bytes of float32, and `labels` float32 (B, A). With two
        canvases `text_pixel_values` too.

    Raises:
        ValueError: `blind` is unknown.

    Example:
        >>> from clippo import ClippoProcessor
        >>> collate = QuestionCollator(ClippoProcessor.from_size(64), AnswerVocabulary(["yes", "no"]))
        >>> batch = collate([{"image": Image.new("RGB", (8, 8)), "question": "Black?", "answers": ["yes"]}])
        >>> batch["pixel_values"].shape, batch["labels"]
        (torch.Size([1, 3, 64, 64]), tensor([[1., 0.]]))
    """

    processor: Any
    vocabulary: AnswerVocabulary
    blind: str | None = None
    augment: Callable[[list, list[int] | None], list] | None = None
    share_images: bool = True

    def __post_init__(self):
        if self.blind not in (None, *BLIND):
            raise ValueError(f"blind={self.blind!r} is unknown; choose 'picture', 'question' or None.")
        self._grey = Image.new("RGB", (16, 16), (127, 127, 127))

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        questions = ["" if self.blind == "question" else item["question"] for item in items]
        # Labels come first, because Trainer takes the size of a batch from its first tensor.
        labels = torch.stack([self.vocabulary.scores(item["answers"]) for item in items])  # (B, A)
        if "grid" in items[0]:
            return self._batch(labels, self._grids(items, questions))
        images = [self._grey if self.blind == "picture" else item["image"] for item in items]
        if self.augment is not None:
            images = self.augment(images, [item["seed"] for item in items] if "seed" in items[0] else None)
        inputs = self.processor(images=images, questions=questions, canvas_format="uint8", return_tensors="pt")
        return self._batch(labels, inputs)

    def _batch(self, labels: torch.Tensor, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        batch = {"labels": labels, **inputs}
        if not self.share_images and "image_index" in batch:
            name = "image_grid" if "image_grid" in batch else "pixel_values"
            batch[name] = batch[name][batch.pop("image_index")]
        return batch

    def _questions(self, items: list[dict[str, Any]], questions: list[str]) -> dict[str, torch.Tensor]:
        if "question_tokens" not in items[0]:
            return self.processor.tokenizer(questions, canvas_format="packed", return_tensors="pt")
        tokens = [item["question_tokens"] for item in items]
        lengths = torch.tensor([len(several) for several in tokens])
        padded = pad_sequence(tokens, batch_first=True)  # (B, M, D)
        return {"question_tokens": padded, "question_mask": torch.arange(padded.shape[1]) < lengths[:, None]}

    def _grids(self, items: list[dict[str, Any]], questions: list[str]) -> dict[str, torch.Tensor]:
        numbers = [item["image_number"] for item in items]
        _, first, index = np.unique(numbers, return_index=True, return_inverse=True)
        return {
            **self._questions(items, questions),
            "image_grid": torch.stack([items[i]["grid"] for i in first]),  # (I, rows, columns, channels)
            "image_index": torch.from_numpy(index),
        }
