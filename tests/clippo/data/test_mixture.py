"""Sources and their mixture: what is read, what is passed over and counted, what is refused."""

import io
import logging

import datasets
import pytest
import torch
from PIL import Image

from clippo.data import ContrastiveCollator, PairMixture, SourcePairs, SourceSpec
from clippo.data.sampling import SampleKey
from clippo.data.sources import open_source
from clippo.processing import ClippoProcessor

COLORS = ["red", "green", "blue", "white", "black", "gray"]


def jpeg(color: str) -> bytes:
    Image.new("RGB", (64, 64), color).save(buffer := io.BytesIO(), "JPEG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Function writing a parquet file of coloured squares; rows can be spoilt. Returns its spec."""

    def write(broken=(), no_caption=(), name="photos", **options):
        rows = [
            {
                "image": {"bytes": jpeg(color)[:300] if i in broken else jpeg(color), "path": None},
                "captions": [] if i in no_caption else [f"a {color} square", f"{color} it is"],
                "title": None if i % 2 else color,
            }
            for i, color in enumerate(COLORS)
        ]
        features = datasets.Features(
            image=datasets.Image(), captions=datasets.List(datasets.Value("string")), title=datasets.Value("string")
        )
        path = tmp_path / f"{name}.parquet"
        datasets.Dataset.from_list(rows, features=features).to_parquet(str(path))
        return SourceSpec(**{"path": str(path), "caption_columns": "captions", "name": name, **options})

    return write


@pytest.fixture
def books(tmp_path):
    documents = [
        "The first sentence. The second sentence. The third one!",
        "Lonely.",
        "A new book begins. It ends already.",
    ]
    path = tmp_path / "books.json"
    datasets.Dataset.from_dict({"text": documents, "author": ["a", "b", "c"]}).to_json(str(path))
    return SourceSpec(path=str(path), kind="text_text", text_column="text", name="books", weight=0.25)


def keys(pairs, row, count=40):
    return [SampleKey(0, row, seed) for seed in range(count)]


def test_any_caption_is_drawn_and_the_first_evaluated(photos):
    pairs = SourcePairs(photos(caption_columns=["captions", "title"]))
    assert {pairs[key]["text"] for key in keys(pairs, 0)} == {"a red square", "red it is", "red"}
    assert {pairs[key]["text"] for key in keys(pairs, 1)} == {"a green square", "green it is"}, "an empty cell is none"
    item = pairs[SampleKey(0, 2, 7)]
    assert item["image"].getpixel((5, 5))[2] > 250 and (item["seed"], item["skipped"]) == (7, 0)
    fixed = SourcePairs(photos(), sampling=False)
    assert [fixed[i]["text"] for i in range(2)] == ["a red square", "a green square"]


def test_one_field_is_drawn_before_a_text_in_it(photos):
    pairs = SourcePairs(photos(caption_columns=["captions", "title"], fields="one"))
    texts = [pairs[key]["text"] for key in keys(pairs, 0, 200)]
    assert 70 < texts.count("red") < 130, "half of the draws, not a third"


def test_a_caption_comes_again_only_after_all_others(photos):
    pairs = SourcePairs(photos(), texts_per_image=3)
    texts = pairs[SampleKey(0, 0, 3)]["text"]
    assert len(texts) == 3 and set(texts) == {"a red square", "red it is"}


def test_documents_become_consecutive_sentences(books, caplog):
    with caplog.at_level(logging.WARNING):
        pairs = SourcePairs(books)
    assert "1 of 3 documents have no two consecutive sentences" in caplog.text
    assert [(pairs.read(i, None)["first_text"], pairs.read(i, None)["text"]) for i in range(len(pairs))] == [
        ("The first sentence.", "The second sentence."),
        ("The second sentence.", "The third one!"),
        ("A new book begins.", "It ends already."),
    ]


def test_captions_of_one_row_as_pairs_of_texts(photos):
    pairs = SourcePairs(photos(kind="text_text"))
    drawn = {(pairs[key]["first_text"], pairs[key]["text"]) for key in keys(pairs, 0)}
    assert drawn == {("a red square", "red it is"), ("red it is", "a red square")}


@pytest.mark.parametrize(("spoilt", "reason"), [("broken", "broken image"), ("no_caption", "no caption")])
def test_unusable_rows_are_replaced_counted_and_said_once(photos, caplog, spoilt, reason):
    spec = photos(**{spoilt: (0, 1)}, name=f"spoilt {spoilt}")
    pairs = SourcePairs(spec)
    with caplog.at_level(logging.WARNING):
        items = [pairs[SampleKey(0, row, seed)] for row in range(6) for seed in range(20)]
    assert not {"red", "green"} & {item["text"].removesuffix(" it is") for item in items}
    assert all((item["skipped"] > 0) == (i < 40) for i, item in enumerate(items))
    assert pairs[SampleKey(0, 0, 5)]["text"] == items[5]["text"], "the replacement belongs to the key too"
    assert caplog.text.count(reason) == 1
    with pytest.raises(ValueError, match=f"row 0 cannot be evaluated .{reason}"):
        SourcePairs(spec, sampling=False)[0]


def test_a_source_without_a_usable_row_ends_the_run(photos):
    pairs = SourcePairs(photos(broken=range(6)))
    with pytest.raises(RuntimeError, match="photos: 100 rows in a row could not be used"):
        pairs[SampleKey(0, 0, 0)]


def test_a_mixture_through_loader_and_collator(photos, books):
    mixture = PairMixture.from_specs([photos(weight=0.75), books])
    collator = ContrastiveCollator(ClippoProcessor.from_size(64))
    batches = {}
    for workers in (0, 2):
        loader = torch.utils.data.DataLoader(
            mixture,
            batch_size=4,
            sampler=mixture.train_sampler(4, seed=0),
            collate_fn=collator,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        batches[workers] = list(loader)
    assert len(batches[0]) == 2
    for one, other in zip(batches[0], batches[2], strict=True):
        assert len(one["pixel_values"]) == 3 and len(one["first_text_pixel_values"]) == 1
        assert len(one["text_pixel_values"]) == 4 and one["skipped"] == 0 and one["return_loss"] is True
        torch.testing.assert_close(one, other)


def test_what_a_mixture_cannot_be(photos, books):
    with pytest.raises(ValueError, match=r"sum to 1, got 1\.25"):
        PairMixture.from_specs([photos(), books])
    with pytest.raises(ValueError, match="texts_per_image=2 does not go with pairs of texts"):
        PairMixture.from_specs([photos(weight=0.75), books], texts_per_image=2)
    with pytest.raises(ValueError, match="cannot be mixed; set streaming for all or none"):
        PairMixture.from_specs([photos(weight=0.75, streaming=True), books])
    with pytest.raises(TypeError, match="read by keys"):
        PairMixture.from_specs([photos()])[0]
    with pytest.raises(ValueError, match="no document of 3 has two consecutive sentences of 500 to 600"):
        SourcePairs(SourceSpec(path=books.path, kind="text_text", text_column="text", min_chars=500, max_chars=600))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"path": "x", "captions": "text"}, "unknown keys captions; a source knows path, kind"),
        ({"kind": "image_text"}, "has no path"),
        ({"path": "x", "kind": "video"}, "kind='video' is not known"),
        ({"path": "x"}, "needs caption_columns"),
        ({"path": "x", "kind": "text_text"}, "one of the two"),
        ({"path": "x", "caption_columns": "a", "fields": "two"}, "fields='two'"),
    ],
)
def test_specs_that_mean_nothing(spec, message):
    with pytest.raises(ValueError, match=message):
        SourceSpec.from_dict(spec)


