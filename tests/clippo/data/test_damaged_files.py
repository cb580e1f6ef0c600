"""Damaged files are named in one sentence, and nothing in them is lost or made up without a word."""

import gzip
import io
import itertools
import logging
import tarfile

import datasets
import numpy as np
import pytest
from PIL import Image

from clippo.data import ContrastiveCollator, PairStream, PhotoAugmentation, SourcePairs, SourceSpec, load_rows
from clippo.data.sampling import SampleKey
from clippo.data.shards import open_shards
from clippo.processing import ClippoProcessor

WORDS = ["null", "None", "NA", "nan", "", "a dog", "#N/A", "true story"]


@pytest.mark.parametrize("streaming", [False, True])
def test_words_that_look_like_missing_values_are_words(tmp_path, streaming):
    """Readers of CSV files tend to take "null", "None", "NA" and "nan" for nothing."""
    lines = "".join(f"{i}.png,{word}\n" for i, word in enumerate(WORDS))
    (tmp_path / "pairs.csv").write_text("\ufefffile_name,caption\n" + lines, encoding="utf-8")
    assert [row["caption"] for row in load_rows(tmp_path / "pairs.csv", streaming=streaming)] == WORDS
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(len(WORDS)):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / f"{i}.png")
    (folder / "metadata.csv").write_bytes((tmp_path / "pairs.csv").read_bytes())
    rows = list(load_rows(folder, streaming=streaming))
    assert [row["caption"] for row in rows] == WORDS
    assert [row["image"]["path"] for row in rows] == [str(folder / f"{i}.png") for i in range(len(WORDS))]
    spec = SourceSpec(str(folder), caption_columns="caption", streaming=streaming)
    if not streaming:
        pairs = SourcePairs(spec, sampling=False)
        assert [pairs[i]["text"] for i in (0, 1, 2, 3)] == WORDS[:4]
        assert pairs[3]["image"].getpixel((0, 0)) == (3, 0, 0)


def test_a_metadata_file_names_only_files_below_it(tmp_path):
    for path in ("../secret.png", "/etc/passwd", "file://secret.png"):
        (tmp_path / "metadata.csv").write_text(f"file_name,caption\n{path},a\n")
        with pytest.raises(ValueError, match="give a path below the folder of the table"):
            load_rows(tmp_path)
    (tmp_path / "metadata.csv").write_text("name,caption\na.png,a\n")
    with pytest.raises(ValueError, match=r"metadata.csv has no column file_name; it has name, caption"):
        load_rows(tmp_path)


def test_image_folders_with_splits_and_metadata(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / split / "a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,caption,n\na.png,{split} NA,1\n")
    assert load_rows(tmp_path, "test")["caption"][:] == ["test NA"]
    assert load_rows(tmp_path)["caption"][:] == ["train NA"]
    assert load_rows(tmp_path)["n"][:] == [1]


