"""Images against captions in any language: retrieval, modality gap, one index of images and texts."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from clippo.emoji.evaluation import read_emoji
from clippo.evaluation.benchmarks import Benchmark, Captions, collect_captions, open_rows, read_columns
from clippo.evaluation.encoder import EmbeddedImages, Encoder
from clippo.evaluation.metrics import ModalityGap, RecallAtK
from clippo.evaluation.report import Report, column_means
from clippo.evaluation.retrieval import ROUNDING, group_ranks

KS = (1, 5, 10)
RECALLS = [f"{way} R@{k}" for way in ("T2I", "I2T") for k in KS]


def read_pairs(
    encoder: Encoder, benchmark: Benchmark, languages: Iterable[str] | None = None
) -> tuple[EmbeddedImages, list[Captions]]:
    """Embeds the images, and reads the captions of every language.

    Args:
        encoder: Encoder of the model.
        benchmark: Images with captions, or the folder of the emoji data set.
        languages: Only these languages. None reads all.

    Raises:
        ValueError: The columns of captions are unknown, or a language has no captions.
    """
    wanted = list(languages) if languages is not None else None
    if (Path(benchmark.path) / "annotations.parquet").is_file():
        return _read_emoji(encoder, benchmark, wanted)
    if not benchmark.captions:
        raise ValueError(f"No captions named for {benchmark.path}: pass captions, such as en=caption de=caption_de.")
    _check_languages(wanted, benchmark.captions, benchmark.path)
    columns = {code: names for code, names in benchmark.captions.items() if wanted is None or code in wanted}
    if benchmark.split_is_language:
        return _read_language_splits(encoder, benchmark, columns)
    by_language = {language: names.split(",") for language, names in columns.items()}
    distinct = dict.fromkeys(name for names in by_language.values() for name in names)
    cells, kept = read_columns(open_rows(benchmark), benchmark.image, *distinct)
    images = encoder.images(cells)
    found = [collect_captions(language, [kept[name] for name in names]) for language, names in by_language.items()]
    return images, found


def _check_languages(wanted: list[str] | None, there: Iterable[str], where: str | Path) -> None:
    missing = [language for language in wanted or () if language not in set(there)]
    if missing:
        raise ValueError(f"No captions in {', '.join(missing)} in {where}.")


def _read_emoji(
    encoder: Encoder, benchmark: Benchmark, wanted: list[str] | None
) -> tuple[EmbeddedImages, list[Captions]]:
    cells, rows = read_emoji(benchmark.path, ["script", "name"], wanted)
    cells = cells[: benchmark.limit]
    found: dict[str, Captions] = {}
    for row in rows:
        if row["image"] < len(cells):
            own = found.setdefault(row["language"], Captions(row["language"], row["script"], [], [], len(cells)))
            own.texts.append(row["name"])
            own.rows.append(row["image"])
            own.without -= 1
    _check_languages(wanted, found, benchmark.path)
    return encoder.images(cells), [found[language] for language in sorted(found)]


def _read_language_splits(
    encoder: Encoder, benchmark: Benchmark, columns: dict[str, str]
) -> tuple[EmbeddedImages, list[Captions]]:
    """Reads Crossmodal-3600: the split of every language has the same images, identified by `image_id`."""
    images, found, place = None, [], {}
    for language, column in columns.items():
        rows = open_rows(benchmark, split=language)
        if images is None:
            cells, kept = read_columns(rows, benchmark.image, "image_id", column)
            images = encoder.images(cells)
            place = {image_id: i for i, image_id in enumerate(kept["image_id"])}
            values = kept[column]
        else:
            values = [None] * len(place)
            for row in rows.select_columns(["image_id", column]):
                if row["image_id"] in place:
                    values[place[row["image_id"]]] = row[column]
        found.append(collect_captions(language, [values]))
    return images, found


def retrieval_report(encoder: Encoder, benchmark: Benchmark, languages: Iterable[str] | None = None) -> Report:
    """Measures recall at 1, 5 and 10 in both directions, by language and by script.

    The arguments and errors are those of `read_pairs`.
    """
    images, found = read_pairs(encoder, benchmark, languages)
    table, chances, notes = [], [], []
    for captions in found:
        pairs = _Pairs.of(images, captions)
        if not pairs.texts:
            notes.append(f"{captions.language}: no image has a caption; the language is left out.")
            continue
        line, chance = _both_ways(encoder, images.vectors, pairs, benchmark.gallery)
        table.append({"language": captions.language, "script": captions.script, **line})
        chances.append(chance)
        if captions.without:
            notes.append(f"{captions.language}: {captions.without} images have no caption.")
    if not table:
        raise ValueError(f"No image of {benchmark.path} has a caption, so there is nothing to retrieve.")
    if images.broken:
        notes.append(f"{len(images.broken)} images could not be read and do not count.")
    among = "all images" if benchmark.gallery == "all" else "the images with a caption in that language"
    return Report(
        task="retrieval",
        data=benchmark.path,
        protocol=(
            f"All captions count. Text to image (T2I): every caption is a query among {among}. Image to text (I2T): "
            "every image with a caption is a query among all captions of the language, and found when any of its own "
            "is among the first k. A tie counts as a miss. Means are over languages."
        ),
        metrics=column_means(table, RECALLS),
        chance=column_means(chances, RECALLS),
        counts={
            "images": len(images.kept),
            "languages": len(table),
            "captions": sum(line["captions"] for line in table),
        },
        rows=[*_mean_lines(table), *table],
        notes=notes,
        bars=("T2I R@1", "language"),
    )


def _mean_lines(table: list[dict]) -> list[dict]:
    """Returns the mean over all languages, and over the languages of each script, the largest script first."""
    by_script = defaultdict(list)
    for line in table:
        by_script[line["script"]].append(line)
    groups = [("mean", f"{len(table)} languages", table)] if len(table) > 1 else []
    if len(by_script) > 1:
        ordered = sorted(by_script.items(), key=lambda item: -len(item[1]))
        groups += [(f"mean of {len(lines)}", script, lines) for script, lines in ordered]
    return [
        {
            "language": language,
            "script": script,
            "images": "",
            "captions": sum(line["captions"] for line in lines),
            **column_means(lines, RECALLS),
        }
        for language, script, lines in groups
    ]


@dataclass
class _Pairs:
    """Captions of one language with the images that could be read.

    Args:
        texts: T captions.
        images: T indices into the vectors of the images.
    """

    texts: list[str]
    images: list[int]

    @classmethod
    def of(cls, images: EmbeddedImages, captions: Captions) -> "_Pairs":
        """Pairs captions and images; captions of broken images are left out."""
        readable = {row: i for i, row in enumerate(images.kept)}
        pairs = [(text, row) for text, row in zip(captions.texts, captions.rows, strict=True) if row in readable]
        return cls([text for text, _ in pairs], [readable[row] for _, row in pairs])

    def first_and_second(self) -> tuple[list[int], list[str], list[str]]:
        """Returns the captioned images, the first caption of each, and the second (or again the first)."""
        own: dict[int, list[str]] = defaultdict(list)
        for text, image in zip(self.texts, self.images, strict=True):
            own[image].append(text)
        order = sorted(own)
        return order, [own[i][0] for i in order], [own[i][min(1, len(own[i]) - 1)] for i in order]


def _both_ways(
    encoder: Encoder, images: torch.Tensor, pairs: _Pairs, gallery: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns one line of the table, and the chance of its recalls."""
    if gallery not in ("captioned", "all"):
        raise ValueError(f'gallery must be "captioned" or "all", got {gallery!r}.')
    texts = encoder.texts(pairs.texts)
    groups = torch.tensor(pairs.images)  # (T,), the image of each caption
    captioned, counts = groups.unique(return_counts=True)
    shown = captioned if gallery == "captioned" else torch.arange(len(images))
    metric = RecallAtK()
    forward = metric.compute(
        predictions=group_ranks(texts, images[shown], groups, shown).tolist(), references=[1] * len(groups)
    )
    backward = metric.compute(
        predictions=group_ranks(images[captioned], texts, captioned, groups).tolist(), references=counts.tolist()
    )
    line = {"images": len(shown), "captions": len(groups)}
    line |= {f"{way} R@{k}": result[f"R@{k}"] for way, result in (("T2I", forward), ("I2T", backward)) for k in KS}
    chance = {f"T2I R@{k}": min(1.0, k / len(shown)) for k in KS}
    chance |= {f"I2T R@{k}": _chance_of_any(counts, len(groups), k) for k in KS}
    return line, chance


