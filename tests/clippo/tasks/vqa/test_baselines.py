"""The bag of words: what the question alone tells, and what the images add."""

import pytest
import torch

from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.baselines import baseline_scores, terms
from clippo.tasks.vqa.data import VisualQuestions
from clippo.tasks.vqa.grids import ImageGrids

ANSWERS = AnswerVocabulary(["red", "blue", "square", "circle"])


def data(seed):
    """Images have a colour and a shape; the question says which is asked for."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 2, (120, 2), generator=generator)
    rows = [(i, "what colour is it?", [ANSWERS.answers[colour]]) for i, (colour, _) in enumerate(kinds.tolist())]
    rows += [(i, "what shape?", [ANSWERS.answers[2 + shape]]) for i, (_, shape) in enumerate(kinds.tolist())]
    questions = VisualQuestions([None] * 120, rows)
    values = torch.randn(120, 2, 2, 8, generator=generator) * 0.1
    values[..., :2] += kinds[:, None, None].float()
    return questions, ImageGrids(values, torch.zeros(2, 2, 8))


def test_images_are_worth_what_they_tell():
    (train, train_grids), (validation, grids) = data(0), data(1)
    alone = baseline_scores(train, validation, ANSWERS)
    assert set(alone) == {"question"} and 0.4 < alone["question"]["exact_match"] < 0.65
    train.grids, validation.grids = train_grids, grids
    scores = baseline_scores(train, validation, ANSWERS, epochs=60)
    assert scores["question and image"]["exact_match"] > 0.95
    assert scores["wrong images"]["exact_match"] < 0.7 and scores["question"]["exact_match"] < 0.65


def test_a_seed_gives_the_same_scores_and_leaves_the_generator_alone():
    train, validation = data(0)[0], data(1)[0]
    train.grids, validation.grids = data(0)[1], data(1)[1]
    state = torch.get_rng_state()
    first = baseline_scores(train, validation, ANSWERS, epochs=1)
    assert first == baseline_scores(train, validation, ANSWERS, epochs=1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("question", ["", "?!", "unseen words only"])
def test_questions_without_a_known_term(question):
    train = VisualQuestions([None], [(0, "what?", ["red"])] * 4)
    scores = baseline_scores(train, VisualQuestions([None], [(0, question, ["red"])]), ANSWERS)
    assert scores["question"]["exact_match"] in (0.0, 1.0)


def test_terms():
    assert terms("What is it?") == ["^what", "is", "is it", "it", "what", "what is"]
