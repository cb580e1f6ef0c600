"""Vectors of a folder joined with texts: each fault has one clear sentence."""

import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from clippo.data import ContrastiveCollator, PairMixture, SourcePairs, SourceSpec
from clippo.data.vectors import About, Vectors, row_hash

from ...tiny import tiny_processor

ROWS, WIDTH = 6, 24


@pytest.fixture
def photos(tmp_path):
    """Pictures with captions, and texts of the same pictures in another file and order."""
    rows = {
        "image": [Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)) for i in range(ROWS)],
        "name": [f"p{i}" for i in range(ROWS)],
        "en": [[f"picture {i}", f"photo {i}"] for i in range(ROWS)],
        "th": [f"ภาพ {i}" for i in range(ROWS)],
    }
    photos = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    photos.to_parquet(str(tmp_path / "photos.parquet"))
    photos.remove_columns("image").select([5, 3, 1, 0]).to_parquet(str(tmp_path / "texts.parquet"))
    return tmp_path


def write(folder, count=ROWS, kept=None, width=WIDTH, **about):
    """Vectors of the pictures in the folder."""
    rows = datasets.load_dataset("parquet", data_files=str(folder / "photos.parquet"), split="train")
    rows = rows.cast_column("image", datasets.Image(decode=False))
    kept = list(range(count)) if kept is None else kept
    vectors = torch.nn.functional.normalize(torch.randn(len(kept), width, generator=torch.Generator().manual_seed(0)))
    hashes = [row_hash(rows[i]["image"], "images") for i in range(count)]
    about = {"model": "some/model", "data": "photos.parquet", "column": "image", "kind": "images"} | about
    about = About(**about, fingerprint="ab12", rows=count, width=width, dtype="float16")
    keys = [f"p{i}" for i in range(count)]
    Vectors.write(folder / "vectors", about, vectors.half(), kept, hashes, keys)
    return Vectors(folder / "vectors")


def source(folder, file="photos.parquet", captions="th", **options) -> SourcePairs:
    spec = dict(kind="vectors", vectors=str(folder / "vectors"), caption_columns=captions)
    return SourcePairs(SourceSpec(str(folder / file), **{**spec, **options}), sampling=False)


def test_rows_meet_their_vectors(photos):
    vectors = write(photos)
    pairs = source(photos)
    for i in range(ROWS):
        assert pairs[i]["text"] == f"ภาพ {i}" and torch.equal(pairs[i]["vector"], vectors.get(i))
    assert pairs.rows.column_names == ["th"]  # no image is read


def test_keys_join_texts_of_another_file(photos):
    vectors = write(photos)
    pairs = source(photos, "texts.parquet", key_column="name")
    assert len(pairs) == 4
    for i, row in enumerate([5, 3, 1, 0]):
        assert pairs[i]["text"] == f"ภาพ {row}" and torch.equal(pairs[i]["vector"], vectors.get(row))


@pytest.mark.parametrize("key", [None, "name"])
def test_rows_without_a_caption_are_left_out(photos, key):
    """Most pictures have no caption in a rare language."""
    vectors = write(photos)
    rows = datasets.load_dataset("parquet", data_files=str(photos / "photos.parquet"), split="train")
    rows = rows.remove_columns("th").add_column("th", ["", "ภาพ 1", None, " ", "ภาพ 4", ""])
    rows.to_parquet(str(photos / "rare.parquet"))
    pairs = source(photos, "rare.parquet", key_column=key)
    assert [pairs[i]["text"] for i in range(len(pairs))] == ["ภาพ 1", "ภาพ 4"]
    assert torch.equal(pairs[1]["vector"], vectors.get(4))


def test_a_mixture_of_languages_becomes_a_batch(photos):
    vectors = write(photos)
    common = dict(kind="vectors", vectors=str(photos / "vectors"), weight=0.5)
    specs = [
        SourceSpec(str(photos / "photos.parquet"), caption_columns=["en"], name="en", **common),
        SourceSpec(str(photos / "texts.parquet"), caption_columns="th", key_column="name", name="th", **common),
    ]
    mixture = PairMixture.from_specs(specs)
    keys = list(mixture.train_sampler(batch_size=4, seed=0))[:4]
    batch = ContrastiveCollator(tiny_processor())([mixture[key] for key in keys])
    assert batch["image_embeds"].shape == (4, WIDTH) and batch["image_embeds"].dtype == torch.float32
    assert batch["text_pixel_values"].shape[0] == 4 and "pixel_values" not in batch
    assert {tuple(v.tolist()) for v in batch["image_embeds"]} <= {tuple(v.tolist()) for v in vectors.vectors.float()}


def test_several_captions_share_a_vector(photos):
    write(photos)
    spec = SourceSpec(
        str(photos / "photos.parquet"), "vectors", vectors=str(photos / "vectors"), caption_columns=["en", "th"]
    )
    pairs = SourcePairs(spec, texts_per_image=3)
    batch = ContrastiveCollator(tiny_processor())([pairs[0], pairs[1]])
    assert batch["image_embeds"].shape == (2, WIDTH) and batch["text_pixel_values"].shape[0] == 6


def test_the_content_of_an_image_finds_its_vector(photos):
    vectors = write(photos)
    rows = datasets.load_dataset("parquet", data_files=str(photos / "photos.parquet"), split="train")
    rows = rows.cast_column("image", datasets.Image(decode=False))
    assert torch.equal(vectors.of_cell(rows[4]["image"]), vectors.get(4))
    assert vectors.of_cell(Image.new("RGB", (4, 4))) is None