def _chance_of_any(right: torch.Tensor, items: int, k: int) -> float:
    """Mean chance that k of `items` random items hold one of the r right ones, 1 - C(N - r, k) / C(N, k)."""
    miss = torch.ones(len(right), dtype=torch.float64)
    for i in range(min(k, items)):
        miss *= (items - right - i).clamp(min=0) / (items - i)
    return float(1 - miss.mean())


def modality_gap_report(encoder: Encoder, benchmark: Benchmark, languages: Iterable[str] | None = None) -> Report:
    """Measures the distance of the centroids and the separability of images and first captions, by language.

    The arguments and errors are those of `read_pairs`.
    """
    images, found = read_pairs(encoder, benchmark, languages)
    table, notes = [], []
    for captions in found:
        order, texts, _ = _Pairs.of(images, captions).first_and_second()
        if len(texts) < 4:
            notes.append(f"{captions.language}: {len(texts)} pairs are too few; left out.")
            continue
        vectors = images.vectors[order]
        gap = ModalityGap().compute(predictions=vectors.tolist(), references=encoder.texts(texts).tolist())
        table.append({"language": captions.language, "script": captions.script, "pairs": len(texts), **gap})
    if not table:
        raise ValueError(f"No language of {benchmark.path} has four captioned images.")
    return Report(
        task="modality-gap",
        data=benchmark.path,
        protocol=(
            "Unit vectors of each image and its first caption. Distance of the two centroids (Liang et al. 2022; "
            "0 is no gap, 2 the largest); accuracy of a ridge regression that separates images from texts, fitted on "
            "every second pair and measured on the others (0.5 is no gap); mean cosine of pairs and of everything else."
        ),
        metrics=column_means(table, ("distance", "separability", "paired_cosine", "other_cosine")),
        chance={"separability": 0.5},
        counts={"images": len(images.kept), "languages": len(table)},
        rows=table,
        notes=notes,
    )


