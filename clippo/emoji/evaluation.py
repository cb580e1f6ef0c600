"""How well a model finds emoji by their names: text-to-image recall over all pictures, by script and by split."""

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as parquet
import torch

from clippo.emoji.pairs import EmojiPairs
from clippo.evaluation.embeddings import embed_images, embed_texts
from clippo.evaluation.retrieval import ranks, recall_at_k

# Whole (picture, language) rows are held out of training, keywords included. In some of them the very name is still a
# training text of the same picture in a related language; only the others ask for more than recognition.
SPLITS = ("seen", "held out", "held out, name never seen", "language not trained")


def evaluate_emoji(
    model,
    processor,
    folder: str | Path,
    languages: list[str] | None = None,
    trained: list[str] | None = None,
    progress: bool = False,
) -> list[dict]:
    """Rank all pictures for every name.

    Args:
        model: A `ClippoModel`.
        processor: Its `ClippoProcessor`.
        folder: What `scripts/build_emoji_dataset.py` made.
        languages: Restrict the queries to these; the pictures stay all.
        trained: The languages that the model was trained on, all by default. Others are a split of their own.
        progress: Show progress bars.

    Returns:
        Rows {"split", "script", "languages", "queries", "R@1", "R@5", "R@10"}, recalls in 0..1, the script "all" first
        in each split, then the scripts by their number of queries. Chance is k / number of pictures.
    """
    gallery = EmojiPairs(folder)
    place = {picture_id: i for i, picture_id in enumerate(gallery.picture_ids)}
    columns = ["id", "language", "script", "name", "split", "name_in_train"]
    rows = parquet.read_table(Path(folder) / "annotations.parquet", columns=columns).to_pylist()
    if languages is not None:
        rows = [row for row in rows if row["language"] in set(languages)]

    images = embed_images(model, processor, gallery.images, progress=progress)
    texts = embed_texts(model, processor, [row["name"] for row in rows], progress=progress)
    targets = torch.tensor([place[row["id"]] for row in rows])
    position = ranks(texts, images, targets)

    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        for split in _splits(row, trained):
            groups[split, "all"].append(i)
            groups[split, row["script"]].append(i)
    report = [
        {
            "split": split,
            "script": script,
            "languages": len({rows[i]["language"] for i in members}),
            "queries": len(members),
            **recall_at_k(position[members]),
        }
        for (split, script), members in groups.items()
    ]
    return sorted(report, key=lambda row: (SPLITS.index(row["split"]), row["script"] != "all", -row["queries"]))


def _splits(row: dict, trained: list[str] | None) -> list[str]:
    """The splits that a (picture, language) row counts in."""
    if trained is not None and row["language"] not in trained:
        return ["language not trained"]
    if row["split"] != "held_out":
        return ["seen"]
    return ["held out"] if row["name_in_train"] else ["held out", "held out, name never seen"]


def as_markdown(report: list[dict], pictures: int) -> str:
    """The report as one Markdown table, recalls in percent, one line a script, chance in the last line."""
    cells: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in report:
        cells[row["script"]][row["split"]] = row
    splits = [split for split in SPLITS if any(split in by_split for by_split in cells.values())]
    header = "".join(f" {split}: queries | R@1 | R@5 |" for split in splits)
    lines = [f"| script | languages |{header}", "|---|---|" + "---|---|---|" * len(splits)]
    for script, by_split in cells.items():
        untrained = by_split[SPLITS[-1]]["languages"] if SPLITS[-1] in by_split else 0
        trained = max((row["languages"] for split, row in by_split.items() if split != SPLITS[-1]), default=0)
        line = f"| {script} | {trained + untrained} |"
        for split in splits:
            row = by_split.get(split)
            line += f" {row['queries']} | {row['R@1']:.1%} | {row['R@5']:.1%} |" if row else " | | |"
        lines.append(line)
    lines.append("| chance | |" + f" | {1 / pictures:.2%} | {5 / pictures:.2%} |" * len(splits))
    return "\n".join(lines) + "\n"
