"""Emoji pairs: what may be drawn, what decides it, and that held-out texts never reach training."""

from collections import Counter

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from clippo.emoji.pairs import EmojiPairs


@pytest.fixture(scope="module")
def rows(emoji_folder):
    return parquet.read_table(emoji_folder / "annotations.parquet").to_pylist()


def texts_of(pairs, epochs=1):
    """(picture id, language, text) of every item, read `epochs` times."""
    items = [pairs[i] for _ in range(epochs) for i in range(len(pairs))]
    return [(pairs.picture_ids[item["picture"]], item["language"], item["text"]) for item in items]


def test_each_picture_that_has_a_training_text_once_an_epoch(emoji_folder, rows):
    pairs = EmojiPairs(emoji_folder)
    pictures = [pairs.picture_ids[pairs[i]["picture"]] for i in range(len(pairs))]
    assert len(pictures) == len(set(pictures))
    assert set(pictures) == {row["id"] for row in rows if row["split"] == "train"}


def test_all_training_texts_are_drawn_and_nothing_else(emoji_folder, rows):
    torch.manual_seed(0)
    drawn = set(texts_of(EmojiPairs(emoji_folder), epochs=80))
    allowed = {
        (row["id"], row["language"], text)
        for row in rows
        if row["split"] == "train"
        for text in [row["name"], *row["keywords"]]
    }
    assert drawn == allowed


def test_held_out_pairs_are_fixed_names(emoji_folder, rows):
    pairs = EmojiPairs(emoji_folder, split="held_out", sampling=False)
    expected = [(row["id"], row["language"], row["name"]) for row in rows if row["split"] == "held_out"]
    assert texts_of(pairs) == texts_of(pairs) == expected


def test_one_per_picture_is_a_gallery(emoji_folder):
    pairs = EmojiPairs(emoji_folder, split="held_out", sampling=False)
    length = len(pairs)
    gallery = pairs.one_per_picture()
    pictures = [gallery[i]["picture"] for i in range(len(gallery))]
    assert pictures == sorted({pairs[i]["picture"] for i in range(length)})
    assert len({gallery[i]["language"] for i in range(len(gallery))}) > 1
    assert len(pairs) == length, "the data set it came from is left alone"
    with pytest.raises(ValueError, match="sampling=False"):
        EmojiPairs(emoji_folder).one_per_picture()


def test_torch_seed_decides_the_texts(emoji_folder):
    pairs = EmojiPairs(emoji_folder, p_join=0.5)
    torch.manual_seed(3)
    first = texts_of(pairs)
    second = texts_of(pairs)
    torch.manual_seed(3)
    assert texts_of(pairs) == first
    assert first != second


def test_generator_state_resumes_the_texts(emoji_folder):
    pairs = EmojiPairs(emoji_folder)
    texts_of(pairs)
    state = torch.get_rng_state()
    expected = texts_of(pairs)
    torch.set_rng_state(state)
    assert texts_of(pairs) == expected


@pytest.mark.parametrize("p_name", [0.0, 0.5, 1.0])
def test_share_of_names(emoji_folder, rows, p_name):
    torch.manual_seed(0)
    names = {(row["id"], row["language"]): row["name"] for row in rows}
    pairs = EmojiPairs(emoji_folder, languages=["de"], p_name=p_name)  # every German row has keywords
    drawn = [names[picture, language] == text for picture, language, text in texts_of(pairs, epochs=40)]
    assert np.mean(drawn) == pytest.approx(p_name, abs=0.05)


def test_joined_keywords_are_distinct_words_of_one_row(emoji_folder, rows):
    keywords = {(row["id"], row["language"]): row["keywords"] for row in rows}
    pairs = EmojiPairs(emoji_folder, languages=["en"], p_name=0.0, p_join=1.0)
    joined = 0
    for picture, language, text in texts_of(pairs, epochs=5):
        words = keywords[picture, language]
        if len(words) >= 2:
            assert text in {f"{a} {b}" for a in words for b in words if a != b}
            joined += 1
    assert joined > 50