def mixed_index_report(encoder: Encoder, benchmark: Benchmark, languages: Iterable[str] | None = None) -> Report:
    """Measures search in one index of images and texts, where a modality gap ranks texts before images.

    The index holds every image and its first caption. Queries are the second captions. Where an image has one caption,
    that caption is the query, and it is left out of the index for its own query. The arguments and errors are those of
    `read_pairs`.
    """
    images, found = read_pairs(encoder, benchmark, languages)
    table, notes = [], []
    for captions in found:
        order, texts, queries = _Pairs.of(images, captions).first_and_second()
        if len(texts) < 2:
            notes.append(f"{captions.language}: {len(texts)} captioned images are too few; left out.")
            continue
        line = _mixed(encoder, images.vectors[order], texts, queries)
        table.append({"language": captions.language, "script": captions.script, **line})
    if not table:
        raise ValueError(f"No language of {benchmark.path} has two captioned images.")
    return Report(
        task="mixed-index",
        data=benchmark.path,
        protocol=(
            "One index of all images and their first captions. A query is the second caption of an image, or the "
            "first where there is no other, which is then taken out of the index for its own query. Recall of the "
            "image among images alone and in the mixed index, and the share of images among the first ten of "
            "the mixed one: without a gap about half."
        ),
        metrics=column_means(table, [name for name in table[0] if name not in ("language", "script", "images")]),
        chance={"images in first 10": 0.5},
        counts={"images": len(images.kept), "languages": len(table)},
        rows=table,
        notes=notes,
    )


def _mixed(encoder: Encoder, images: torch.Tensor, texts: list[str], queries: list[str]) -> dict:
    """Returns the recalls in one line of the table."""
    asked, written = encoder.texts(queries), encoder.texts(texts)
    count = len(texts)
    own = torch.tensor([query == text for query, text in zip(queries, texts, strict=True)])
    to_images, to_texts = asked @ images.T, asked @ written.T  # (Q, N) each
    to_texts[own, own.nonzero().flatten()] = -2  # its own text: below any cosine
    right = to_images.diagonal()[:, None]
    among_images = (to_images >= right - ROUNDING).sum(1) - 1
    mixed = among_images + (to_texts >= right - ROUNDING).sum(1)
    first = torch.cat([to_images, to_texts], 1).topk(min(10, 2 * count - 1)).indices < count
    return {
        "images": count,
        **{f"alone R@{k}": (among_images < k).double().mean().item() for k in (1, 10)},
        **{f"mixed R@{k}": (mixed < k).double().mean().item() for k in (1, 10)},
        "images in first 10": first.double().mean().item(),
    }
