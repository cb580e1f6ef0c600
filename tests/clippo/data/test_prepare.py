"""Data sets of the recipes are copied, converted or fetched into one place, with their columns checked."""

import dataclasses
import json

import datasets
import pytest
from PIL import Image

from clippo.data import load_rows, prepare
from clippo.data.known import KNOWN


def rows(**columns):
    return datasets.Dataset.from_dict(columns)


def contents(written, folder):
    return {path.relative_to(folder).as_posix(): load_rows(path)[:] for path, _ in written}


@pytest.mark.parametrize("name", KNOWN)
def test_the_local_copy_is_taken_over(shared, tmp_path, name):
    known = KNOWN[name]
    folder = next(f for f in (shared("data") / other for other in (name, *known.aliases)) if f.is_dir())
    if name in ("flickr8k", "sst2", "qqp"):
        small = tmp_path / "copy" / name
        small.mkdir(parents=True)
        for file in folder.glob("*.parquet"):
            load_rows(file).select(range(3)).to_parquet(small / file.name)
        folder = small
    written = prepare.prepare(name, tmp_path, folder)
    assert all(count > 0 and load_rows(path).num_rows == count for path, count in written)


def test_two_parts_of_a_split_become_one_file(tmp_path):
    for number in range(2):
        part = rows(en=[f"{number}"], de=["x"])
        for split in ("train", "validation", "test"):
            (tmp_path / "multi30k").mkdir(exist_ok=True)
            part.to_parquet(tmp_path / "multi30k" / f"{split}-0000{number}-of-00002.parquet")
    written = prepare.prepare("multi30k", tmp_path / "out", tmp_path)
    assert contents(written, tmp_path / "out")["multi30k/train.parquet"] == {"en": ["0", "1"], "de": ["x", "x"]}


def test_a_raw_download_is_converted(tmp_path):
    raw = tmp_path / "v1"
    raw.mkdir()
    (raw / "tatoeba.deu-eng.deu").write_text("Hallo\nWelt\u2028!\n", encoding="utf-8")
    (raw / "tatoeba.deu-eng.eng").write_text("Hello\nWorld!\n", encoding="utf-8")
    ((_, count),) = written = prepare.prepare("tatoeba", tmp_path / "out", raw)
    assert count == 2 and contents(written, tmp_path / "out")["tatoeba/test.parquet"] == {
        "lang": ["deu", "deu"],
        "sentence": ["Hallo", "Welt\u2028!"],
        "english": ["Hello", "World!"],
    }
    for i in range(40):
        (tmp_path / "md").mkdir(exist_ok=True)
        (tmp_path / "md" / f"{i:02}.md").write_text(f"Book {i}.")
    assert [count for _, count in prepare.prepare("books", tmp_path / "out", tmp_path / "md")] == [38, 2]
    for name in ("rose", "tulip"):
        (tmp_path / "flower_photos" / name).mkdir(parents=True)
        for i in range(102):
            Image.new("RGB", (2, 2)).save(tmp_path / "flower_photos" / name / f"{i:03}.jpg")
    written = prepare.prepare("flowers", tmp_path / "out", tmp_path / "flower_photos")
    assert {path.stem: count for path, count in written} == {"test": 200, "train": 4}
    assert load_rows(tmp_path / "out" / "flowers", "test").features["label"].names == ["rose", "tulip"]


