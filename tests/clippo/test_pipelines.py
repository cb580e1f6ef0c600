"""The stock pipelines of transformers work on a saved folder and give the results of a direct forward pass."""

import pytest
import torch
from transformers import pipeline

import clippo

LABELS = ["cat", "собака", "鳥", "سمكة", "γάτα 🐈"]
PROMPT = "this is {}."
TEXTS = ["a fine film", "плохо", "とても良い"]
IMAGE_CLASSES = {0: "red", 1: "green", 2: "blue"}
TEXT_CLASSES = {0: "good", 1: "bad", 2: "mixed"}


@pytest.fixture(
    scope="module",
    params=[("uint8", False), ("uint8", True), ("packed", False), ("packed", True)],
    ids=["uint8", "uint8-skip", "packed", "packed-skip"],
)
def variant(request):
    canvas_format, skip_blank_patches = request.param
    return {"canvas_format": canvas_format, "skip_blank_patches": skip_blank_patches}


@pytest.fixture(scope="module")
def folder(save_tiny, variant):
    return save_tiny(**variant)


@pytest.fixture(scope="module")
def image_classifier_folder(save_tiny, variant):
    return save_tiny(clippo.ClippoForImageClassification, id2label=IMAGE_CLASSES, **variant)


@pytest.fixture(scope="module")
def text_classifier_folder(save_tiny, variant):
    return save_tiny(clippo.ClippoForSequenceClassification, id2label=TEXT_CLASSES, **variant)


def forward(model_class, folder, dtype=None, **inputs):
    """Output of a direct forward pass on the inputs from the folder's own processor."""
    model = model_class.from_pretrained(folder, dtype=dtype or "auto").eval()
    encoded = clippo.ClippoProcessor.from_pretrained(folder)(**inputs, return_tensors="pt")
    with torch.no_grad():
        return model(**encoded)


def as_dict(answer: list[dict]) -> dict[str, float]:
    scores = [entry["score"] for entry in answer]
    assert scores == sorted(scores, reverse=True)
    return {entry["label"]: entry["score"] for entry in answer}


def expected_scores(logits: torch.Tensor, names) -> list[dict[str, float]]:
    probabilities = logits.float().softmax(-1)
    assert probabilities.std(-1).min() > 1e-3  # equal scores would not show anything
    return [dict(zip(names, row, strict=True)) for row in probabilities.tolist()]


def test_the_folder_is_of_the_variant(folder, variant):
    tokenizer, config = clippo.ClippoTokenizer.from_pretrained(folder), clippo.ClippoConfig.from_pretrained(folder)
    values = tokenizer(TEXTS, return_tensors="pt")["text_pixel_values"]
    assert values.dtype is {"uint8": torch.uint8, "packed": torch.int64}[variant["canvas_format"]]
    assert config.skip_blank_patches is variant["skip_blank_patches"]


def test_zero_shot_image_classification(folder, photos):
    ask = pipeline("zero-shot-image-classification", model=folder)
    assert type(ask.model) is clippo.ClippoModel
    prompts = [PROMPT.format(label) for label in LABELS]
    output = forward(clippo.ClippoModel, folder, images=photos, text=prompts)
    expected = expected_scores(output.logits_per_image, LABELS)

    single = ask(photos[0], candidate_labels=LABELS, hypothesis_template=PROMPT)
    assert as_dict(single) == pytest.approx(expected[0], abs=1e-5)
    for options in ({}, {"batch_size": 2}):
        answers = ask(photos, candidate_labels=LABELS, hypothesis_template=PROMPT, **options)
        assert len(answers) == 3
        for answer, scores in zip(answers, expected, strict=True):
            assert as_dict(answer) == pytest.approx(scores, abs=1e-5)


def test_zero_shot_in_half_precision(folder, photos):
    ask = pipeline("zero-shot-image-classification", model=folder, dtype=torch.bfloat16)
    assert ask.model.dtype is torch.bfloat16
    prompts = [PROMPT.format(label) for label in LABELS]
    half = forward(clippo.ClippoModel, folder, torch.bfloat16, images=photos[0], text=prompts).logits_per_image
    full = forward(clippo.ClippoModel, folder, images=photos[0], text=prompts).logits_per_image
    got = as_dict(ask(photos[0], candidate_labels=LABELS, hypothesis_template=PROMPT))
    assert got == pytest.approx(expected_scores(half, LABELS)[0], abs=2e-3)
    assert (half - full).abs().max() < 0.2  # of about 10 times the cosine: the precision of bfloat16


