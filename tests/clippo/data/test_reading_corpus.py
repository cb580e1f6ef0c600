"""Corpus of a reader: the same rows for the same inputs, held-out sentences in none, targets in English."""

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from clippo.data.reading_corpus import CorpusFiles, CorpusOptions, build_corpus, detokenize, is_held_out, main

from ..wordnet_miniature import write_wordnet


@pytest.fixture
def inputs(tmp_path):
    """A miniature WordNet, a document, translations in both forms, and a test set."""
    wordnet = write_wordnet(tmp_path / "dict")
    text = "The old house stood on a hill. The <unk> was there too. It had many windows and doors! Seen in a test set."
    parquet.write_table(pa.table({"text": [text]}), tmp_path / "books.parquet")
    english = [f"Sentence number {i} is about house {i}." for i in range(60)]
    long = {"lang": ["deu"] * 60, "sentence": [f"Satz {i}" for i in range(60)], "english": english}
    parquet.write_table(pa.table(long), tmp_path / "long.parquet")
    wide = {"idx": list(range(60)), "eng": english, "fra": [f"Phrase {i}" for i in range(60)]}
    wide["document"] = [f"news.{i}" for i in range(60)]  # not a language
    parquet.write_table(pa.table(wide), tmp_path / "wide.parquet")
    parquet.write_table(pa.table({"sentence1": ["Seen in a test set."], "label": [1]}), tmp_path / "test.parquet")
    return CorpusFiles(
        documents=[str(tmp_path / "books.parquet")],
        translations=[str(tmp_path / "long.parquet"), str(tmp_path / "wide.parquet")],
        wordnet=str(wordnet),
        exclude=[str(tmp_path / "test.parquet")],
    )


def rows_of(folder, name=None):
    """Rows of one file, or of all kinds."""
    names = [name] if name else [path.stem for path in folder.glob("*.parquet") if path.stem != "held_out"]
    return [row for name in names for row in parquet.read_table(folder / f"{name}.parquet").to_pylist()]


def test_rows_and_held_out_sentences(inputs, tmp_path):
    told = build_corpus(inputs, CorpusOptions(grammar=50), tmp_path / "out")
    rows, held_out = rows_of(tmp_path / "out"), rows_of(tmp_path / "out", "held_out")
    assert set(told["kinds"]) == {"sentence", "definition", "word", "phrase", "swapped", "grammar", "translation"}
    assert json.loads((tmp_path / "out" / "corpus.json").read_text()) == told
    texts = {row["text"] for row in rows}
    assert {"The old house stood on a hill.", "definition of dog", "a cat in the street", "dog house"} <= texts
    assert "Seen in a test set." not in texts and not any("<unk>" in text for text in texts)
    kept_away = {row["english"] for row in held_out} | {row["sentence"] for row in held_out}
    assert 2 * 8 < len(held_out) < 2 * 30 and {row["lang"] for row in held_out} == {"deu", "fra"}
    assert not kept_away & (texts | {row["target"] for row in rows})
    assert {row["kind"] for row in rows_of(tmp_path / "out", "phrase")} == {"phrase"}
    for row in rows:
        assert row["text"] and row["target"] and (row["text"] == row["target"]) == (row["language"] == "eng")
    german = {row["text"]: row["target"] for row in rows if row["language"] == "deu"}
    assert all(target == f"Sentence number {text[5:]} is about house {text[5:]}." for text, target in german.items())
    assert len(german) + sum(row["lang"] == "deu" for row in held_out) == 60


def test_same_inputs_give_the_same_hash(inputs, tmp_path):
    first = build_corpus(inputs, CorpusOptions(grammar=20), tmp_path / "a")
    assert build_corpus(inputs, CorpusOptions(grammar=20), tmp_path / "b") == first
    assert build_corpus(inputs, CorpusOptions(grammar=20, seed=1), tmp_path / "c")["sha256"] != first["sha256"]
    assert rows_of(tmp_path / "a", "held_out") == rows_of(tmp_path / "c", "held_out")  # whatever the seed


def test_share_that_is_held_out():
    assert sum(is_held_out(f"sentence {i}", 0.3) for i in range(2000)) / 2000 == pytest.approx(0.3, abs=0.03)
    assert not is_held_out("sentence", 0.0)


def test_detokenized_text():
    assert detokenize("the dog 's 3 @.@ 5 ( five ) bones ;") == "the dog's 3.5 (five) bones;"
    assert detokenize('He said " no " , twice .') == 'He said "no", twice.'


def test_command_and_its_errors(inputs, tmp_path, capsys):
    main(["--documents", *inputs.documents, "--output_dir", str(tmp_path / "out"), "--grammar", "0"])
    assert json.loads(capsys.readouterr().out)["kinds"]["sentence"] == 3
    with pytest.raises(SystemExit, match="There is no text; give --documents"):
        main(["--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"held_out=1\.0 is not a share"):
        main(["--held_out", "1", "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="neither the columns lang, sentence, english nor en"):
        main(["--translations", inputs.translations[1], "--english_column", "en", "--output_dir", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"There is no .*data\.noun"):
        main(["--wordnet", str(tmp_path), "--output_dir", str(tmp_path / "out")])
