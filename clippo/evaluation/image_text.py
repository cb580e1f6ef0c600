"""Pictures against captions, in any language: retrieval, a mixed index, the modality gap, as reports."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as parquet
import torch

from clippo.evaluation.encoder import Encoder, Pictures
from clippo.evaluation.metrics import ModalityGap, RecallAtK
from clippo.evaluation.report import Report
from clippo.evaluation.retrieval import group_ranks
from clippo.evaluation.sources import Captions, Source, collect_captions, open_rows, read_columns

KS = (1, 5, 10)


def read_pairs(
    encoder: Encoder,
    source: Source,
    languages: Iterable[str] | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> tuple[Pictures, list[Captions]]:
    """Embedded pictures, and the captions of every language.

    Args:
        encoder: the model.
        source: pictures with captions, or the emoji data set.
        languages: only these.
        streaming, limit: see `open_rows`.

    Raises:
        ValueError: no captions are named, or none in a language that was asked for.
    """
    wanted = list(languages) if languages is not None else None
    emoji = (Path(source.path) / "annotations.parquet").is_file()
    if not emoji and not source.captions:
        raise ValueError(f"No captions named for {source.path}: pass captions, such as en=caption de=caption_de.")
    if not emoji:
        _check_languages(wanted, source.captions, source.path)
    if emoji:
        pictures, found = _read_emoji(encoder, Path(source.path), wanted, limit)
    elif source.split_is_language:
        pictures, found = _read_language_splits(encoder, source, wanted, streaming, limit)
    else:
        rows = open_rows(source, streaming=streaming, limit=limit)
        columns = {language: column.split(",") for language, column in source.captions.items()}
        if wanted is not None:
            columns = {language: names for language, names in columns.items() if language in set(wanted)}
        distinct = dict.fromkeys(name for names in columns.values() for name in names)
        cells, kept = read_columns(rows, source.image, *distinct)
        pictures = encoder.pictures(cells)
        found = [collect_captions(language, [kept[name] for name in names]) for language, names in columns.items()]
    return pictures, found


def _check_languages(wanted: list[str] | None, there: Iterable[str], where: str | Path) -> None:
    missing = [language for language in wanted or () if language not in set(there)]
    if missing:
        raise ValueError(f"No captions in {', '.join(missing)} in {where}.")


def _read_emoji(
    encoder: Encoder, folder: Path, wanted: list[str] | None, limit: int | None
) -> tuple[Pictures, list[Captions]]:
    table = parquet.read_table(folder / "pictures.parquet").to_pylist()[:limit]
    place = {row["id"]: i for i, row in enumerate(table)}
    annotations = parquet.read_table(folder / "annotations.parquet", columns=["id", "language", "script", "name"])
    found: dict[str, Captions] = {}
    for row in annotations.to_pylist():
        if row["id"] in place:
            own = found.setdefault(row["language"], Captions(row["language"], row["script"], [], [], len(table)))
            own.texts.append(row["name"])
            own.rows.append(place[row["id"]])
            own.without -= 1
    _check_languages(wanted, found, folder)
    pictures = encoder.pictures(row["image"] for row in table)
    return pictures, [found[language] for language in sorted(found) if wanted is None or language in wanted]


def _read_language_splits(encoder, source, wanted, streaming, limit) -> tuple[Pictures, list[Captions]]:
    """Crossmodal-3600: every language's split has the same pictures, told apart by `image_id`."""
    pictures, found, place = None, [], {}
    for language, column in source.captions.items():
        if wanted is not None and language not in wanted:
            continue
        rows = open_rows(source, split=language, streaming=streaming, limit=limit)
        if pictures is None:
            cells, kept = read_columns(rows, source.image, "image_id", column)
            pictures = encoder.pictures(cells)
            place = {image_id: i for i, image_id in enumerate(kept["image_id"])}
            values = kept[column]
        else:
            values = [None] * len(place)
            for row in rows.select_columns(["image_id", column]):
                if row["image_id"] in place:
                    values[place[row["image_id"]]] = row[column]
        found.append(collect_captions(language, [values]))
    return pictures, found