def test_image_classification(image_classifier_folder, photos):
    classify = pipeline("image-classification", model=image_classifier_folder)
    output = forward(clippo.ClippoForImageClassification, image_classifier_folder, images=photos)
    expected = expected_scores(output.logits, IMAGE_CLASSES.values())
    assert as_dict(classify(photos[0])) == pytest.approx(expected[0], abs=1e-5)
    for answer, scores in zip(classify(photos, batch_size=2), expected, strict=True):
        assert as_dict(answer) == pytest.approx(scores, abs=1e-5)
    (best,) = classify(photos[1], top_k=1)
    assert best["label"] == max(expected[1], key=expected[1].get)


def test_image_feature_extraction(folder, photos):
    output = forward(clippo.ClippoModel, folder, images=photos)
    tokens = pipeline("image-feature-extraction", model=folder)(photos, return_tensors=True)
    for got, expected in zip(tokens, output.last_hidden_state, strict=True):
        torch.testing.assert_close(got[0], expected)
    pooled = pipeline("image-feature-extraction", model=folder, pool=True)(photos)
    for got, expected in zip(pooled, output.pooler_output.tolist(), strict=True):
        assert got[0] == pytest.approx(expected, abs=1e-5)


def test_feature_extraction_of_text(folder, variant):
    extract = pipeline("feature-extraction", model=folder)
    output = forward(clippo.ClippoModel, folder, text=TEXTS)
    for options in ({}, {"batch_size": 2}):
        for got, expected in zip(extract(TEXTS, return_tensors=True, **options), output.last_hidden_state, strict=True):
            assert got.shape == (1, 16, 32)
            torch.testing.assert_close(got[0], expected)
    # The last text row of the canvas is blank for these short texts.
    assert (output.last_hidden_state[:, 12:] == 0).all() == variant["skip_blank_patches"]


def test_text_classification(text_classifier_folder):
    classify = pipeline("text-classification", model=text_classifier_folder)
    output = forward(clippo.ClippoForSequenceClassification, text_classifier_folder, text=TEXTS)
    expected = expected_scores(output.logits, TEXT_CLASSES.values())
    best = [max(scores, key=scores.get) for scores in expected]

    assert [answer["label"] for answer in classify(TEXTS)] == best
    (single,) = classify(TEXTS[0])
    assert single == {"label": best[0], "score": pytest.approx(expected[0][best[0]], abs=1e-5)}
    for options in ({}, {"batch_size": 2}):
        for answer, scores in zip(classify(TEXTS, top_k=None, **options), expected, strict=True):
            assert as_dict(answer) == pytest.approx(scores, abs=1e-5)
    assert len(classify(TEXTS[0], top_k=2)) == 2


def test_classification_of_text_pairs(text_classifier_folder):
    classify = pipeline("text-classification", model=text_classifier_folder, top_k=None)
    pairs = [{"text": "a film", "text_pair": "good"}, {"text": "фильм", "text_pair": "плохо"}]
    drawn = [f"{pair['text']} | {pair['text_pair']}" for pair in pairs]
    output = forward(clippo.ClippoForSequenceClassification, text_classifier_folder, text=drawn)
    expected = expected_scores(output.logits, TEXT_CLASSES.values())
    assert as_dict(classify(pairs[0])) == pytest.approx(expected[0], abs=1e-5)
    for options in ({}, {"batch_size": 2}):
        for answer, scores in zip(classify(pairs, **options), expected, strict=True):
            assert as_dict(answer) == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("zero-shot-image-classification", "ClippoModel"),
        ("image-feature-extraction", "ClippoVisionModel"),
        ("image-classification", "ClippoForImageClassification"),
        ("text-classification", "ClippoForSequenceClassification"),
    ],
)
def test_weights_that_are_not_finite_are_an_error(save_tiny, task, name, value):
    folder = save_tiny(getattr(clippo, name))
    model = getattr(clippo, name).from_pretrained(folder)
    with torch.no_grad():
        model.base_model.encoder.layers[1].mlp.fc2.weight[3, 5] = value
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"1 weights of .* are not finite, .*layers\.1\.mlp\.fc2\.weight among them"):
        pipeline(task, model=folder)
