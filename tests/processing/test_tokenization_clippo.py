"""ClippoTokenizer: the renderer behind the interface that pipelines, data sets and Trainer expect of a tokenizer."""

import inspect
import json
import logging

import datasets
import numpy as np
import pandas
import pytest
import torch
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BatchEncoding, DataCollatorWithPadding, default_data_collator
from transformers.processing_utils import ImagesKwargs

from clippo.processing import canvas_clippo
from clippo.processing.image_processing_clippo import ClippoImageProcessorKwargs
from clippo.processing.rendering_clippo import TextRenderer
from clippo.processing.tokenization_clippo import ClippoTokenizer, TextMeasure

TEXTS = ["A photo of a dog", "", "снег", "犬の写真", "a\nb\ud800"]
LONG = "word " * 400


@pytest.fixture(scope="module")
def tokenizer():
    return ClippoTokenizer(canvas_size=64)


@pytest.fixture
def warnings_of_tokenizer(monkeypatch):
    """Warnings the tokenizer logs, as a list; transformers' loggers do not reach pytest's own capture."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    monkeypatch.setattr(canvas_clippo, "_WARNED", set())
    canvas_clippo.logger.addHandler(handler)
    yield messages
    canvas_clippo.logger.removeHandler(handler)


def canvases(tokenizer, *args, **kwargs):
    return tokenizer(*args, return_tensors="np", **kwargs)["text_pixel_values"]


# ------------------------------------------------------------------------------------------------ drawing


def test_golden_texts_with_the_official_font(shared):
    fonts = [str(shared("fonts", name)) for name in ("unifont-9.0.06.hex", "unifont_upper-9.0.06.hex")]
    strings = json.loads(shared("goldens", "render_strings.json").read_text())
    golden = np.load(shared("goldens", "render_224.npz"))
    got = canvases(ClippoTokenizer(font_file=fonts, overflow="ignore"), [item["text"] for item in strings])
    np.testing.assert_array_equal(got[:, 0], golden["images"])


def test_draws_what_the_renderer_draws():
    options = dict(max_chars=9, lowercase=False, monospace=True, spacing=2, min_width=6, background=200, ink=10)
    tokenizer = ClippoTokenizer(canvas_size=[48, 96], overflow="ignore", **options)
    expected = TextRenderer(canvas_size=(48, 96), **options)(TEXTS).canvases
    np.testing.assert_array_equal(canvases(tokenizer, TEXTS), expected)
    tokenizer = ClippoTokenizer(canvas_size=64, antialias_font=True, advances="font")
    expected = TextRenderer(canvas_size=64, antialias_font=True, advances="font")(TEXTS).canvases
    np.testing.assert_array_equal(canvases(tokenizer, TEXTS), expected)


def test_shaping_is_handed_to_the_renderer_and_saved(tmp_path):
    pytest.importorskip("uharfbuzz", reason="needs the extra `shaping`")
    tokenizer = ClippoTokenizer(canvas_size=64, shaping=True)
    plain = ClippoTokenizer(canvas_size=64)
    assert not np.array_equal(canvases(tokenizer, ["سلام"]), canvases(plain, ["سلام"]))
    np.testing.assert_array_equal(canvases(tokenizer, ["salam"]), canvases(plain, ["salam"]))
    tokenizer.save_pretrained(tmp_path)
    loaded = ClippoTokenizer.from_pretrained(tmp_path)
    np.testing.assert_array_equal(canvases(loaded, ["سلام"]), canvases(tokenizer, ["سلام"]))


def test_three_formats_hold_the_same_picture(tokenizer):
    grey = canvases(tokenizer, TEXTS)
    assert grey.dtype == np.uint8 and grey.shape == (5, 1, 64, 64) and set(np.unique(grey)) == {0, 127}
    as_float = canvases(tokenizer, TEXTS, canvas_format="float")
    assert as_float.dtype == np.float32
    np.testing.assert_array_equal(as_float, grey.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1))
    packed = canvases(tokenizer, TEXTS, canvas_format="packed")
    assert packed.dtype == np.int64 and packed.shape == (5, 4, 16)
    columns = packed.view("<u2")  # (B, 4, 64)
    bits = columns[:, :, None, :] >> np.arange(16, dtype=np.uint16)[:, None] & 1
    np.testing.assert_array_equal(bits.reshape(5, 1, 64, 64) == 1, grey == 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=30), max_size=4))
def test_any_strings_render_independently_of_their_batch(texts):
    tokenizer = ClippoTokenizer(canvas_size=64, overflow="ignore")
    got = canvases(tokenizer, texts)
    assert got.shape == (len(texts), 1, 64, 64)
    for text, canvas in zip(texts, got, strict=True):
        np.testing.assert_array_equal(tokenizer(text)["text_pixel_values"], canvas)


# ------------------------------------------------------------------------------------------------ shapes and inputs


def test_shapes_follow_the_rules_of_tokenizers(tokenizer):
    one = tokenizer("dog")
    assert isinstance(one, BatchEncoding) and list(one) == ["text_pixel_values"]
    assert one["text_pixel_values"].shape == (1, 64, 64)
    rows = tokenizer(["dog"])["text_pixel_values"]
    assert isinstance(rows, list) and rows[0].shape == (1, 64, 64)
    for text in ("dog", ["dog"], ("dog",)):
        tensor = tokenizer(text, return_tensors="pt", padding=True)["text_pixel_values"]
        assert tensor.dtype == torch.uint8 and tensor.shape == (1, 1, 64, 64)
        assert isinstance(canvases(tokenizer, text), np.ndarray)
        np.testing.assert_array_equal(tensor.numpy(), canvases(tokenizer, text))
    assert tokenizer([])["text_pixel_values"] == []
    assert tokenizer([], return_tensors="pt")["text_pixel_values"].shape == (0, 1, 64, 64)
    assert tokenizer(text=["a", "b"], canvas_format="packed")["text_pixel_values"][1].shape == (4, 16)


def test_lengths_are_not_tokens(tokenizer):
    expected = canvases(tokenizer, ["a photo of a dog"])
    for options in (
        dict(padding="max_length", max_length=4, truncation=True),
        dict(padding=True, add_special_tokens=False, return_attention_mask=True, return_token_type_ids=True),
        dict(pad_to_multiple_of=8, stride=2, verbose=False, tokenizer_kwargs=None),
    ):
        got = tokenizer(["a photo of a dog"], return_tensors="np", **options)
        assert list(got) == ["text_pixel_values"]
        np.testing.assert_array_equal(got["text_pixel_values"], expected)


def test_pairs_in_every_form(tokenizer):
    expected = canvases(tokenizer, ["a dog | a pet", "snow | cold"])
    np.testing.assert_array_equal(canvases(tokenizer, ["a dog", "snow"], ["a pet", "cold"]), expected)
    np.testing.assert_array_equal(canvases(tokenizer, [["a dog", "a pet"], ("snow", "cold")]), expected)
    np.testing.assert_array_equal(canvases(tokenizer, **{"text": "a dog", "text_pair": "a pet"}), expected[:1])
    assert tokenizer("a dog", "a pet")["text_pixel_values"].shape == (1, 64, 64)
    other = ClippoTokenizer(canvas_size=64, pair_separator=" # ")
    np.testing.assert_array_equal(canvases(other, "a dog", "a pet"), canvases(tokenizer, ["a dog # a pet"]))


def test_words_and_other_sequences(tokenizer):
    expected = canvases(tokenizer, ["a dog", "snow"])
    np.testing.assert_array_equal(canvases(tokenizer, [["a", "dog"], ["snow"]], is_split_into_words=True), expected)
    np.testing.assert_array_equal(canvases(tokenizer, ["a", "dog"], is_split_into_words=True), expected[:1])
    np.testing.assert_array_equal(canvases(tokenizer, np.array(["a dog", "snow"])), expected)
    column = datasets.Dataset.from_dict({"text": ["a dog", "snow"]})["text"]
    np.testing.assert_array_equal(canvases(tokenizer, column), expected)
    pair = canvases(tokenizer, [["a", "dog"]], [["a", "pet"]], is_split_into_words=True)
    np.testing.assert_array_equal(pair, canvases(tokenizer, ["a dog | a pet"]))


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((), {}, ValueError, "no text to render"),
        ((3,), {}, TypeError, "Text 0 is of type int .*'3'.*; give a string"),
        ((["a", None],), {}, TypeError, "Text 1 is of type NoneType"),
        ((b"a",), {}, TypeError, "of type bytes"),
        (({"text": "a"},), {}, TypeError, "of type dict"),
        (([["a", "b", "c"]],), {}, TypeError, "Text 0 is of type list .* is_split_into_words=True"),
        (([["a", 2]],), {}, TypeError, "Text 0 is of type int"),
        ((["a", "b"], ["c"]), {}, ValueError, "text has 2 and text_pair 1 texts"),
        ((["a"], "c"), {}, ValueError, "two strings, or two lists"),
        (("a",), {"text_target": "b"}, ValueError, "text_target"),
        (("a",), {"return_offsets_mapping": True}, ValueError, r"use render\(texts, boxes=True\)"),
        (("a",), {"canvas_format": "png"}, ValueError, "canvas_format='png' is not known; choose one of 'uint8'"),
        (("a",), {"overflow": "cut"}, ValueError, "overflow='cut' is not known"),
    ],
)
def test_errors_are_one_clear_sentence(tokenizer, args, kwargs, error, message):
    with pytest.raises(error, match=message):
        tokenizer(*args, **kwargs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas_size": 8}, "canvas_size 8 x 8 is too small"),
        ({"canvas_size": "224"}, "canvas_size='224' is not usable"),
        ({"canvas_size": [64, 64, 3]}, "is not usable; give a number of pixels"),
        ({"max_chars": 0}, "max_chars is 0"),
        ({"canvas_format": "jpeg"}, "canvas_format='jpeg'"),
        ({"canvas_format": "packed", "ink": 5}, "packed bits always mean ink 0 on background 127"),
        ({"overflow": "stop"}, "overflow='stop'"),
        ({"font_file": "no such font"}, "no font 'no such font'"),
        ({"font_sha256": ["0" * 64]}, "expected sha256 000000000000.*font_sha256=None"),
    ],
)
def test_wrong_options_fail_when_the_tokenizer_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        ClippoTokenizer(**options)


# ------------------------------------------------------------------------------------------------ what does not fit


def test_overflow_raises_with_the_number_and_the_remedy(tokenizer):
    cut = tokenizer.measure(LONG)[0].chars_cut
    with pytest.raises(ValueError, match=rf"1 of 2 texts .*canvas_size=64 cuts {cut} of the 2000 .*text 1.* Shorten"):
        tokenizer(["short", LONG], overflow="raise")
    strict = ClippoTokenizer(max_chars=5, overflow="raise")
    with pytest.raises(ValueError, match="max_chars=5 cuts 1 of the 6 characters of text 0"):
        strict("abcdef")
    assert strict("abcde")["text_pixel_values"].shape == (1, 224, 224)


def test_overflow_warns_once_and_leaves_no_trace_in_the_tokenizer(warnings_of_tokenizer):
    tokenizer = ClippoTokenizer(canvas_size=64)
    before = Hasher.hash(tokenizer)
    for _ in range(3):
        tokenizer([LONG])
    assert len(warnings_of_tokenizer) == 1 and "1 of 1 texts do not fit" in warnings_of_tokenizer[0]
    assert Hasher.hash(tokenizer) == before
    tokenizer(LONG, overflow="ignore")
    ClippoTokenizer(canvas_size=80)(LONG)
    assert len(warnings_of_tokenizer) == 2, "another canvas is another limit"


def test_ignored_overflow_is_silent_and_measuring_never_warns(warnings_of_tokenizer):
    tokenizer = ClippoTokenizer(canvas_size=64, overflow="ignore")
    tokenizer([LONG])
    assert tokenizer.measure(["", "ab"]) == [TextMeasure(0, 0, 0), TextMeasure(1, 2, 0)]
    (long,) = tokenizer.measure(LONG)
    assert long.rows_used == 4 and long.chars_total == 2000 and 1900 < long.chars_cut < 2000
    assert tokenizer.measure("a", "b")[0].chars_total == len("a | b")
    assert warnings_of_tokenizer == []


def test_render_reports_where_every_character_is(tokenizer):
    rendered = tokenizer.render("dog i", boxes=True)
    assert rendered.canvases.shape == (1, 1, 64, 64)
    (boxes,) = rendered.boxes
    assert len(boxes) == 5
    for (x0, y0, x1, y1), character in zip(boxes, "dog i", strict=True):
        ink = rendered.canvases[0, 0, y0:y1, x0:x1] == 0
        assert ink.any() == (character != " ")
    covered = np.zeros((64, 64), bool)
    for x0, y0, x1, y1 in boxes:
        covered[y0:y1, x0:x1] = True
    assert not (rendered.canvases[0, 0] == 0)[~covered].any()


# ------------------------------------------------------------------------------------------------ data sets, collators


@pytest.mark.parametrize("canvas_format", ["uint8", "float", "packed"])
def test_rows_of_a_data_set_are_collated_to_the_same_batch(canvas_format):
    tokenizer = ClippoTokenizer(canvas_size=64, canvas_format=canvas_format)
    data = datasets.Dataset.from_dict({"text": TEXTS[:4], "label": [0, 1, 0, 1]})
    data = data.map(lambda row: tokenizer(row["text"], padding="max_length", max_length=128), batched=True)
    expected = tokenizer(TEXTS[:4], return_tensors="pt")["text_pixel_values"]
    batch = DataCollatorWithPadding(tokenizer)([{k: v for k, v in row.items() if k != "text"} for row in data])
    assert set(batch) == {"text_pixel_values", "labels"} and batch["labels"].tolist() == [0, 1, 0, 1]
    assert batch["text_pixel_values"].dtype == expected.dtype
    torch.testing.assert_close(batch["text_pixel_values"], expected, rtol=0, atol=0)
    # The collator of run_glue knows no dtypes; the numbers must be right all the same.
    plain = default_data_collator([{k: v for k, v in row.items() if k != "text"} for row in data])
    torch.testing.assert_close(plain["text_pixel_values"].to(expected.dtype), expected, rtol=0, atol=0)


def test_pad_takes_arrays_tensors_and_whole_batches(tokenizer):
    expected = canvases(tokenizer, TEXTS)
    for batch in (
        [tokenizer(text) for text in TEXTS],
        [{"text_pixel_values": torch.from_numpy(canvas)} for canvas in expected],
        tokenizer(TEXTS),
        tokenizer(TEXTS, return_tensors="pt"),
    ):
        got = tokenizer.pad(batch, return_tensors="np")
        np.testing.assert_array_equal(got["text_pixel_values"], expected)
        assert got["text_pixel_values"].dtype == np.uint8
    examples = [{"text_pixel_values": canvas, "score": torch.tensor(float(i))} for i, canvas in enumerate(expected)]
    assert tokenizer.pad(examples, return_tensors="pt")["score"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("canvas_format", ["uint8", "float", "packed"])
@pytest.mark.parametrize("layout", ["concatenate", "two_canvas"])
def test_pad_keeps_one_example_as_it_is(canvas_format, layout):
    """As other tokenizers do: without a batch axis, and of the dtype it was rendered in."""
    tokenizer = ClippoTokenizer(canvas_size=64, canvas_format=canvas_format, pair_layout=layout)
    pair = {} if layout == "concatenate" else {"text_pair": "b"}
    expected = tokenizer("cat", **pair)["text_pixel_values"]
    for one in (expected, expected.tolist(), torch.from_numpy(expected)):
        got = tokenizer.pad({"text_pixel_values": one}, return_tensors="pt")["text_pixel_values"]
        assert got.dtype == torch.from_numpy(expected).dtype
        np.testing.assert_array_equal(got.numpy(), expected)
        batch = tokenizer.pad([{"text_pixel_values": one}], return_tensors="np")["text_pixel_values"]
        assert batch.dtype == expected.dtype and batch.shape == (1, *expected.shape)


def test_arrays_and_tables_are_not_taken_apart(tokenizer):
    np.testing.assert_array_equal(canvases(tokenizer, np.array("abc")), canvases(tokenizer, ["abc"]))
    np.testing.assert_array_equal(canvases(tokenizer, [np.str_("abc")]), canvases(tokenizer, ["abc"]))
    frame = pandas.DataFrame({"first": ["a", "b"], "second": ["c", "d"]})
    with pytest.raises(TypeError, match="Text 0 is of type DataFrame"):
        tokenizer(frame)
    np.testing.assert_array_equal(canvases(tokenizer, frame["first"]), canvases(tokenizer, ["a", "b"]))
    np.testing.assert_array_equal(canvases(tokenizer, frame.to_numpy()), canvases(tokenizer, ["a | c", "b | d"]))


def test_a_limit_of_none_cuts_by_the_canvas_alone():
    with pytest.raises(ValueError, match="canvas_size=64 cuts"):
        ClippoTokenizer(max_chars=None, canvas_size=64, overflow="raise")("x" * 5000)


@pytest.mark.parametrize(
    ("name", "meant"), [("image_size", "canvas_size"), ("canvas_sise", "canvas_size"), ("low_case", "lowercase")]
)
def test_a_misspelt_keyword_is_an_error(name, meant):
    with pytest.raises(TypeError, match=f"no option '{name}'; did you mean {meant}"):
        ClippoTokenizer(**{name: 64})
    with pytest.raises(TypeError, match=r"no option 'wings'; its options are .*canvas_size"):
        ClippoTokenizer(wings=2)
    with pytest.raises(TypeError, match="no option 'canvas_formt'; did you mean canvas_format"):
        ClippoTokenizer(canvas_size=64)("cat", canvas_formt="packed")


def test_keywords_of_every_tokenizer_are_taken(tmp_path):
    tokenizer = ClippoTokenizer(canvas_size=64, padding_side="left", model_max_length=5, cls_token="[CLS]")
    assert tokenizer.padding_side == "left" and tokenizer.model_max_length == 5
    tokenizer("cat", padding=True, truncation=True, max_length=5, add_special_tokens=False, return_attention_mask=True)
    tokenizer.save_pretrained(tmp_path)
    assert ClippoTokenizer.from_pretrained(tmp_path, spacing=2).spacing == 2


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "without examples|found \\[\\]"),
        ([{"input_ids": [1]}], r"needs the key text_pixel_values but found \['input_ids'\]"),
        ([{"text_pixel_values": [0]}], r"shape \(1,\) are not a canvas"),
        ([{"text_pixel_values": np.zeros((1, 2, 2)), "label": 0}, {"text_pixel_values": np.zeros((1, 2, 2))}], "label"),
    ],
)
def test_pad_errors(tokenizer, examples, message):
    with pytest.raises(ValueError, match=message):
        tokenizer.pad(examples)


# ------------------------------------------------------------------------------------------------ the face


def test_what_pipelines_and_trainer_ask_of_a_tokenizer(tokenizer):
    assert tokenizer.pad_token_id == 0 and tokenizer.vocab_size == len(tokenizer) == 1
    assert tokenizer.model_input_names == ["text_pixel_values"]
    assert tokenizer.model_max_length == 768 and not tokenizer.is_fast
    assert tokenizer.convert_ids_to_tokens(0) == "[PAD]"
    assert tokenizer.tokenize("dog") == ["d", "o", "g"]
    assert "ClippoTokenizer" in repr(tokenizer)
    with pytest.raises(ValueError, match="no token ids"):
        tokenizer.encode("dog")
    with pytest.raises(ValueError, match="cannot be decoded"):
        tokenizer.decode([0])


def test_no_option_is_named_like_one_of_an_image_processor():
    # ProcessorMixin hands tokenizer options of the same name to the image processor.
    ours = set(inspect.signature(ClippoTokenizer.__init__).parameters)
    assert not ours & (set(ImagesKwargs.__annotations__) | set(ClippoImageProcessorKwargs.__annotations__))
