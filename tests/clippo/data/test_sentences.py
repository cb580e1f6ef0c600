"""Sentences in many scripts: known cuts, and that nothing is lost."""

import itertools
import re
import time

import pyarrow.parquet as parquet
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from clippo.data.sentences import (
    SPACED_MARKS,
    UNMARKED_CHARS,
    WIDE_MARKS,
    clean_sentence,
    consecutive_sentences,
    sentence_spans,
)


def pieces(text):
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met J. R. Tolkien. He left.", ["Dr. Smith met J. R. Tolkien.", "He left."]),
        ("It is 3.5 km away. Go!", ["It is 3.5 km away.", "Go!"]),
        ('"Stop." He ran. (Fast.) Very.', ['"Stop."', "He ran.", "(Fast.)", "Very."]),
        ("Wait... what?! Yes.", ["Wait...", "what?!", "Yes."]),
        ("Er kam. Sie ging.", ["Er kam.", "Sie ging."]),
        ("Он пришёл. Она ушла.", ["Он пришёл.", "Она ушла."]),
        (
            "今日は雨です。明日は晴れ。「はい！」と言った。",
            ["今日は雨です。", "明日は晴れ。", "「はい！」", "と言った。"],
        ),
        ("你好吗？我很好！", ["你好吗？", "我很好！"]),
        ("यह पहला है। यह दूसरा है॥", ["यह पहला है।", "यह दूसरा है॥"]),
        ("هل هذا صحيح؟ نعم. جيد!", ["هل هذا صحيح؟", "نعم.", "جيد!"]),
        ("یہ پہلا ہے۔ یہ دوسرا ہے۔", ["یہ پہلا ہے۔", "یہ دوسرا ہے۔"]),
        ("ይህ ነው። ያ ነው።", ["ይህ ነው።", "ያ ነው።"]),
        ("Սա է։ Դա է։", ["Սա է։", "Դա է։"]),
        ("នេះគឺ។ នោះគឺ។", ["នេះគឺ។", "នោះគឺ។"]),
        ("ဒါက ပထမ။ ဒါက ဒုတိယ။", ["ဒါက ပထမ။", "ဒါက ဒုတိယ။"]),
        ("그는 왔다. 그녀는 갔다.", ["그는 왔다.", "그녀는 갔다."]),
        ("זה אחד. זה שניים.", ["זה אחד.", "זה שניים."]),
        ("นี่คือประโยค\n\nนี่คือย่อหน้า", ["นี่คือประโยค", "นี่คือย่อหน้า"]),
        ("# A title\nA sentence\nover two lines. Next.", ["# A title\nA sentence\nover two lines.", "Next."]),
        ("# A title\n\n- one\n- two\n", ["# A title", "- one", "- two"]),
        ("1. First this. 2. Then that. XIV. At last.", ["1. First this.", "2. Then that.", "XIV. At last."]),
        ("It was 5. The clock rang.", ["It was 5.", "The clock rang."]),
        ("Dr.\n\nA heading", ["Dr.", "A heading"]),
        ("ایہہ پہلا اے ۔ ۔ ایہہ دوجا اے ۔", ["ایہہ پہلا اے ۔ ۔", "ایہہ دوجا اے ۔"]),
        ("ܐܢܐ܀ ܗܘ܀", ["ܐܢܐ܀", "ܗܘ܀"]),
        ("ᱚᱞ᱾ ᱪᱤᱠᱤ᱿", ["ᱚᱞ᱾", "ᱪᱤᱠᱤ᱿"]),
        ("ꦲꦏ꧉ ꦤꦕ꧉", ["ꦲꦏ꧉", "ꦤꦕ꧉"]),
        ("", []),
        ("  \n\n ", []),
    ],
)
def test_known_cuts(text, expected):
    assert pieces(text) == expected


@given(st.text(alphabet=st.sampled_from(list("ab A.!?。। \n\"'#-«»")), max_size=60))
def test_spans_follow_each_other_and_hold_everything(text):
    spans = sentence_spans(text)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert "".join("".join(text[start:end] for start, end in spans).split()) == "".join(text.split())


def test_cleaning():
    assert clean_sentence("## A\n title ") == "A title"
    assert clean_sentence("a - b\n\tc") == "a - b c"


def test_pairs_are_neighbours_within_the_lengths():
    text = "The first. Short. The third sentence is much too long for this canvas. The fourth. The fifth."
    assert consecutive_sentences(text, 8, 30) == [("The fourth.", "The fifth.")]
    assert consecutive_sentences("Only one sentence here.") == []


def test_every_mark_that_unicode_calls_an_end():
    ends = {char for char in map(chr, range(0x10000)) if regex.match(r"\p{Sentence_Terminal}", char)} - {"\u2024"}
    known = {char for char in map(chr, range(0x10000)) if re.match(f"[{SPACED_MARKS}{WIDE_MARKS}]", char)}
    assert ends <= known and known - ends <= set("…｡།༎")
    for char in known:
        assert pieces(f"aa bb{char} cc dd{char}") == [f"aa bb{char}", f"cc dd{char}"]


def test_thai_and_lao_are_cut_by_length():
    """They have no mark for it; a space separates clauses."""
    clause = "ภาษาไทยไม่มีเครื่องหมาย"  # 23 characters: two make a piece
    assert pieces(" ".join([clause] * 5)) == [f"{clause} {clause}", f"{clause} {clause}", clause]
    assert pieces("ພາສາລາວ" * 20) == ["ພາສາລາວ" * 20], "nowhere to cut"
    assert all(len(piece) >= UNMARKED_CHARS for piece in pieces(" ".join(["ພາສາລາວບໍ່ມີ"] * 40))[:-1])
    assert pieces("A long English sentence with one ไทย word that goes on and on.") != []


@pytest.mark.parametrize("run", [".", "!", " ", "\n", " \n", "A. ", "1. ", '."', "。", ". ", "# ", "\n#", "ก "])
def test_time_is_in_proportion_to_the_text(run):
    """Contents pages hold rows of dots. With time in the square of the length each of these would take minutes."""
    start = time.process_time()
    sentence_spans("a" + run * 100_000 + "b")
    assert time.process_time() - start < 5


def test_three_hundred_languages(shared):
    """The Declaration of Human Rights has thirty articles; every version falls into dozens of pieces and loses none."""
    rows = parquet.read_table(shared("data", "udhr", "train.parquet")).to_pylist()
    for row in rows:
        found = pieces(row["text"])
        assert "".join("".join(found).split()) == "".join(row["text"].split())
        assert len(found) > 25 or len(row["text"]) < 5000, row["lang"]


@pytest.mark.parametrize(
    ("folder", "file", "a_row"),
    [
        ("classic_books", "validation", 500),
        ("us_speeches", "train", 20),
        ("wikitext2", "validation", 1),  # a row is a paragraph or a heading
        ("udhr", "train", 12),
    ],
)
def test_real_documents_give_pairs(shared, folder, file, a_row):
    texts = parquet.read_table(shared("data", folder, f"{file}.parquet"))["text"].to_pylist()
    pairs = [consecutive_sentences(text) for text in texts]
    assert sum(map(len, pairs)) >= a_row * len(texts)
    for text, of_text in list(zip(texts, pairs, strict=True))[:50]:
        flat = " ".join(text.split())
        for first, second in of_text[:20]:
            assert min(len(first), len(second)) >= 8 and max(len(first), len(second)) <= 200
            assert first in flat and second in flat[flat.index(first) :]
