"""Training items: one picture and several texts of a concept, never a concept twice in a batch, nothing held out."""

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from clippo.data import ContrastiveCollator
from clippo.data.device_views import DeviceViews
from clippo.data.sampling import SampleKey
from clippo.pictograms import HeldOutPictograms, PictogramPairs, PictogramSpec, PictogramView
from clippo.pictograms.bank import EncodedPictures, PictureBank
from clippo.pictograms.compact import open_bank, write_compact
from clippo.pictograms.pairs import LINKED, OTHERS
from clippo.processing import ClippoProcessor


@pytest.fixture(scope="module")
def pairs(pictograms):
    return PictogramPairs(pictograms[0], texts_per_image=3, linked_share=0.5, text_share=0.0)


def read_annotations(pictograms):
    return parquet.read_table(pictograms[0] / "annotations.parquet").to_pylist()


def all_items(pairs, epochs=6):
    sampler = pairs.train_sampler(4, seed=0)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield from ((key, pairs[key]) for key in sampler)


def test_items_hold_a_picture_and_texts_of_one_concept(pairs, pictograms):
    texts = parquet.read_table(pictograms[0] / "annotations.parquet").to_pylist()
    rows = {row["id"]: row for row in parquet.read_table(pictograms[0] / "pictures.parquet").to_pylist()}
    for _, item in all_items(pairs):
        row = rows[pairs.picture_ids[item["picture"]]]
        assert row["split"] == "train" and len(item["text"]) == 3 and item["image"].shape == (48, 48, 4)
        first = item["text"][0].lower()
        own = [row["words"], *row["texts"]]
        own += [word for text in texts if text["id"] == row["concept"] for word in [text["name"], *text["keywords"]]]
        assert any(abs(len(first) - len(word)) <= 4 for word in own), "an English text, perhaps mistyped"


def test_held_out_pairs_and_concepts_are_never_drawn(pairs, pictograms):
    texts = parquet.read_table(pictograms[0] / "annotations.parquet").to_pylist()
    never = {text["name"].lower() for text in texts if text["split"] != "train" and not text["name_in_train"]}
    drawn = {text.lower() for _, item in all_items(pairs) for text in item["text"]}
    assert never and never.isdisjoint(drawn)


def test_a_batch_holds_no_concept_twice_and_both_kinds(pairs):
    keys = list(pairs.train_sampler(4, seed=3))
    for start in range(0, len(keys), 4):
        batch = [(key.source % 2, key.row) for key in keys[start : start + 4]]
        assert len(set(batch)) == 4 and sorted(kind for kind, _ in batch) == [LINKED, LINKED, OTHERS, OTHERS]


def test_an_item_is_a_function_of_its_key(pairs):
    key = SampleKey(LINKED, 1, seed=77)
    first, second = pairs[key], pairs[key]
    assert first["text"] == second["text"] and first["picture"] == second["picture"]
    assert any(pairs[key._replace(seed=seed)]["text"] != first["text"] for seed in range(20))


