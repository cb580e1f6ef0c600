"""Batches of emoji on a device: the right names to the right pictures, the same for every model that is compared."""

import pytest
import torch

from clippo.emoji.device_tables import EmojiTables, TableBatches, draw_texts


@pytest.fixture(scope="module")
def tables(emoji_folder):
    return EmojiTables(emoji_folder, None, size=64)


def first(batches, count=1):
    return [batch for _, batch in zip(range(count), batches, strict=False)]


def places(tables, pixels):
    """Places of pictures in the tables."""
    return [(tables.plain == picture).flatten(1).all(1).nonzero()[0].item() for picture in pixels]


def rows_of(tables, canvases):
    """Numbers of the names with these canvases; several names may look alike."""
    return [set((tables.canvases == canvas).flatten(1).all(1).nonzero()[:, 0].tolist()) for canvas in canvases]


def test_every_text_is_a_training_name_of_its_picture(tables):
    rows = {picture: set() for picture in tables.pictures}
    for i, (picture, _, _) in enumerate(tables.rows[: tables.split]):
        rows[picture].add(i)
    images = len(tables.pictures) // 2
    for batch in first(TableBatches(tables, images, texts_per_image=2, steps=4), 8):
        assert batch["pixel_values"].shape == (images, 3, 64, 64)
        pictures = [tables.pictures[place] for place in places(tables, batch["pixel_values"])]
        assert len(set(pictures)) == images
        for picture, found in zip(2 * pictures, rows_of(tables, batch["text_pixel_values"]), strict=True):
            assert found & rows[picture]


def test_a_seed_gives_the_same_batches_and_another_gives_others(tables):
    def run(seed):
        return first(TableBatches(tables, 4, texts_per_image=2, steps=8, seed=seed), 3)

    assert all(
        torch.equal(x[key], y[key]) for x, y in zip(run(0), run(0), strict=True) for key in x if key != "return_loss"
    )
    assert not torch.equal(run(0)[0]["text_pixel_values"], run(1)[0]["text_pixel_values"])


def test_ids_in_place_of_canvases_are_those_of_the_same_names(tables):
    ids = torch.arange(len(tables.rows))[:, None]
    drawn = first(TableBatches(tables, 4, 2, steps=8, texts=ids, key="input_ids"))[0]
    canvases = first(TableBatches(tables, 4, 2, steps=8))[0]
    assert torch.equal(tables.canvases[drawn["input_ids"][:, 0]], canvases["text_pixel_values"])
    assert torch.equal(drawn["pixel_values"], canvases["pixel_values"])


def test_text_pairs_replace_the_first_rows(tables):
    sides = [draw_texts([f"{word} {i}" for i in range(9)], 64)[0] for word in ("one", "two")]
    plain = first(TableBatches(tables, 4, 2, steps=8))[0]
    mixed = first(TableBatches(tables, 4, 2, steps=8, text_pairs=0.5, sentences=sides))[0]
    assert torch.equal(mixed["pixel_values"], plain["pixel_values"][2:])
    left, second = mixed["first_text_pixel_values"], mixed["text_pixel_values"].unflatten(0, (2, 4))  # (K, B, ...)
    drawn = [next(i for i in range(9) if torch.equal(sides[0][i], canvas)) for canvas in left]
    for k, names in enumerate(plain["text_pixel_values"].unflatten(0, (2, 4))):
        assert torch.equal(second[k, :2], names[2:])
        assert torch.equal(second[k, 2:], sides[1][drawn])


def test_the_first_language_goes_alone(tables):
    english = {i for i, (_, language, _) in enumerate(tables.rows) if language == "en"}
    has_english = (tables.ranks == 0).any(1)
    for batch in first(TableBatches(tables, 4, 1, steps=80, first_languages=1), 10):  # the first eighth of the run
        pictures = places(tables, batch["pixel_values"])
        for place, found in zip(pictures, rows_of(tables, batch["text_pixel_values"]), strict=True):
            assert found & english or not has_english[place]


def test_texts_that_do_not_fit_are_named():
    assert draw_texts(["cat", "cat " * 40], 64)[1].tolist() == [True, False]
