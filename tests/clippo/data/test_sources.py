"""Sources and their errors: wrong types, options without effect, broken files."""

import gzip
import io
import itertools
import json
import pickle
import tarfile

import datasets
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from clippo.data import PairStream, SourcePairs, SourceSpec
from clippo.data.damaged_files import find_unreadable
from clippo.data.sampling import SampleKey
from clippo.data.sources import open_source

DOCUMENT = "One sentence is here. Two sentences are here."


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"weight": "0.5"}, "source photos: .*weight.*expected float, got str"),
        ({"streaming": "no"}, "source photos: .*streaming.*expected bool, got str"),
        ({"caption_columns": 3}, "source photos: .*caption_columns"),
        ({"text_column": "text"}, "text_column would have no effect on an image_text source; leave it out"),
        ({"max_chars": 90}, "max_chars would have no effect on an image_text source"),
        ({"kind": "text_text", "fields": "one"}, "fields would have no effect on pairs of captions"),
        ({"kind": "text_text", "caption_columns": None, "text_column": "t", "descriptive_only": True}, "on documents"),
        (
            {"kind": "text_text", "caption_columns": None, "text_column": "t", "min_chars": 90, "max_chars": 9},
            "min_chars=90 and max_chars=9 must be a rising range",
        ),
    ],
)
def test_specs_that_would_not_do_what_they_say(spec, message):
    with pytest.raises(ValueError, match=message):
        SourceSpec.from_dict({"path": "x.parquet", "name": "photos", "caption_columns": "captions", **spec})


def test_a_source_is_a_mapping():
    with pytest.raises(ValueError, match=r"A source is a mapping of path, kind.*got 'x\.parquet'"):
        SourceSpec.from_dict("x.parquet")


def test_a_spec_travels_to_workers():
    spec = SourceSpec(path="x.parquet", caption_columns="captions", weight=0.5)
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("image,caption,number\na.png,a dog,1\nb.png,,2\n")
    return str(path)


def test_numbers_are_no_texts(table):
    with pytest.raises(ValueError, match="photos: column number must hold strings or lists of strings, it holds int64"):
        open_source(SourceSpec(path=table, name="photos", caption_columns=["caption", "number"]))
    with pytest.raises(ValueError, match="photos: column number must hold strings, it holds int64"):
        open_source(SourceSpec(path=table, name="photos", kind="text_text", text_column="number"))


def test_local_files_have_no_splits(table):
    with pytest.raises(ValueError, match="split would have no effect on local files, which `path` names"):
        open_source(SourceSpec(path=table, caption_columns="caption", split="test"))


def test_neither_a_folder_nor_on_the_hub():
    with pytest.raises((ConnectionError, FileNotFoundError), match=r"there is no file or folder data/no-such-thing"):
        open_source(SourceSpec(path="data/no-such-thing", caption_columns="caption"))


@pytest.mark.parametrize("streaming", [False, True])
def test_compressed_json_as_c4_has_it(tmp_path, streaming):
    with gzip.open(tmp_path / "c4-0.json.gz", "wt") as file:
        file.write(json.dumps({"text": DOCUMENT, "url": "a"}) + "\n")
    spec = SourceSpec(path=str(tmp_path / "*.json.gz"), kind="text_text", text_column="text", streaming=streaming)
    item = next(iter(PairStream([spec], 1, seed=0))) if streaming else SourcePairs(spec)[SampleKey(0, 0, 0)]
    assert (item["first_text"], item["text"]) == ("One sentence is here.", "Two sentences are here.")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_cut_json_file_is_named(tmp_path, streaming):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": DOCUMENT}) + '\n{"text": "cut of')
    spec = SourceSpec(path=str(tmp_path / "a.jsonl"), kind="text_text", text_column="text", streaming=streaming)
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2, cannot be read: JSON parse error"):
        open_source(spec)


def test_a_parquet_file_that_breaks_in_the_middle_is_named(tmp_path):
    for number in range(3):
        texts = datasets.Dataset.from_dict({"text": [f"{DOCUMENT} Number {i}." for i in range(2000)]})
        texts.to_parquet(str(tmp_path / f"{number}.parquet"))
    spec = SourceSpec(path=str(tmp_path / "*.parquet"), kind="text_text", text_column="text", streaming=True, name="c4")
    assert find_unreadable([str(path) for path in tmp_path.glob("*.parquet")], "c4") is None
    broken = tmp_path / "1.parquet"
    chunk = parquet.ParquetFile(broken).metadata.row_group(0).column(0)
    content = bytearray(broken.read_bytes())
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    content[first + 100 : first + 1100] = bytes(1000)  # the footer is whole: only reading finds it
    broken.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"c4: .*1\.parquet cannot be read \(\w+: .* take it out of the pattern"):
        list(itertools.islice(PairStream([spec], batch_size=2, seed=0), 7000))


@pytest.fixture
def shard(tmp_path):
    """A WebDataset shard as YFCC would be: pictures, and their texts in a JSON file beside each."""
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(picture := io.BytesIO(), "PNG")
            texts = json.dumps({"title": f"title {number}", "tags": ["IMG_1234", f"tag {number}"], "views": 7}).encode()
            for kind, data in (("png", picture.getvalue()), ("json", texts)):
                info = tarfile.TarInfo(f"{number:03}.{kind}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_inside_json_of_a_shard(shard, streaming):
    spec = SourceSpec(
        path=shard,
        image_column="png",
        caption_columns=["json.title", "json.tags"],
        fields="one",
        descriptive_only=True,
        streaming=streaming,
    )
    if streaming:
        items = list(itertools.islice(PairStream([spec], 1, seed=0), 80))
    else:
        pairs = SourcePairs(spec)
        items = [pairs[SampleKey(0, row, seed)] for row in range(4) for seed in range(20)]
    found = {(item["image"].getpixel((0, 0))[0], item["text"]) for item in items}
    assert found == {(number, f"{field} {number}") for number in range(4) for field in ("title", "tag")}
    spec.caption_columns = ["json.title", "json.summary"]
    with pytest.raises(ValueError, match=r"No column json\.summary in .*; it has"):
        open_source(spec)
    spec.caption_columns = ["json.title", "json.views"]
    with pytest.raises(ValueError, match=r"column json\.views must hold strings or lists of strings, it holds int64"):
        open_source(spec)
    spec.image_column, spec.caption_columns = "json.title", ["json.tags"]
    with pytest.raises(ValueError, match=r"No column json\.title in .*; it has"):
        open_source(spec)


def test_evaluation_reads_no_stream(shard):
    spec = SourceSpec(path=shard, name="val", image_column="png", caption_columns="json.title", streaming=True)
    with pytest.raises(ValueError, match="val is read by row numbers, which a stream does not have"):
        SourcePairs(spec, sampling=False)
    spec.streaming = False
    with pytest.raises(ValueError, match="val does not stream; set streaming: true"):
        PairStream([spec], 1, seed=0)