def test_the_hub_is_adapted(tmp_path, monkeypatch):
    asked = []

    def load(path, config=None):
        asked.append((path, config))
        if "flickr8k" in path:
            part = rows(image=["a"], **{f"caption_{i}": [f"c{i}"] for i in range(5)})
            return datasets.DatasetDict(train=part, validation=part, test=part)
        if "stsb" in path:
            part = rows(sentence1=["a"], sentence2=["b"], similarity_score=[1.5])
            return datasets.DatasetDict(train=part, dev=part, test=part)
        part = rows(sentence=["a"], label=[1])
        return datasets.DatasetDict(train=part, validation=part)

    monkeypatch.setattr(prepare, "load_dataset", load)
    found = contents(prepare.prepare("flickr8k", tmp_path), tmp_path)
    assert found["flickr8k/train.parquet"] == {"image": ["a"], "captions": [["c0", "c1", "c2", "c3", "c4"]]}
    found = contents(prepare.prepare("stsb_multi", tmp_path), tmp_path)
    assert (
        found["stsb_multi/validation.parquet"]["lang"] == [config for path, config in asked if "stsb" in path]
        and found["stsb_multi/test.parquet"]["label"] == [1.5] * 10
    )
    assert len(prepare.prepare("glue", tmp_path)) == 18 and (tmp_path / "glue" / "rte" / "train.parquet").is_file()


def test_what_cannot_be_prepared_says_what_to_do(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise ConnectionError("no network")

    monkeypatch.setattr(prepare, "load_dataset", fail)
    monkeypatch.delenv(prepare.VARIABLE, raising=False)
    for arguments, message in (
        (["tatoeba"], r"tatoeba cannot be fetched automatically. Run `git clone .*--from"),
        (["wikitext"], r"cannot be fetched from the hub \(no network\). Download Salesforce/wikitext"),
        (["books", "--from", str(tmp_path / "none")], "There is no folder"),
        (["books", "--from", str(tmp_path)], "holds no files of books"),
    ):
        with pytest.raises(SystemExit, match=message):
            prepare.main([*arguments, "--output_dir", str(tmp_path / "out")])
    rows(text=["a"]).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(SystemExit, match="books: no split validation"):
        prepare.main(["books", "--from", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    monkeypatch.setenv(prepare.VARIABLE, str(tmp_path))
    with pytest.raises(SystemExit, match="ntrex, train: no column eng; it has text"):
        prepare.main(["ntrex", "--output_dir", str(tmp_path / "out")])
    prepare.main(["speeches", "--output_dir", str(tmp_path / "out")])
    assert capsys.readouterr().out.endswith("train.parquet: 1 rows\n")


def questions_of(written, folder):
    return {
        name: [(row["questions"], row["answers"]) for row in load_rows(folder / name)]
        for name in contents(written, folder)
    }


def test_questions_are_grouped_by_image(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    for split in ("train", "test"):
        (raw / split / "images").mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (2, 2)).save(raw / split / "images" / f"{i}.png")
        asked = [["what color?", "blue", 0], ["a circle?", "no", 1], ["what shape?", "circle", 0]]
        (raw / split / "questions.json").write_text(json.dumps(asked))
    grouped = [(["what color?", "what shape?"], ["blue", "circle"]), (["a circle?"], ["no"])]
    written = prepare.prepare("easy_vqa", tmp_path, raw)
    assert questions_of(written, tmp_path) == {"easy_vqa/test.parquet": grouped, "easy_vqa/train.parquet": grouped}
    (raw / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raw").rename(tmp_path / "easy_vqa_package")
    monkeypatch.setitem(KNOWN, "easy_vqa", dataclasses.replace(KNOWN["easy_vqa"], package="easy_vqa_package"))
    assert [count for _, count in prepare.prepare("easy_vqa", tmp_path / "out")] == [2, 2]


def test_daquar_as_it_is_distributed(tmp_path):
    (tmp_path / "nyu_depth_images").mkdir()
    for i in (3, 7):
        Image.new("RGB", (2, 2)).save(tmp_path / "nyu_depth_images" / f"image{i}.png")
    text = "what is on the desk in the image3 ?\nbook, lamp\nhow many chairs are there in the image7 ?\n2\n"
    for split in ("train", "test"):
        (tmp_path / f"qa.894.raw.{split}.txt").write_text(text)
    written = prepare.prepare("daquar", tmp_path / "out", tmp_path)
    assert questions_of(written, tmp_path / "out")["daquar/train.parquet"] == [
        (["what is on the desk ?"], ["book, lamp"]),
        (["how many chairs are there ?"], ["2"]),
    ]