def test_languages_join_one_after_another(pictograms):
    pairs = PictogramPairs(pictograms[0], 3, text_share=0.0, grow=[2, 4])
    keys = list(pairs.train_sampler(2, seed=0))
    assert [key.source // 2 for key in keys[:4]] == [1] * 4, "English alone"
    cyrillic = [any("а" <= letter <= "я" for text in pairs[key]["text"] for letter in text) for key in keys[:4]]
    assert not any(cyrillic)
    full = SampleKey(2 * len(pairs.languages) + LINKED, 0, 0)
    assert len({text for seed in range(40) for text in pairs[full._replace(seed=seed)]["text"]}) > 5


def test_a_share_of_the_items_is_text_against_text(pictograms):
    pairs = PictogramPairs(pictograms[0], 2, text_share=0.5)
    items = [pairs[SampleKey(LINKED, seed % 3, seed)] for seed in range(200)]
    as_text = [item for item in items if "first_text" in item]
    assert 60 < len(as_text) < 140
    assert all("image" not in item and len(item["text"]) == 2 for item in as_text)
    assert not any("first_text" in pairs[SampleKey(OTHERS, 0, seed)] for seed in range(50))


def test_a_single_text_is_english_or_not(pictograms):
    pairs = PictogramPairs(pictograms[0], 1, text_share=0.0)
    keys = [SampleKey(LINKED, row, seed) for row in range(len(pairs._concepts[LINKED])) for seed in range(40)]
    texts = [pairs[key]["text"] for key in keys]
    assert {len(one) for one in texts} == {1}
    drawn = {one[0] for one in texts}
    train = [text for text in read_annotations(pictograms) if text["split"] == "train"]
    assert drawn & {text["name"] for text in train if text["language"] == "en"}
    assert drawn & {text["name"] for text in train if text["language"] in ("de", "ru")}


def test_concepts_are_numbered_and_have_texts(pictograms):
    pairs = PictogramPairs(pictograms[0], 2, text_share=0.5)
    assert "concept" not in pairs[SampleKey(LINKED, 0, 0)]
    pairs.with_concepts = True
    texts = pairs.concept_texts()
    assert len(texts) == len(pairs) and all(texts)
    rows = {row["id"]: row for row in parquet.read_table(pictograms[0] / "pictures.parquet").to_pylist()}
    names = {text["id"]: text["name"] for text in read_annotations(pictograms) if text["language"] == "en"}
    for key, item in all_items(pairs, epochs=2):
        assert item["concept"] == key.row + (key.source % 2 == OTHERS) * len(pairs._concepts[LINKED])
        if "picture" in item:
            row = rows[pairs.picture_ids[item["picture"]]]
            assert texts[item["concept"]][0] == names.get(row["concept"], row["concept"].removeprefix("en:"))
    collator = ContrastiveCollator(ClippoProcessor.from_size(48), augment=PictogramView(48, dtype=torch.uint8))
    items = [pairs[SampleKey(LINKED, number % 3, number)] for number in range(8)]
    ordered = [one for one in items if "image" in one] + [one for one in items if "image" not in one]
    assert collator(items)["concepts"].tolist() == [one["concept"] for one in ordered], "images come first"


def test_concepts_that_few_sets_draw_can_be_left_out(pictograms):
    every, few = PictogramPairs(pictograms[0]), PictogramPairs(pictograms[0], least_sets=2)
    assert every._concepts[LINKED] == few._concepts[LINKED] and every._concepts[OTHERS]
    assert few._concepts[OTHERS] == [], "every concept of English words has one set here"
    assert len(list(few.train_sampler(2, seed=0))) > 0


def test_validation_pairs_are_held_out(pairs, pictograms):
    texts = parquet.read_table(pictograms[0] / "annotations.parquet").to_pylist()
    held_out = {(text["language"], text["name"]) for text in texts if text["split"] == "held_out"}
    validation = HeldOutPictograms(pairs)
    assert {(item["language"], item["text"]) for item in (validation[i] for i in range(len(validation)))} <= held_out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts_per_image": 0}, "texts_per_image must be a positive number, got 0"),
        ({"linked_share": 1.0}, "linked_share is a share from 0 to below 1, got 1.0"),
        ({"text_share": -0.1}, "text_share is a share from 0 to below 1, got -0.1"),
        ({"grow": [5, 1]}, "must be two rising numbers of batches"),
    ],
)
def test_wrong_options_are_refused(pictograms, options, message):
    with pytest.raises(ValueError, match=message):
        PictogramPairs(pictograms[0], **options)


def test_a_folder_without_the_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No pictures.parquet in .*: build it with `clippo build pictograms`"):
        PictogramPairs(tmp_path)
    with pytest.raises(ValueError, match="The pictogram data set is trained on alone"):
        PictogramSpec.is_among([{"kind": "pictograms"}, {"path": "x"}])
    assert not PictogramSpec.is_among([{"kind": "emoji"}])


# ------------------------------------------------------------------------------------------------- bank, views, compact


