"""Tokens of each expert by group, and their mutual information."""

import pytest
import torch

from clippo.evaluation.expert_use import expert_use, normalized_mutual_information

from ...tiny import tiny_model, tiny_processor


def test_counts_are_those_of_a_training_step():
    model = tiny_model(num_experts=3, skip_blank_patches=True)
    texts = tiny_processor(model.config)(text=["a cat", "鳥鳥鳥", "i"], return_tensors="pt")["text_pixel_values"]
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    counts = expert_use(model, {"image": (images, "image"), "text": (texts, "text")})
    tokens = model.train()(pixel_values=images, text_pixel_values=texts).expert_tokens
    assert [counts[1]["image"], counts[1]["text"]] == tokens[0].tolist()


def test_a_dense_model_is_refused():
    with pytest.raises(ValueError, match="num_experts=0"):
        expert_use(tiny_model(), {})


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"image": [10, 0], "text": [0, 3]}, 1.0),
        ({"image": [5, 5], "text": [1, 1]}, 0.0),
        ({"image": [5, 0], "text": [1, 0]}, 0.0),
        ({"image": [4, 4, 0, 0], "text": [0, 0, 2, 2], "none": [0, 0, 0, 0]}, 1.0),
    ],
)
def test_mutual_information(counts, expected):
    assert normalized_mutual_information(counts) == pytest.approx(expected, abs=1e-9)
