"""A growing set of languages: who may join when, in which order, for any number of processes."""

import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.data.sampling import SampleKey
from clippo.emoji import EmojiPairs, EmojiSpec
from clippo.emoji.growth import GrowingKeys, Growth


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 200))
def test_it_grows_from_one_to_all(first, length, total):
    growth = Growth.of([first, first + length])
    counts = [growth.languages_at(batch, total) for batch in range(first + length + 3)]
    assert counts == sorted(counts) and counts[-1] == total
    assert all(count == 1 for count in counts[:first])
    assert all(1 <= count <= total for count in counts)


@pytest.mark.parametrize("batches", [[5], [5, 3], [-1, 3]])
def test_bad_growth(batches):
    with pytest.raises(ValueError, match=r"must be two rising numbers of batches, such as \[200, 800\]"):
        Growth.of(batches)


def test_processes_grow_at_the_same_step():
    growth = Growth(1, 4)
    alone = GrowingKeys(12, 4, 0, growth=growth, total=9)
    shared = GrowingKeys(12, 2, 0, 2, growth=growth, total=9)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        assert list(alone) == list(shared)
    assert {key.source for key in alone} == {4, 9}, "batch 3 is the first of the second epoch"


def test_only_languages_that_have_joined_are_drawn(emoji_folder):
    pairs = EmojiPairs(emoji_folder, languages=["ru", "en", "de"], texts_per_image=2, anchor="en", grow=[1, 3])
    keys = list(pairs.train_sampler(8, seed=0))
    rows = parquet.read_table(emoji_folder / "annotations.parquet").to_pylist()
    offered = {}
    for row in rows:
        if row["split"] == "train":
            offered.setdefault(row["id"], set()).add(row["language"])
    order = ["en", "ru", "de"]  # the anchor, then as listed
    joined = {count: set(order[:count]) for count in (1, 3)}
    assert {key.source for key in keys[:8]} == {1}
    for key in keys:
        item = pairs[key._replace(source=key.source if key.source in joined else 3)]
        own = offered[pairs.picture_ids[item["picture"]]]
        allowed = joined.get(key.source, joined[3]) & own
        assert set(item["language"]) <= (allowed or {next(language for language in order if language in own)})


def test_a_key_decides_the_item_whatever_was_read_before(emoji_folder):
    pairs = EmojiPairs(emoji_folder, texts_per_image=2, anchor="en", grow=[1, 4])
    keys = list(pairs.train_sampler(8, seed=0))
    texts = [pairs[key]["text"] for key in keys]
    assert [pairs[key]["text"] for key in reversed(keys)] == texts[::-1]


def test_a_star_stands_for_all_that_are_not_listed(emoji_folder):
    pairs = EmojiPairs(emoji_folder, languages=["ru", "*"], grow=[0, 1])
    assert pairs.languages == ["de", "en", "ru"]
    assert next(iter(pairs._rank)) == "ru"
    assert EmojiPairs(emoji_folder, languages=["*"]).languages == pairs.languages


def test_without_growth_nothing_changes(emoji_folder):
    plain, grown = (EmojiPairs(emoji_folder, grow=grow) for grow in (None, [0, 0]))
    keys, grown_keys = list(plain.train_sampler(8, seed=3)), list(grown.train_sampler(8, seed=3))
    assert [plain[key]["text"] for key in keys] == [grown[key]["text"] for key in grown_keys]


def test_a_recipe_says_it(emoji_folder):
    spec = EmojiSpec.from_dict({"kind": "emoji", "path": str(emoji_folder), "anchor": "en", "grow": [2, 5]})
    train, _ = spec.open(texts_per_image=2)
    assert train.grow == Growth(2, 5)


def test_languages_of_small_scripts_are_drawn_more_often(emoji_folder):
    """Two of three languages are Latin here: with balance 1 both together as often as the Cyrillic one."""
    counts = {}
    for balance in (0, 1):
        pairs = EmojiPairs(emoji_folder, balance=balance)
        full = [row for row in range(len(pairs)) if len(pairs._items[row]) == 3]
        keys = [SampleKey(0, row, seed) for row in full for seed in range(400 // len(full) + 1)]
        counts[balance] = sum(pairs[key]["language"] == "ru" for key in keys) / len(keys)
    assert counts[0] == pytest.approx(1 / 3, abs=0.1)
    assert counts[1] == pytest.approx(1 / 2, abs=0.1)


def test_balanced_draws_repeat_no_language_before_all_were_drawn(emoji_folder):
    pairs = EmojiPairs(emoji_folder, balance=0.5, texts_per_image=3)
    row = next(row for row in range(len(pairs)) if len(pairs._items[row]) == 3)
    assert all(len(set(pairs[SampleKey(0, row, seed)]["language"])) == 3 for seed in range(20))
    with pytest.raises(ValueError, match="balance=2 is out of range"):
        EmojiPairs(emoji_folder, balance=2)
