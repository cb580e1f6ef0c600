"""WordNet's files: lemmas, definitions, examples and counts."""

from itertools import islice

import pytest

from clippo.data.simple_sentences import SimpleSentences
from clippo.data.wordnet import parse_synset, read_counts, read_synsets

LINE = (
    "00016573 29 v 0a nod 2 drop_off(p) 0 a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 001 @ 00016380 v 0000 02 + 01 00 | "
    'be almost asleep; (of people); "The old man sat nodding"; "he nods"  \n'
)


def test_a_line_of_a_data_file():
    synset = parse_synset(LINE, "v")
    assert synset.lemmas == ("nod", "drop off", "a", "b", "c", "d", "e", "f", "g", "h")  # 0a is ten
    assert synset.definition == "be almost asleep; (of people)"
    assert synset.examples == ("The old man sat nodding", "he nods")


def test_counts_add_up_over_meanings(tmp_path):
    lines = [
        "dog%1:05:00:: 1 42",
        "dog%1:18:00:: 2 3",
        "dog%2:38:00:: 1 2",
        "red%5:00:00:chromatic:00 1 7",
        "7%1:23:00:: 1 9",
    ]
    (tmp_path / "cntlist.rev").write_text("\n".join(lines) + "\n")
    assert read_counts(tmp_path) == {"n": {"dog": 45}, "v": {"dog": 2}, "a": {"red": 7}, "r": {}}


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*data\.noun; pass the folder"):
        next(read_synsets(tmp_path))


def test_simple_sentences_follow_the_seed_and_fill_every_slot():
    words = {"n": {"apple": 4, "knife": 1}, "v": {"cut": 9}, "a": {"red": 1}, "r": {"slowly": 1}}
    first, again, other = (list(islice(SimpleSentences(words, seed), 200)) for seed in (0, 0, 1))
    assert first == again != other
    assert not any("{" in sentence for sentence in first)
    assert any("cutting" in sentence for sentence in first)