def test_search_names_the_nearest_rows(photos):
    vectors = write(photos, kept=[0, 2, 3, 5])
    found = vectors.search(vectors.get(3).float(), k=2)
    assert found[0] == ("p3", pytest.approx(1, abs=1e-3)) and found[1][1] < found[0][1]
    assert {name for name, _ in vectors.search(vectors.get(3).float())} == {"p0", "p2", "p3", "p5"}


def test_an_image_that_could_not_be_embedded_is_skipped(photos):
    write(photos, kept=[0, 1, 2, 4, 5])
    with pytest.raises(ValueError, match=r"row 3 cannot be evaluated .no vector, because its image could not be"):
        source(photos)[3]
    spec = source(photos).spec
    assert SourcePairs(spec)[3]["skipped"] >= 1  # the row that is drawn for it may be the same


def broken(folder, change) -> None:
    """Change the tensors of a folder."""
    tensors = load_file(folder / "vectors" / "vectors.safetensors")
    change(tensors)
    save_file(tensors, folder / "vectors" / "vectors.safetensors")


class TestFaults:
    def test_no_vectors(self, photos):
        with pytest.raises(FileNotFoundError, match=r"There are no vectors in .*: `clippo embed` writes them"):
            source(photos)

    def test_fewer_vectors_than_texts(self, photos):
        write(photos, count=5)
        with pytest.raises(ValueError, match=r"has 6 rows, and .* has vectors for 5 rows of photos.parquet; embed the"):
            source(photos)

    def test_keys_without_a_vector(self, photos):
        write(photos, count=5)
        with pytest.raises(ValueError, match=r"1 of 4 rows of .* have no vector in .*, the first is 'p5'"):
            source(photos, "texts.parquet", key_column="name")

    def test_stale_vectors(self, photos):
        """The same pictures in another order."""
        write(photos)
        rows = datasets.load_dataset("parquet", data_files=str(photos / "photos.parquet"), split="train")
        rows.select([1, 0, 2, 3, 4, 5]).to_parquet(str(photos / "moved.parquet"))
        with pytest.raises(ValueError, match=r"Row 0 of .* is not the one that was embedded: the vectors in .* stale"):
            source(photos, "moved.parquet")

    def test_texts_without_the_images_need_a_key(self, photos):
        write(photos, count=4)
        with pytest.raises(ValueError, match=r"has no column 'image', which the vectors in .*; name a key_column"):
            source(photos, "texts.parquet")
        with pytest.raises(ValueError, match="has no key_column 'file'; it has name, en, th"):
            source(photos, "texts.parquet", key_column="file")

    def test_nan(self, photos):
        write(photos)
        broken(photos, lambda tensors: tensors["vectors"][4].fill_(torch.nan))
        with pytest.raises(ValueError, match=r"The vector of row 4 in .* is not finite"):
            source(photos)

    def test_another_width(self, photos):
        write(photos)
        broken(photos, lambda tensors: tensors.update(vectors=tensors["vectors"][:, :20].contiguous()))
        with pytest.raises(ValueError, match=r"has 6 vectors of 20 numbers .* says 6 rows of 24; make them again"):
            source(photos)

    def test_a_damaged_file(self, photos):
        write(photos)
        (photos / "vectors" / "vectors.json").write_text(json.dumps({"model": "m"}))
        with pytest.raises(ValueError, match=r"cannot be read .*; make them again"):
            source(photos)

    def test_images_and_vectors_in_a_batch(self, photos):
        write(photos)
        pairs = [source(photos)[0], {"image": Image.new("RGB", (8, 8)), "text": "x"}]
        with pytest.raises(ValueError, match="A batch holds images and vectors"):
            ContrastiveCollator(tiny_processor())(pairs)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (dict(kind="vectors", caption_columns="th"), "needs vectors, the folder that `clippo embed` wrote"),
            (dict(kind="vectors", vectors="v"), "needs caption_columns"),
            (dict(kind="vectors", vectors="v", caption_columns="th", streaming=True), "leave out streaming"),
            (dict(kind="vectors", vectors="v", caption_columns="th", image_column="i"), "image_column would have no"),
            (dict(caption_columns="th", vectors="v"), "vectors would have no effect on an image_text source"),
            (dict(kind="text_text", text_column="t", key_column="k"), "key_column would have no effect on"),
        ],
    )
    def test_specifications(self, fields, message):
        with pytest.raises(ValueError, match=message):
            SourceSpec("p", **fields)


def test_variants_of_texts_keep_their_vectors(photos):
    vectors = write(photos)
    spec = dict(kind="vectors", vectors=str(photos / "vectors"), caption_columns="en")
    pairs = SourcePairs(SourceSpec(str(photos / "photos.parquet"), **spec, typos=0.5, other_case=0.5))
    plain = {f"{word} {i}": i for i in range(ROWS) for word in ("picture", "photo")}
    drawn = [(key.row, pairs[key]) for _ in range(20) for key in pairs.train_sampler(batch_size=2, seed=0)]
    texts = {item["text"] for _, item in drawn}
    assert texts & set(plain) and texts - set(plain)
    assert {text.lower() for text in texts} & set(plain) and any(text.isupper() for text in texts)
    assert all(torch.equal(item["vector"], vectors.get(row)) for row, item in drawn)
    evaluated = source(photos, captions="en", typos=1.0, other_case=1.0)
    assert [evaluated[i]["text"] for i in range(ROWS)] == [f"picture {i}" for i in range(ROWS)]
