"""Conversions of raw downloads to the columns that recipes read. Each takes a folder and returns its splits.

A conversion that finds nothing returns an empty dictionary.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, List, Value

from clippo.data.text_files import read_lines, read_text

Splits = dict[str, Dataset]
TEXT = Value("string")
QUESTIONS = Features({"image": Image(), "image_id": TEXT, "questions": List(TEXT), "answers": List(TEXT)})


def _files(folder: Path, *patterns: str) -> list[Path]:
    return sorted(file for pattern in patterns for file in folder.rglob(pattern))


def _documents(folder: Path) -> Iterator[dict[str, str]]:
    for file in _files(folder, "*.md", "*.txt"):
        if file.stem.upper() not in ("README", "LICENSE"):
            yield {"title": file.stem, "text": read_text(file)}


def books(folder: Path) -> Splits:
    """Every twentieth book validates."""
    splits = defaultdict(list)
    for number, book in enumerate(_documents(folder)):
        splits["validation" if number % 20 == 19 else "train"].append(book)
    return {split: Dataset.from_list(rows) for split, rows in splits.items()}


def speeches(folder: Path) -> Splits:
    rows = list(_documents(folder))
    return {"train": Dataset.from_list(rows)} if rows else {}


def tatoeba(folder: Path) -> Splits:
    """Files tatoeba.deu-eng.deu and tatoeba.deu-eng.eng of LASER."""
    rows = []
    for file in _files(folder, "tatoeba.*-eng.*"):
        language = file.suffix[1:]
        english = file.with_suffix(".eng")
        if language != "eng" and english.is_file():
            pairs = zip(read_lines(file), read_lines(english), strict=True)
            rows += [{"lang": language, "sentence": own, "english": other} for own, other in pairs]
    return {"test": Dataset.from_list(rows)} if rows else {}


def ntrex(folder: Path) -> Splits:
    """Files newstest2019-src.eng.txt and newstest2019-ref.LANGUAGE.txt of NTREX-128."""
    columns = {}
    for file in _files(folder, "newstest2019-src.*.txt", "newstest2019-ref.*.txt"):
        columns[re.sub(r"^newstest2019-(src|ref)\.", "", file.stem).replace("-", "_")] = read_lines(file)
    return {"test": Dataset.from_dict(columns)} if columns else {}


def flowers(folder: Path) -> Splits:
    """A folder for each class; the first 100 files of each test, the next 100 train."""
    classes = sorted({file.parent.name for file in _files(folder, "*.jpg")})
    features = Features({"image": Image(), "label": ClassLabel(names=classes)})
    rows = {"test": [], "train": []}
    for label, name in enumerate(classes):
        files = [file for file in _files(folder, "*.jpg") if file.parent.name == name]
        for split, part in (("test", files[:100]), ("train", files[100:200])):
            rows[split] += [{"image": {"bytes": f.read_bytes(), "path": None}, "label": label} for f in part]
    return {split: Dataset.from_list(own, features=features) for split, own in rows.items() if own}


def easy_vqa(folder: Path) -> Splits:
    """Folders train and test of the package easy-vqa, each with questions.json and images/ID.png."""
    splits = {}
    for file in _files(folder, "questions.json"):
        asked = json.loads(read_text(file))
        triples = ((str(number), question, answer) for question, answer, number in asked)
        splits[file.parent.name] = _by_image(triples, file.parent / "images")
    return splits


def daquar(folder: Path) -> Splits:
    """Files qa.894.raw.train.txt and qa.894.raw.test.txt, a question and its answer in turn, and the images."""
    splits = {}
    images = next(iter(_files(folder, "image*.png")), folder).parent
    for split in ("train", "test"):
        for file in _files(folder, f"qa.*.raw.{split}.txt")[:1]:
            lines = [line.strip() for line in read_lines(file) if line.strip()]
            triples = []
            for question, answer in zip(lines[::2], lines[1::2], strict=True):
                found = re.search(r"\s*in (?:the )?(image\d+)\s*\??\s*$", question)
                if found:
                    triples.append((found[1], question[: found.start()] + " ?", answer))
            splits[split] = _by_image(triples, images)
    return splits


def _by_image(triples: Iterable[tuple[str, str, str]], folder: Path) -> Dataset:
    """One row for each image, with all its questions, of (name of the image, question, answer)."""
    grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, question, answer in triples:
        grouped[name].append((question, answer))
    rows = [
        {
            "image": {"bytes": (folder / f"{name}.png").read_bytes(), "path": None},
            "image_id": name,
            "questions": [question for question, _ in pairs],
            "answers": [answer for _, answer in pairs],
        }
        for name, pairs in grouped.items()
    ]
    return Dataset.from_list(rows, features=QUESTIONS)
