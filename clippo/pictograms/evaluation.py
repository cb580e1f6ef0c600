"""Search for pictograms by words: styles, pairs and concepts that training never saw, beside keyword search."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
import torch
from torch import Tensor
from transformers import AutoModel, AutoProcessor, HfArgumentParser

from clippo.data.misspellings import MISSPELLINGS
from clippo.evaluation.encoder import Encoder
from clippo.model_files import find_model
from clippo.pictograms.compact import open_bank
from clippo.pictograms.keyword_search import KeywordSearch
from clippo.pictograms.metrics import chance, means, search_metrics
from clippo.pictograms.pairs import check_folder
from clippo.pictograms.splits import concept_is_held_out, share_of

TRAINED, PAIR, NEW_PAIR, CONCEPT = "trained", "held-out pair", "held-out pair, new word", "held-out concept"
SPLITS = (TRAINED, PAIR, NEW_PAIR, CONCEPT)
STYLE = "held_out_style"
ENGLISH, ALL = "English", "all"


class Query(NamedTuple):
    """One text to search with.

    Attributes:
        text: Name of the concept in the language.
        concept: Identifier of the concept.
        language: CLDR code.
        script: Script of the language.
        split: One of `SPLITS`.
    """

    text: str
    concept: str
    language: str
    script: str
    split: str


class Gallery(NamedTuple):
    """Pictures to search in: those of the held-out sets, and of the held-out concepts.

    Attributes:
        pictures: Their numbers in the data set.
        concepts: Concept of each.
        styles: Drawing style of each.
        texts: English words of each, for keyword search.
    """

    pictures: list[int]
    concepts: list[str]
    styles: list[str]
    texts: list[list[str]]


def read_gallery(folder: str | Path, most: int | None = None) -> Gallery:
    """Pictures that training never saw.

    Args:
        folder: Folder of the data set.
        most: Most pictures; a hash chooses.
    """
    names = ["id", "concept", "style", "split", "words", "texts"]
    table = parquet.read_table(Path(folder) / "pictures.parquet", columns=names).to_pydict()
    rows = [i for i, split in enumerate(table["split"]) if split in (STYLE, "held_out_concept")]
    rows = sorted(sorted(rows, key=lambda i: share_of(table["id"][i]))[:most])
    return Gallery(
        rows,
        [table["concept"][i] for i in rows],
        [table["style"][i] for i in rows],
        [[table["words"][i], *table["texts"][i]] for i in rows],
    )


def read_queries(folder: str | Path, gallery: Gallery, languages: Sequence[str] | None = None) -> list[Query]:
    """Names of the concepts that the gallery shows, in every language that has them.

    Args:
        folder: Folder of the data set.
        gallery: Pictures to search in.
        languages: Only these; None takes all.
    """
    shown = set(gallery.concepts)
    names = ["id", "language", "script", "name", "split", "name_in_train"]
    queries = []
    for row in parquet.read_table(Path(folder) / "annotations.parquet", columns=names).to_pylist():
        if row["id"] not in shown or (languages is not None and row["language"] not in languages):
            continue
        split = {"train": TRAINED, "held_out_concept": CONCEPT}.get(row["split"], PAIR)
        if split == PAIR and not row["name_in_train"]:
            split = NEW_PAIR
        queries.append(Query(row["name"], row["id"], row["language"], row["script"], split))
    return queries


def words_of_icons(gallery: Gallery) -> list[Query]:
    """English words of the concepts that CLDR does not name, as queries.

    Args:
        gallery: Pictures to search in.
    """
    own = sorted({concept for concept in gallery.concepts if concept.startswith("en:")})
    return [
        Query(concept[3:], concept, "en", "Latin", CONCEPT if concept_is_held_out(concept) else TRAINED)
        for concept in own
    ]


class Evaluation:
    """A model, a gallery and its queries, embedded once.

    Args:
        encoder: Encoder of the model.
        folder: Folder of the data set.
        gallery: Pictures to search in.
        queries: Texts to search with.
    """

    def __init__(self, encoder: Encoder, folder: str | Path, gallery: Gallery, queries: list[Query]):
        self.encoder, self.folder, self.gallery, self.queries = encoder, Path(folder), gallery, queries
        bank = open_bank(folder)
        self.pictures = encoder.images([bank.picture(i) for i in gallery.pictures]).require_all()  # (N, E)
        self.numbers = {concept: i for i, concept in enumerate(dict.fromkeys(gallery.concepts))}
        self.shown = torch.tensor([self.numbers[concept] for concept in gallery.concepts])  # (N,)
        self.asked = torch.tensor([self.numbers[query.concept] for query in queries])  # (Q,)

    def search(self, queries: Sequence[int], texts: list[str] | None = None, pictures: list[int] | None = None):
        """Metrics of the model for some queries.

        Args:
            queries: Numbers of the queries.
            texts: Their texts, if they differ from the names.
            pictures: Numbers of the pictures in the gallery; None takes all.
        """
        texts = texts or [self.queries[i].text for i in queries]
        vectors = self.encoder.texts(texts)  # (Q, E)
        chosen = torch.arange(len(self.shown)) if pictures is None else torch.tensor(pictures)
        right = self.pictures[chosen].T  # (E, N)
        asked = self.asked[torch.tensor(list(queries))]
        return search_metrics(lambda a, b: vectors[a:b] @ right, asked, self.shown[chosen])

    def keywords(self, queries: Sequence[int], texts: list[str] | None = None, names: bool = False):
        """Metrics of BM25 over the CLDR keywords in the language of each query.

        Args:
            queries: Numbers of the queries.
            texts: Their texts, if they differ from the names.
            names: Search in the names too, which are the queries.
        """
        texts = texts or [self.queries[i].text for i in queries]
        documents = self._documents(names)
        by_language: dict[str, list[int]] = defaultdict(list)
        for place, i in enumerate(queries):
            by_language[self.queries[i].language].append(place)
        found = {}
        for language, places in by_language.items():
            script = self.queries[queries[places[0]]].script
            search = KeywordSearch([documents[language].get(one, ()) for one in self.numbers], script)
            part = search_metrics(
                _spread(search, [texts[i] for i in places], self.shown),
                self.asked[torch.tensor([queries[i] for i in places])],
                self.shown,
            )
            for name, values in part.items():
                found.setdefault(name, torch.zeros(len(texts)))[torch.tensor(places)] = values
        return found

    def tags(self, queries: Sequence[int], texts: list[str] | None = None):
        """Metrics of BM25 over the English words and tags of the pictures.

        Args:
            queries: Numbers of the queries.
            texts: Their texts, if they differ from the names.
        """
        search = KeywordSearch(self.gallery.texts)
        texts = texts or [self.queries[i].text for i in queries]
        asked = self.asked[torch.tensor(list(queries))]
        return search_metrics(_spread(search, texts), asked, self.shown)

    def _documents(self, names: bool) -> dict[str, dict[str, list[str]]]:
        """Language -> concept -> keywords, those of held-out pairs and concepts too: BM25 has no training."""
        columns = ["id", "language", "name", "keywords"]
        documents: dict[str, dict[str, list[str]]] = defaultdict(dict)
        for row in parquet.read_table(self.folder / "annotations.parquet", columns=columns).to_pylist():
            if row["id"] in self.numbers:
                documents[row["language"]][row["id"]] = row["keywords"] + ([row["name"]] if names else [])
        return documents


def _spread(search: KeywordSearch, texts: list[str], shown: Tensor | None = None) -> Callable[[int, int], Tensor]:
    """Scores of pictures; pictures without a common term are no result."""

    def scores(first: int, last: int) -> Tensor:
        table = search.scores(texts[first:last])
        table = table.masked_fill(table <= 0, -torch.inf)
        return table if shown is None else table[:, shown]

    return scores


def evaluate_pictograms(
    encoder: Encoder, folder: str | Path, languages: Sequence[str] | None = None, most: int | None = None
) -> dict[str, list[dict]]:
    """Tables of a search by words in the pictures that training never saw.

    Args:
        encoder: Encoder of the model.
        folder: Folder of the data set.
        languages: Languages of the queries; None takes all.
        most: Most pictures of the gallery.

    Returns:
        "search": rows by split and script, for model, BM25 over keywords of the language, and chance; "styles": English
        by drawing style; "words": English words of icons, beside BM25 over tags; "misspelled": damaged queries.

    Raises:
        FileNotFoundError: The folder does not hold the data set.
    """
    check_folder(Path(folder))
    gallery = read_gallery(folder, most)
    names, words = read_queries(folder, gallery, languages), words_of_icons(gallery)
    evaluation = Evaluation(encoder, folder, gallery, names + words)
    return {
        "search": _by_script(evaluation, len(names)),
        "styles": _by_style(evaluation),
        "words": _icon_words(evaluation, range(len(names), len(names) + len(words))),
        "misspelled": _misspelled(evaluation, len(names)),
        "gallery": [{"pictures": len(gallery.pictures), "concepts": len(evaluation.numbers)}],
    }


def _by_script(evaluation: Evaluation, count: int) -> list[dict]:
    numbers = range(count)
    if not count:
        return []
    found = {"model": evaluation.search(numbers), "BM25, keywords": evaluation.keywords(numbers)}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in numbers:
        query = evaluation.queries[i]
        for split in [PAIR, NEW_PAIR] if query.split == NEW_PAIR else [query.split]:
            groups[split, ALL].append(i)
            groups[split, query.script].append(i)
            if query.language == "en":
                groups[split, ENGLISH].append(i)
    rows = []
    for (split, script), members in groups.items():
        row = {
            "split": split,
            "script": script,
            "languages": len({evaluation.queries[i].language for i in members}),
            "queries": len(members),
        }
        for system, values in found.items():
            rows.append({**row, "system": system, **means(values, members)})
        if script == ALL:
            rows.append(
                {**row, "system": "model, mean of languages", **_over_languages(evaluation, found["model"], members)}
            )
            rows.append({**row, "system": "chance", **chance(evaluation.asked[members], evaluation.shown)})
    order = {ALL: 0, ENGLISH: 1}
    return sorted(rows, key=lambda r: (SPLITS.index(r["split"]), order.get(r["script"], 2), -r["queries"]))


def _over_languages(evaluation: Evaluation, found: dict[str, Tensor], members: list[int]) -> dict[str, float]:
    """Mean over the languages, each of which counts the same."""
    by_language: dict[str, list[int]] = defaultdict(list)
    for i in members:
        by_language[evaluation.queries[i].language].append(i)
    per_language = [means(found, part) for part in by_language.values()]
    return {name: round(float(np.mean([one[name] for one in per_language])), 5) for name in found}


def _by_style(evaluation: Evaluation) -> list[dict]:
    rows = []
    for style in sorted(set(evaluation.gallery.styles)):
        pictures = [i for i, one in enumerate(evaluation.gallery.styles) if one == style]
        shown = {evaluation.gallery.concepts[i] for i in pictures}
        asked = [
            i
            for i, query in enumerate(evaluation.queries)
            if query.language == "en" and query.split == TRAINED and query.concept in shown
        ]
        if asked:
            found = evaluation.search(asked, pictures=pictures)
            rows.append(
                {"style": style, "pictures": len(pictures), "queries": len(asked), **means(found, range(len(asked)))}
            )
    return rows


def _icon_words(evaluation: Evaluation, numbers: Sequence[int]) -> list[dict]:
    rows = []
    for split in (TRAINED, CONCEPT):
        asked = [i for i in numbers if evaluation.queries[i].split == split]
        if asked:
            for system, found in (("model", evaluation.search(asked)), ("BM25, tags", evaluation.tags(asked))):
                row = {"split": split, "system": system, "queries": len(asked)}
                rows.append({**row, **means(found, range(len(asked)))})
    return rows


def _misspelled(evaluation: Evaluation, count: int, rate: float = 0.1) -> list[dict]:
    """English names with damaged spelling: the model, and BM25 over names and keywords."""
    asked = [
        i for i in range(count) if evaluation.queries[i].language == "en" and evaluation.queries[i].split == TRAINED
    ]
    if not asked:
        return []
    rows = []
    for damage, spoil in {"none": None, **MISSPELLINGS}.items():
        generator = np.random.default_rng(0)
        share = 1.0 if damage == "upper case" else rate
        texts = [evaluation.queries[i].text for i in asked]
        if spoil is not None:
            texts = [spoil(text, share, generator) or text for text in texts]
        systems = {
            "model": evaluation.search(asked, texts),
            "BM25, names and keywords": evaluation.keywords(asked, texts, names=True),
        }
        for system, found in systems.items():
            row = {"damage": damage, "rate": 0 if spoil is None else share, "system": system, "queries": len(asked)}
            rows.append({**row, **means(found, range(len(asked)))})
    return rows


def as_markdown(tables: dict[str, list[dict]]) -> str:
    """The tables in Markdown, metrics in percent.

    Args:
        tables: Result of `evaluate_pictograms`.
    """
    lines = []
    for name, rows in tables.items():
        if not rows:
            continue
        columns = list(rows[0])
        lines += [f"### {name}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        for row in rows:
            cells = [
                f"{row[c]:.1%}" if isinstance(row.get(c), float) and c != "rate" else str(row.get(c, ""))
                for c in columns
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


@dataclass
class PictogramEvaluationArguments:
    """Options of the pictogram evaluation."""

    model: str = field(default="runs/pictograms", metadata={"help": "Folder or hub name of the model."})
    data_dir: str = field(default="data/pictograms", metadata={"help": "Folder of the pictogram data set."})
    languages: list[str] | None = field(default=None, metadata={"help": "Languages of the queries; default: all."})
    most: int | None = field(default=None, metadata={"help": "Most pictures of the gallery; default: all."})
    output: str | None = field(default=None, metadata={"help": "Also write <output>.json and <output>.md."})


def main(argv: Sequence[str] | None = None) -> None:
    """Measures a search for pictograms, by split, script and style, beside keyword search.

    Raises:
        SystemExit: With one sentence, if a file is missing or cannot be used.
    """
    parser = HfArgumentParser(PictogramEvaluationArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModel.from_pretrained(find_model(args.model), dtype="float32").to(device)
        encoder = Encoder(model, AutoProcessor.from_pretrained(args.model), progress=True)
        tables = evaluate_pictograms(encoder, args.data_dir, args.languages, args.most)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    text = as_markdown(tables)
    print(text)
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output + ".json").write_text(json.dumps(tables, indent=1), encoding="utf-8")
        Path(args.output + ".md").write_text(text, encoding="utf-8")
