"""Zero-shot probabilities equal those of the model's logits and of the stock pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from clippo.evaluation.classification import zero_shot
from clippo.evaluation.encoder import Encoder

LABELS = ["dog", "кошка", "鳥"]


@pytest.fixture
def images():
    pixels = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def test_is_the_softmax_of_the_logits(tiny, images):
    model, processor = tiny
    texts = [f"a sign of {label}" for label in LABELS]
    with torch.no_grad():
        logits = model.eval()(**processor(images=images, text=texts, return_tensors="pt")).logits_per_image
    probabilities = zero_shot(Encoder(model, processor, batch_size=2), images, LABELS, "a sign of {}")
    assert probabilities.shape == (4, 3) and probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, logits.softmax(1), atol=1e-5, rtol=0)


def test_agrees_with_the_pipeline(tiny, images):
    model, processor = tiny
    classify = pipeline(
        "zero-shot-image-classification",
        model=model,
        tokenizer=processor.tokenizer,
        image_processor=processor.image_processor,
    )
    ours = zero_shot(Encoder(model, processor), images, LABELS)
    for image, row in zip(images, ours, strict=True):
        theirs = {x["label"]: x["score"] for x in classify(image, candidate_labels=LABELS, hypothesis_template="{}")}
        assert [theirs[label] for label in LABELS] == pytest.approx(row.tolist(), abs=1e-5)


def test_braces_of_a_label_are_text(tiny, images):
    """A label is any string; str.format would raise for these."""
    probabilities = zero_shot(Encoder(*tiny), images, ["{", "{0}", "}"], "[{}]")
    assert probabilities.sum(1).tolist() == pytest.approx([1] * 4)


def test_errors_name_the_remedy(tiny, images):
    with pytest.raises(ValueError, match="has no place for the label"):
        zero_shot(Encoder(*tiny), images, LABELS, "a photo")
    with pytest.raises(TypeError, match="labels is one string, 'dog'"):
        zero_shot(Encoder(*tiny), images, "dog")
    with pytest.raises(ValueError, match="given twice: dog"):
        zero_shot(Encoder(*tiny), images, ["dog", "cat", "dog"])
    with pytest.raises(ValueError, match="no texts to embed"):
        zero_shot(Encoder(*tiny), images, [])