def test_words_that_many_pictures_share_are_not_drawn(tmp_path, build):
    build(tmp_path, held_out=0)
    table = parquet.read_table(tmp_path / "annotations.parquet")
    keywords = [[*words, "thing"] if i % 3 else words for i, words in enumerate(table["keywords"].to_pylist())]
    column = table.schema.get_field_index("keywords")
    parquet.write_table(
        table.set_column(column, table.schema.field(column), [keywords]), tmp_path / "annotations.parquet"
    )
    languages = table["language"].to_pylist()
    fits = Counter(language for language, words in zip(languages, keywords, strict=True) if "thing" in words)
    limit = fits["ru"]
    assert limit < fits["en"]
    drawn = texts_of(EmojiPairs(tmp_path, max_sharing=limit), epochs=60)
    assert {language for _, language, text in drawn if text == "thing"} == {"ru"}, "counted in each language by itself"
    drawn = texts_of(EmojiPairs(tmp_path, max_sharing=None), epochs=60)
    assert {language for _, language, text in drawn if text == "thing"} == {"de", "en", "ru"}


def test_languages_narrow_and_grow(emoji_folder, rows):
    pairs = EmojiPairs(emoji_folder, languages=["ru"])
    russian = {row["id"] for row in rows if row["language"] == "ru" and row["split"] == "train"}
    assert {picture for picture, _, _ in texts_of(pairs)} == russian
    assert {language for _, language, _ in texts_of(pairs)} == {"ru"}
    pairs.set_languages(["ru", "en"])
    assert Counter(language for _, language, _ in texts_of(pairs)).keys() == {"ru", "en"}
    assert pairs.scripts == {"de": "Latin", "en": "Latin", "ru": "Cyrillic"}


def test_images_are_the_pictures(emoji_folder):
    item = EmojiPairs(emoji_folder)[5]
    assert item["image"].dtype == np.uint8
    assert item["image"].shape == (24, 24, 4)
    assert item["image"][0, 0, 3] == 0
    assert item["image"][12, 12, 3] == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, 'split must be "train" or "held_out"'),
        ({"p_name": 1.5}, "p_name is a probability, got 1.5"),
        ({"max_sharing": 0}, "max_sharing is a number of images or None, got 0"),
        ({"languages": ["en", "tlh"]}, "No texts in tlh; there are de, en, ru"),
        ({"languages": []}, "No train pairs in"),
    ],
)
def test_bad_options(emoji_folder, options, message):
    with pytest.raises(ValueError, match=message):
        EmojiPairs(emoji_folder, **options)


def test_a_folder_that_was_not_built(tmp_path):
    with pytest.raises(FileNotFoundError, match="build_emoji_dataset"):
        EmojiPairs(tmp_path)


def test_several_texts_an_image_come_in_different_languages(emoji_folder, rows):
    pairs = EmojiPairs(emoji_folder, texts_per_image=2)
    for item in (pairs[i] for i in range(len(pairs))):
        own = pairs.picture_ids[item["picture"]]
        offered = {row["language"] for row in rows if row["id"] == own and row["split"] == "train"}
        assert len(item["text"]) == len(item["language"]) == 2
        assert len(set(item["language"])) == min(2, len(offered))


@pytest.mark.parametrize(
    ("options", "message"),
    [(dict(anchor="en"), "texts_per_image must be 2 or more"), (dict(anchor="eng", texts_per_image=2), "anchor 'eng'")],
)
def test_an_anchor_that_would_not_hold(emoji_folder, options, message):
    with pytest.raises(ValueError, match=message):
        EmojiPairs(emoji_folder, **options)


def test_no_texts_an_image_are_refused(emoji_folder):
    with pytest.raises(ValueError, match="texts_per_image must be a positive number, got 0"):
        EmojiPairs(emoji_folder, texts_per_image=0)


def test_a_key_decides_the_item(emoji_folder):
    """The same key gives the same text, whatever was drawn before and whatever the global generator says."""
    pairs = EmojiPairs(emoji_folder, p_join=0.5)
    keys = list(pairs.train_sampler(8, seed=1))
    first = [pairs[key]["text"] for key in keys]
    torch.manual_seed(9)
    assert [pairs[key]["text"] for key in reversed(keys)] == first[::-1]
    assert sorted(key.row for key in keys) == sorted({key.row for key in keys}), "no picture twice in an epoch"
    assert [key.seed for key in pairs.train_sampler(8, seed=2)] != [key.seed for key in keys]


def test_the_anchor_comes_first_and_the_others_beside_it(emoji_folder, rows):
    pairs = EmojiPairs(emoji_folder, texts_per_image=3, anchor="en")
    for item in (pairs[i] for i in range(len(pairs))):
        own = pairs.picture_ids[item["picture"]]
        offered = {row["language"] for row in rows if row["id"] == own and row["split"] == "train"}
        assert len(item["language"]) == 3
        if {"en"} < offered:
            assert item["language"][0] == "en" and "en" not in item["language"][1:]
        else:
            assert set(item["language"]) <= offered
