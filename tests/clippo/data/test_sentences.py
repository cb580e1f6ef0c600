"""Sentences in many scripts: known cuts, and that nothing is lost."""

import itertools

import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.data.sentences import clean_sentence, consecutive_sentences, sentence_spans


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


def test_three_hundred_languages(shared):
    """The Declaration of Human Rights has thirty articles; every version falls into dozens of pieces and loses none."""
    rows = parquet.read_table(shared("data", "udhr", "train-00000-of-00001.parquet")).to_pylist()
    for row in rows:
        found = pieces(row["text"])
        assert "".join("".join(found).split()) == "".join(row["text"].split())
        assert len(found) > 25 or len(row["text"]) < 5000, row["lang"]
