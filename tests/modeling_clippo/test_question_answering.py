"""Visual question answering: the two losses against their formulas, and the formats of labels."""

import pytest
import torch
from torch.nn import functional as F

import clippo

from ..tiny import tiny_config, tiny_model


def make(problem_type=None, labels=4):
    fields = dict(num_labels=labels, problem_type=problem_type, initializer_range=1.0)
    return tiny_model(clippo.ClippoForVisualQuestionAnswering, noise=0, image_size=32, **fields)


PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
SOFT = torch.tensor([[1.0, 0.3, 0, 0], [0, 0, 0.6, 0], [0, 0, 0, 0]])


def test_binary_loss_is_the_sum_over_answers_and_the_mean_over_questions():
    model = make("multi_label_classification")
    output = model(PIXELS, labels=SOFT)
    p = output.logits.double().sigmoid()  # in float32 the logarithm of 1 - p loses digits
    expected = -(SOFT * p.log() + (1 - SOFT) * (1 - p).log()).sum() / 3
    torch.testing.assert_close(output.loss.double(), expected, rtol=1e-6, atol=0)
    output.loss.backward()
    torch.testing.assert_close(model.classifier.bias.grad, ((p - SOFT).sum(0) / 3).detach().float())


def test_softmax_loss_weighs_answers_by_their_scores():
    output = make("single_label_classification")(PIXELS, labels=SOFT)
    torch.testing.assert_close(output.loss, -(SOFT * output.logits.log_softmax(-1)).sum() / 3)


def test_classes_mean_the_same_as_their_scores():
    classes, scores = torch.tensor([2, -100, 0]), torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    for problem_type in ("multi_label_classification", "single_label_classification"):
        model = make(problem_type)
        torch.testing.assert_close(model(PIXELS, labels=classes).loss, model(PIXELS, labels=scores).loss)
    undecided = make()
    logits = undecided(PIXELS).logits
    torch.testing.assert_close(
        undecided(PIXELS, labels=torch.tensor([1, 0, 3])).loss, F.cross_entropy(logits, torch.tensor([1, 0, 3]))
    )
    torch.testing.assert_close(
        undecided(PIXELS, labels=SOFT).loss, F.binary_cross_entropy_with_logits(logits, SOFT) * 4
    )
    # No label is in the vocabulary: the loss is 0, not a division by zero.
    assert make("single_label_classification")(PIXELS, labels=torch.full((3,), -100)).loss == 0


def test_two_labels_classify_statements():
    config = tiny_config(image_size=32, id2label={0: "false", 1: "true"})
    model = clippo.ClippoForVisualQuestionAnswering(config)
    assert model(PIXELS, labels=torch.tensor([0, 1, 1])).logits.shape == (3, 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, 5), r"Labels of shape \(3, 5\) .* do not fit 4 answers"),
        (torch.zeros(3, 4, dtype=torch.int64), r"Labels of shape \(3, 4\) and type torch.int64"),
        (torch.tensor([0, 1]), r"Labels of shape \(2,\) .* a batch of 3"),
        (torch.tensor([0, 4, 1]), "Label 4 is not one of the model's 4 labels"),
        (torch.tensor([0, -1, 1], dtype=torch.int32), "Label -1 is not one"),
        (torch.tensor([[0.0, 1, 0, float("nan")]] * 3), "The label of row 0 is"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        make()(PIXELS, labels=labels)


def test_the_answers_travel_in_the_config(tmp_path):
    config = tiny_config(image_size=32, id2label={0: "a red car", 1: "2"})
    clippo.ClippoForVisualQuestionAnswering(config).save_pretrained(tmp_path)
    loaded = clippo.ClippoForVisualQuestionAnswering.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "a red car", 1: "2"} and loaded.num_labels == 2
    assert list(loaded.config.custom_pipelines) == ["visual-question-answering"]
    assert not hasattr(config, "custom_pipelines")  # the folder's, not that of the caller's config
    clippo.ClippoForImageClassification.from_pretrained(tmp_path).save_pretrained(tmp_path / "other")
    assert not hasattr(clippo.ClippoConfig.from_pretrained(tmp_path / "other"), "custom_pipelines")
    assert (tmp_path / "pipeline_clippo.py").is_file()