def test_the_compact_form_keeps_rows_texts_and_pictures_but_for_their_levels(pictograms, tmp_path):
    counts = write_compact(pictograms[0], tmp_path)
    whole, compact = open_bank(pictograms[0]), open_bank(tmp_path)
    assert counts["pictures"] == len(whole) == len(compact) == counts["masks"] + counts["colours"]
    for number in range(len(whole)):
        one, other = whole.picture(number).astype(int), compact.picture(number).astype(int)
        if not one[..., :3].any():
            assert np.abs(one - other).max() <= 43, "four grey levels"
        else:
            assert np.abs(one - other)[12:36, 12:36].mean() < 12
    assert parquet.read_table(tmp_path / "pictures.parquet").equals(
        parquet.read_table(pictograms[0] / "pictures.parquet").drop_columns(["image"])
    )
    first, second = PictogramPairs(pictograms[0], 3), PictogramPairs(tmp_path, 3)
    key = SampleKey(LINKED, 0, 5)
    assert first[key]["text"] == second[key]["text"]


def test_a_smaller_compact_form_keeps_held_out_and_linked_pictures(pictograms, tmp_path):
    assert write_compact(pictograms[0], tmp_path, most_pictures=11)["pictures"] == 11
    rows = parquet.read_table(tmp_path / "pictures.parquet").to_pylist()
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert any(row["split"] == "held_out_style" for row in rows) and sum(bool(row["link"]) for row in rows) == 10


def test_a_bank_mixes_masks_and_colours():
    random = np.random.default_rng(0)
    masks = random.integers(0, 256, (3, 8, 8), np.uint8)
    colours = random.integers(0, 256, (2, 8, 8, 4), np.uint8)
    bank = PictureBank(masks, colours, np.array([0, -1, 2, -2, 1]))
    pictures = bank[torch.tensor([4, 1, 3, 0])].numpy()
    for picture, number in zip(pictures, (4, 1, 3, 0), strict=True):
        assert np.array_equal(picture, bank.picture(number))
    assert np.array_equal(pictures[0][..., 3], masks[1]) and not pictures[0][..., :3].any()
    assert np.array_equal(pictures[2], colours[1])
    with pytest.raises(ValueError, match="places name rows beyond 3 masks and 2 colours"):
        PictureBank(masks, colours, np.array([3]))
    with pytest.raises(ValueError, match="need pictures of one size"):
        PictureBank(masks, colours[:, :4, :4], np.array([0]))


def test_encoded_pictures_are_those_of_a_decoded_bank(pictograms):
    encoded = open_bank(pictograms[0])
    assert isinstance(encoded, EncodedPictures) and encoded.to(torch.device("cpu")) is encoded
    decoded = PictureBank.decoded(encoded.files.to_pylist(), encoded.is_mask)
    numbers = torch.arange(len(encoded)).flip(0)
    assert len(encoded) == len(decoded)
    torch.testing.assert_close(encoded[numbers], decoded[numbers])
    assert isinstance(encoded.to(torch.device("meta")), PictureBank)


def test_one_colour_takes_an_ink_that_can_be_read_and_other_colours_stay():
    view = PictogramView(32, dtype=torch.float32)
    mask = np.zeros((64, 24, 24, 4), np.uint8)
    mask[:, 6:18, 6:18, 3] = 255
    grey = (view(mask, list(range(64))) * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1) * 127.5
    contrast = (grey[:, 16, 16] - grey[:, 0, 0]).abs()
    assert contrast.min() >= 95, "ink and ground differ"
    assert len({tuple(one) for one in view(mask, list(range(64)))[:, :, 16, 16].round(decimals=2).tolist()}) > 10
    red = mask.copy()
    red[..., 0] = 200 * (red[..., 3] > 0)
    inside = view(red, list(range(64)))[:, :, 16, 16]
    torch.testing.assert_close(inside, torch.tensor([200 / 127.5 - 1, -1.0, -1.0]).expand(64, 3))


def test_workers_and_device_make_the_same_batch(pairs):
    processor, views = ClippoProcessor.from_size(48, canvas_format="packed"), PictogramView(48, dtype=torch.uint8)
    items = [pairs[key] for key in list(pairs.train_sampler(4, seed=0))[:8]]
    by_workers = ContrastiveCollator(processor, augment=views)(items)
    by_number = ContrastiveCollator(processor, views=views, on_device=True, by_number=True)(items)
    on_device = DeviceViews(views, pairs.images)(by_number)
    assert on_device.keys() == by_workers.keys()
    torch.testing.assert_close(on_device["pixel_values"], by_workers["pixel_values"])