@pytest.fixture
def shards(tmp_path):
    """Two shards of 40 images each with a caption."""
    for number in range(2):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for i in range(40):
                Image.new("RGB", (8, 8), (i, 0, 0)).save(picture := io.BytesIO(), "PNG")
                for kind, data in (("png", picture.getvalue()), ("txt", f"{number} {i}".encode())):
                    info = tarfile.TarInfo(f"{number}{i:03}.{kind}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return tmp_path


def shard_spec(folder, streaming):
    return SourceSpec(f"{folder}/*.tar", name="web", image_column="png", caption_columns="txt", streaming=streaming)


def header(path, number):
    """Offset of the header of the file `number` in an archive."""
    with tarfile.open(path) as archive:
        return archive.getmembers()[number].offset


@pytest.mark.parametrize("damage", [b"\0" * 512, b"x" * 512, b"\xff" * 3], ids=["zeros", "letters", "checksum"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_shard_damaged_in_its_middle_is_named(shards, streaming, damage):
    rows = list(open_shards([str(shards / "0.tar"), str(shards / "1.tar")], streaming))
    assert [row["txt"] for row in rows] == [f"{number} {i}" for number in range(2) for i in range(40)]
    path = shards / "1.tar"
    content = bytearray(path.read_bytes())
    start = header(path, 42)
    content[start : start + len(damage)] = damage
    path.write_bytes(content)
    if streaming:
        with pytest.raises(RuntimeError, match=r"web: .*1\.tar cannot be read \(ReadError: .* byte \d+"):
            list(itertools.islice(PairStream([shard_spec(shards, True)], 4, seed=0), 200))
    else:
        with pytest.raises(ValueError, match=r"web: .*1\.tar cannot be read: .* byte \d+"):
            SourcePairs(shard_spec(shards, False))


def test_one_archive_after_another_is_not_read_by_half(shards):
    (shards / "0.tar").write_bytes((shards / "0.tar").read_bytes() + (shards / "1.tar").read_bytes())
    with pytest.raises(ValueError, match=r"0\.tar cannot be read: zeros in place of a header"):
        SourcePairs(shard_spec(shards, False))


FILES = {
    "empty.parquet": b"",
    "noise.parquet": b"PAR1" + b"x" * 100,
    "empty.csv": b"",
    "header.csv": b"text\n",
    "latin.csv": "text\ncafé\n".encode("latin-1"),
    "ragged.csv": b"text,b\n1,2\n1,2,3\n",
    "open.csv": b'text\n"open\nmore\n',
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n",
    "broken.jsonl": b'{"text": "a"}\n{"text": "b\n{"text": "c"}\n',
    "cut.json": b'[{"text": "a"}, {"tex',
    "cut.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 9999)[:60],
    "plain.csv.gz": b"text\na\n",
    "empty.tar": b"",
    "zeros.tar": bytes(10240),
    "empty.arrow": b"",
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_named_in_one_sentence(tmp_path, name, streaming):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with pytest.raises(ValueError, match=rf"^source: .*{name}") as error:
        load_rows(path, streaming=streaming, name="source")
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
    if name == "broken.jsonl":
        assert f"{name}, line 2, cannot be read" in str(error.value)


def test_the_broken_one_of_many_files(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text('{"text": "a"}\n' * 5)
    (tmp_path / "1.jsonl").write_text('{"text": "a"}\n{"text"\n')
    with pytest.raises(ValueError, match=r"1\.jsonl, line 2, cannot be read"):
        load_rows(tmp_path / "*.jsonl")
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("text\na\n")
    (tmp_path / "2.csv").write_text('text\n"a\n')
    with pytest.raises(ValueError, match=r"2\.csv cannot be read"):
        load_rows(tmp_path / "*.csv")


def test_text_that_is_not_utf_8_is_a_skipped_row(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes('{"text": "café"}\n'.encode("latin-1") + b'{"text": "tea"}\n' * 3)
    spec = SourceSpec(str(tmp_path / "a.jsonl"), "text_text", name="cups", caption_columns=["text", "text"])
    pairs = SourcePairs(spec)
    pairs.spec.caption_columns = ["text"]
    with pytest.raises(RuntimeError, match="cups: 100 rows in a row"):
        pairs[SampleKey(0, 0, 0)]
    assert "broken text" in caplog.text


def unusable(kind):
    if kind == "nan":
        return Image.fromarray(np.full((8, 8), np.nan, np.float32))
    if kind == "0..1":
        return Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    return Image.fromarray(np.full((8, 8), 70000, np.int32))


@pytest.mark.parametrize("kind", ["nan", "0..1", "beyond 16 bits"])
@pytest.mark.parametrize("augment", [None, PhotoAugmentation(flip=True, layers=2)], ids=["plain", "augmented"])
def test_an_image_that_decodes_but_cannot_be_used_is_skipped_by_name(tmp_path, caplog, kind, augment):
    """PIL clips such images when they are flipped, so they trained in silence with other pixels."""
    for i in range(6):
        image = unusable(kind) if i == 0 else Image.new("RGB", (8, 8), (i, 0, 0))
        image.save(content := io.BytesIO(), "TIFF")
        (tmp_path / f"{i}.tif").write_bytes(content.getvalue())
    table = {"image": [str(tmp_path / f"{i}.tif") for i in range(6)], "caption": [f"number {i}" for i in range(6)]}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "rows.parquet")
    name = f"tiffs {kind} {augment is None}"
    pairs = SourcePairs(SourceSpec(str(tmp_path / "rows.parquet"), name=name, caption_columns="caption"))
    with caplog.at_level(logging.WARNING):
        item = pairs[SampleKey(0, 0, 1)]
    assert item["skipped"] >= 1 and item["text"] != "number 0"
    assert f"{name}: row 0 is skipped (broken image" in caplog.text
    batch = ContrastiveCollator(ClippoProcessor.from_size(32), augment)([item, pairs[SampleKey(0, 3, 2)]])
    assert batch["skipped"] == item["skipped"] and batch["pixel_values"].isfinite().all()


def test_photographs_are_read_upright(tmp_path):
    image = Image.new("RGB", (32, 16), "white")
    image.paste("black", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif, quality=100)
    cell = {"bytes": (tmp_path / "photo.jpg").read_bytes(), "path": None}
    features = datasets.Features(image=datasets.Image(), caption=datasets.Value("string"))
    rows = datasets.Dataset.from_list([{"image": cell, "caption": "half"}] * 2, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    for streaming in (False, True):
        spec = SourceSpec(str(tmp_path / "rows.parquet"), caption_columns="caption", streaming=streaming)
        item = next(iter(PairStream([spec], 1, seed=0))) if streaming else SourcePairs(spec)[SampleKey(0, 0, 0)]
        assert item["image"].size == (16, 32)
        assert item["image"].getpixel((8, 4)) < (60, 60, 60) and item["image"].getpixel((8, 28)) > (200, 200, 200)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data/flickr8k/train*.parquet", "no file matches .* Run `clippo prepare flickr8k`"),
        ("data/emoji", "no file or folder data/emoji .* Run `clippo build emoji`"),
        ("data/glue/rte", "no file or folder data/glue/rte; .* Run `clippo prepare glue`"),
        ("photos", "no file or folder photos .* give the name of a data set on the hub: owner/name"),
        ("empty", "empty holds neither data files nor images; check the path"),
    ],
)
def test_missing_data_says_what_to_do(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ConnectionError), match=message):
        load_rows(path)


def test_a_missing_column_names_the_fitting_one(tmp_path):
    features = datasets.Features(img=datasets.Image(), label=datasets.Value("int64"), title=datasets.Value("string"))
    rows = datasets.Dataset.from_dict({"img": [None], "label": [1], "title": ["a"]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"No column image in .*img, label, title. Its images are in img: .*--image"):
        load_rows(tmp_path / "rows.parquet", columns=["image", "title"])
    with pytest.raises(ValueError, match=r"No column captions in .*title. Its texts are in title: .*caption_columns"):
        load_rows(tmp_path / "rows.parquet", columns=["img", "captions"])