def test_sources_that_cannot_be_opened(photos, tmp_path):
    with pytest.raises(ValueError, match=r"No column text in photos; it has .*title\. Its texts are in title"):
        open_source(photos(caption_columns=["text"]))
    with pytest.raises(FileNotFoundError, match=r"no file matches .*none\*\.parquet"):
        open_source(SourceSpec(path=str(tmp_path / "none*.parquet"), caption_columns="a"))
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder \./nowhere"):
        open_source(SourceSpec(path="./nowhere", caption_columns="a"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"cut\.parquet cannot be read"):
        open_source(SourceSpec(path=str(tmp_path / "cut.parquet"), caption_columns="a"))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"files of type \.parquet, \.png"):
        open_source(SourceSpec(path=str(tmp_path / "*.p*"), caption_columns="a"))


def test_a_folder_of_pictures_with_a_metadata_file(tmp_path):
    for i, color in enumerate(COLORS):
        Image.new("RGB", (16, 16), color).save(tmp_path / f"{i}.png")
    lines = [f'{{"file_name": "{i}.png", "caption": "{color}"}}\n' for i, color in enumerate(COLORS)]
    (tmp_path / "metadata.jsonl").write_text("".join(lines))
    pairs = SourcePairs(SourceSpec(path=str(tmp_path), caption_columns="caption"), sampling=False)
    assert sorted(pairs[i]["text"] for i in range(6)) == sorted(COLORS)
    found = next(pairs[i] for i in range(6) if pairs[i]["text"] == "blue")
    assert found["image"].convert("RGB").getpixel((3, 3)) == (0, 0, 255)


def test_a_real_data_set(shared):
    file = shared("data", "flickr8k", "test-00000-of-00001.parquet")
    pairs = SourcePairs(SourceSpec(path=str(file), caption_columns=["captions", "captions_ar"]))
    texts = {pairs[key]["text"] for key in keys(pairs, 0, 80)}
    assert texts == {*pairs.rows[0]["captions"], *pairs.rows[0]["captions_ar"]}
    assert pairs[SampleKey(0, 0, 0)]["image"].size == (160, 160)
