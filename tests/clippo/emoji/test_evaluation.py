"""The groups of the emoji report add up; an oracle is perfect, and a constant model has recall 0."""

import pyarrow.parquet as parquet
import pytest
import torch

from clippo.emoji.evaluation import as_markdown, evaluate_emoji
from clippo.emoji.pairs import EmojiPairs
from clippo.evaluation.encoder import EmbeddedImages


@pytest.fixture
def pictures(emoji_folder):
    return EmojiPairs(emoji_folder)


class FakeEncoder:
    """Encoder with given vectors of images and a given function of texts."""

    def __init__(self, images, texts):
        self.vectors, self.texts = images, texts

    def images(self, cells):
        return EmbeddedImages(self.vectors, list(range(len(cells))))


def rows_of(folder):
    return parquet.read_table(folder / "annotations.parquet").to_pylist()


def test_an_oracle_is_perfect_everywhere(emoji_folder, pictures):
    count = len(pictures.picture_ids)
    own = [pictures.picture_ids.index(row["id"]) for row in rows_of(emoji_folder)]
    report = evaluate_emoji(FakeEncoder(torch.eye(count), lambda texts: torch.eye(count)[own]), emoji_folder)
    assert all(row["R@1"] == 1 for row in report)
    assert next(row["script"] for row in report if row["split"] == "seen") == "all"


def test_a_model_that_maps_all_to_one_point_finds_nothing(emoji_folder, pictures):
    ones = torch.ones(len(pictures.picture_ids), 4)
    encoder = FakeEncoder(ones, lambda texts: torch.ones(len(texts), 4))
    assert all(row["R@10"] == 0 for row in evaluate_emoji(encoder, emoji_folder))


def test_groups_add_up(emoji_folder, pictures):
    torch.manual_seed(0)
    count = len(pictures.picture_ids)
    encoder = FakeEncoder(torch.randn(count, 4), lambda texts: torch.randn(len(texts), 4))
    report = evaluate_emoji(encoder, emoji_folder)
    rows = rows_of(emoji_folder)
    for split, wanted in (("seen", "train"), ("held out", "held_out")):
        group = [row for row in report if row["split"] == split and "language" not in row]
        whole = next(row for row in group if row["script"] == "all")
        assert whole["queries"] == sum(row["split"] == wanted for row in rows)
        assert whole["queries"] == sum(row["queries"] for row in group if row["script"] != "all")
        languages = [row for row in report if row["split"] == split and "language" in row]
        assert whole["queries"] == sum(row["queries"] for row in languages)
        assert len(languages) == whole["languages"] == len({row["language"] for row in languages})
    german = evaluate_emoji(encoder, emoji_folder, languages=["de"], trained=["en"])
    assert {row["split"] for row in german} == {"language not trained"}
    assert german[0]["queries"] == sum(row["language"] == "de" for row in rows)
    table = as_markdown(report, images=count)
    assert table.count("\n") == 2 + len({row["script"] for row in report}) + 1
    assert f"{1 / count:.2%}" in table