def retrieval_report(
    encoder: Encoder,
    source: Source,
    languages: Iterable[str] | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> Report:
    """Recall at 1, 5 and 10 in both directions, by language and by script.

    Arguments and errors as those of `read_pairs`.
    """
    pictures, found = read_pairs(encoder, source, languages, streaming, limit)
    readable = {row: i for i, row in enumerate(pictures.kept)}
    table, notes, chances = [], [], []
    for captions in found:
        pairs = [
            (text, readable[row]) for text, row in zip(captions.texts, captions.rows, strict=True) if row in readable
        ]
        if not pairs:
            notes.append(f"{captions.language}: no picture has a caption; the language is left out.")
            continue
        line, chance = _both_ways(encoder, pictures.vectors, pairs, source.gallery)
        table.append({"language": captions.language, "script": captions.script, **line})
        chances.append(chance)
        if captions.without:
            notes.append(f"{captions.language}: {captions.without} pictures have no caption.")
    if not table:
        raise ValueError(f"No picture of {source.path} has a caption, so there is nothing to retrieve.")

    columns = [f"{way} R@{k}" for way in ("T2I", "I2T") for k in KS]
    scripts = defaultdict(list)
    for line in table:
        scripts[line["script"]].append(line)
    means = [_mean_line("mean", f"{len(table)} languages", table, columns)] if len(table) > 1 else []
    if len(scripts) > 1:
        by_size = sorted(scripts.items(), key=lambda item: -len(item[1]))
        means += [_mean_line(f"mean of {len(lines)}", script, lines, columns) for script, lines in by_size]
    among = "all pictures" if source.gallery == "all" else "the pictures with a caption in that language"
    if pictures.broken:
        notes.append(f"{len(pictures.broken)} pictures could not be read and count nowhere.")
    return Report(
        task="retrieval",
        data=source.path,
        protocol=(
            f"All captions count. Text to image (T2I): every caption is a query among {among}. Image to text (I2T): "
            "every picture with a caption is a query among all captions of the language, and found when any of its own "
            "is among the first k. A tie counts as a miss. Means are over languages."
        ),
        metrics={column: sum(line[column] for line in table) / len(table) for column in columns},
        chance={column: sum(chance[column] for chance in chances) / len(chances) for column in columns},
        counts={
            "pictures": len(pictures.kept),
            "languages": len(table),
            "captions": sum(line["captions"] for line in table),
        },
        rows=[*means, *table],
        notes=notes,
        bars=("T2I R@1", "language"),
    )


def _both_ways(
    encoder: Encoder, images: torch.Tensor, pairs: list[tuple[str, int]], gallery: str
) -> tuple[dict, dict[str, float]]:
    """One line of the table, and its chance."""
    if gallery not in ("captioned", "all"):
        raise ValueError(f'gallery is "captioned" or "all", got {gallery!r}.')
    texts = encoder.texts([text for text, _ in pairs])
    groups = torch.tensor([row for _, row in pairs])  # of each caption, its picture
    captioned, counts = groups.unique(return_counts=True)
    shown = captioned if gallery == "captioned" else torch.arange(len(images))
    metric = RecallAtK()
    forward = metric.compute(
        predictions=group_ranks(texts, images[shown], groups, shown).tolist(), references=[1] * len(groups)
    )
    backward = metric.compute(
        predictions=group_ranks(images[captioned], texts, captioned, groups).tolist(), references=counts.tolist()
    )
    line = {"pictures": len(shown), "captions": len(groups)}
    line |= {f"{way} R@{k}": result[f"R@{k}"] for way, result in (("T2I", forward), ("I2T", backward)) for k in KS}
    chance = {f"T2I R@{k}": min(1.0, k / len(shown)) for k in KS}
    chance |= {f"I2T R@{k}": _chance_of_any(counts, len(groups), k) for k in KS}
    return line, chance


def _chance_of_any(right: torch.Tensor, items: int, k: int) -> float:
    """Mean chance that k of `items` items drawn at random hold one of the right ones, 1 - C(N - r, k) / C(N, k)."""
    miss = torch.ones(len(right), dtype=torch.float64)
    for i in range(min(k, items)):
        miss *= (items - right - i).clamp(min=0) / (items - i)
    return float(1 - miss.mean())


def _mean_line(language: str, script: str, lines: list[dict], columns: list[str]) -> dict:
    captions = sum(line["captions"] for line in lines)
    means = {column: sum(line[column] for line in lines) / len(lines) for column in columns}
    return {"language": language, "script": script, "pictures": "", "captions": captions, **means}


def modality_gap_report(
    encoder: Encoder,
    source: Source,
    languages: Iterable[str] | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> Report:
    """Distance of the centroids and separability of pictures and first captions, by language.

    Arguments and errors as those of `read_pairs`.
    """
    pictures, found = read_pairs(encoder, source, languages, streaming, limit)
    table, notes = [], []
    for captions in found:
        images, texts, _ = _first_and_second(pictures, captions)
        if len(texts) < 4:
            notes.append(f"{captions.language}: {len(texts)} pairs are too few; left out.")
            continue
        gap = ModalityGap().compute(predictions=images.tolist(), references=encoder.texts(texts).tolist())
        table.append({"language": captions.language, "script": captions.script, "pairs": len(texts), **gap})
    if not table:
        raise ValueError(f"No language of {source.path} has four captioned pictures.")
    names = ("distance", "separability", "paired_cosine", "other_cosine")
    return Report(
        task="modality-gap",
        data=source.path,
        protocol=(
            "Unit vectors of each picture and its first caption. Distance of the two centroids (Liang et al. 2022; "
            "0 is no gap, 2 the largest); accuracy of a ridge regression that tells pictures from texts, fitted on "
            "every second pair and measured on the others (0.5 is no gap); mean cosine of pairs and of everything else."
        ),
        metrics={name: sum(line[name] for line in table) / len(table) for name in names},
        chance={"separability": 0.5},
        counts={"pictures": len(pictures.kept), "languages": len(table)},
        rows=table,
        notes=notes,
    )


def mixed_index_report(
    encoder: Encoder,
    source: Source,
    languages: Iterable[str] | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> Report:
    """Search in one index of pictures and texts together, where a modality gap hides the pictures behind the texts.

    The index holds every picture and its first caption; queries are the second captions, or, where there is one caption
    only, the first, which are then not in the index as their own. Arguments and errors as those of `read_pairs`.
    """
    pictures, found = read_pairs(encoder, source, languages, streaming, limit)
    table, notes = [], []
    for captions in found:
        images, texts, queries = _first_and_second(pictures, captions)
        if len(texts) < 2:
            notes.append(f"{captions.language}: {len(texts)} captioned pictures are too few; left out.")
            continue
        table.append(
            {"language": captions.language, "script": captions.script, **_mixed(encoder, images, texts, queries)}
        )
    if not table:
        raise ValueError(f"No language of {source.path} has two captioned pictures.")
    names = [name for name in table[0] if name not in ("language", "script", "pictures")]
    return Report(
        task="mixed-index",
        data=source.path,
        protocol=(
            "One index of all pictures and their first captions. A query is the second caption of a picture, or the "
            "first where there is no other, which is then taken out of the index for its own query. Recall of the "
            "picture among pictures alone and in the mixed index, and the share of pictures among the first ten of "
            "the mixed one: without a gap about half."
        ),
        metrics={name: sum(line[name] for line in table) / len(table) for name in names},
        chance={"pictures in first 10": 0.5},
        counts={"pictures": len(pictures.kept), "languages": len(table)},
        rows=table,
        notes=notes,
    )


def _mixed(encoder: Encoder, images: torch.Tensor, texts: list[str], queries: list[str]) -> dict:
    asked, written = encoder.texts(queries), encoder.texts(texts)
    count = len(texts)
    own = torch.tensor([query == text for query, text in zip(queries, texts, strict=True)])
    seen, read = asked @ images.T, asked @ written.T  # (Q, N) each
    read[own, own.nonzero().flatten()] = -2  # its own text: below any cosine
    right = seen.diagonal()[:, None]
    among_pictures = (seen >= right - 1e-6).sum(1) - 1
    mixed = among_pictures + (read >= right - 1e-6).sum(1)
    first = torch.cat([seen, read], 1).topk(min(10, 2 * count - 1)).indices < count
    return {
        "pictures": count,
        **{f"alone R@{k}": (among_pictures < k).double().mean().item() for k in (1, 10)},
        **{f"mixed R@{k}": (mixed < k).double().mean().item() for k in (1, 10)},
        "pictures in first 10": first.double().mean().item(),
    }


def _first_and_second(pictures: Pictures, captions: Captions) -> tuple[torch.Tensor, list[str], list[str]]:
    """Vectors of the captioned pictures (N, E), the first caption of each, and the second, or the first again."""
    readable = {row: i for i, row in enumerate(pictures.kept)}
    own: dict[int, list[str]] = defaultdict(list)
    for text, row in zip(captions.texts, captions.rows, strict=True):
        if row in readable:
            own[readable[row]].append(text)
    order = sorted(own)
    return pictures.vectors[order], [own[i][0] for i in order], [own[i][min(1, len(own[i]) - 1)] for i in order]
