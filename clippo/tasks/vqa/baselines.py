"""Baselines without a tower for the question: a bag of words, alone and with the grid of the image.

The difference of the two is what the images of a data set are worth to a model that needs no reading. Where there
is none, a model that ignores its images has lost nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from clippo.tasks.vqa.accuracy import VqaAccuracy
from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.data import VisualQuestions

WIDTH, COMPONENTS = 256, 64  # of the product of question and image; principal components of an image


def terms(question: str) -> list[str]:
    """Different words of a question, its pairs of neighbouring words, and its first word, in alphabetical order."""
    words = re.findall(r"\w+", question.lower())
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return sorted({*words, *pairs, *(f"^{word}" for word in words[:1])})


class BagOfWords(nn.Module):
    """A linear layer on the terms of a question, plus a product of question and image.

    Args:
        num_terms: Number of terms.
        num_answers: Number of answers.
        with_images: Whether images are read.
    """

    def __init__(self, num_terms: int, num_answers: int, with_images: bool):
        super().__init__()
        self.linear = nn.EmbeddingBag(num_terms, num_answers, mode="sum")
        nn.init.zeros_(self.linear.weight)
        self.question = nn.EmbeddingBag(num_terms, WIDTH, mode="sum") if with_images else None
        if self.question is not None:
            nn.init.normal_(self.question.weight, std=0.02)  # torch's 1 saturates the tanh
        self.image = nn.Linear(COMPONENTS, WIDTH)
        self.product = nn.Linear(WIDTH, num_answers)
        self.dropout = nn.Dropout(0.3)

    def forward(self, numbers: torch.Tensor, offsets: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Numbers of terms, one question after the other, and images (B, 64) -> logits (B, A)."""
        logits = self.linear(numbers, offsets)
        if self.question is None:
            return logits
        joint = self.question(numbers, offsets).tanh() * self.image(self.dropout(images)).tanh()
        return logits + self.product(self.dropout(joint))


def baseline_scores(
    train: VisualQuestions, validation: VisualQuestions, vocabulary: AnswerVocabulary, epochs: int = 12, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Trains the baselines and scores them.

    Args:
        train: Questions to learn from. With `grids`, the image counts too.
        validation: Questions to score.
        vocabulary: Answers to choose from.
        epochs: Passes over the questions.
        seed: Seed of initial weights and order.

    Returns:
        Scores of `VqaAccuracy` by name: "question", and with grids "question and image" and "wrong images", the same
        model with the images exchanged.

    Example:
        >>> questions = VisualQuestions([None], [(0, "is it red?", ["yes"]), (0, "what is it?", ["cat"])] * 8)
        >>> baseline_scores(questions, questions, AnswerVocabulary(["yes", "cat"]))["question"]["exact_match"]
        1.0
    """
    with torch.random.fork_rng(devices=[]):
        counts = Counter(term for _, question, _ in train.rows for term in terms(question))
        index = {term: i for i, term in enumerate(term for term, n in counts.items() if n > 1)}
        labels = torch.stack([vocabulary.scores(answers) for answers in train.answers])  # (rows, A)
        images = _components(train, validation)
        result = {}
        for name in ("question", "question and image")[: 1 if train.grids is None else 2]:
            torch.manual_seed(seed)
            model = BagOfWords(len(index), labels.shape[1], with_images=name != "question")
            _fit(model, train, labels, images[0], index, epochs)
            result[name] = _score(model, validation, images[1], index, vocabulary)
            if name != "question":
                exchanged = images[1][torch.randperm(len(images[1]))]
                result["wrong images"] = _score(model, validation, exchanged, index, vocabulary)
    return result


def _components(train: VisualQuestions, validation: VisualQuestions) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal components (images, 64) of the averaged grids, scaled to variance 1 on the training images."""
    if train.grids is None:
        return torch.zeros(len(train.images), COMPONENTS), torch.zeros(len(validation.images), COMPONENTS)
    pooled = [torch.stack([d.grids[i].float().mean((0, 1)) for i in range(len(d.grids))]) for d in (train, validation)]
    mean, std = pooled[0].mean(0), pooled[0].std(0) + 1e-3
    pooled = [(values - mean) / std for values in pooled]
    torch.manual_seed(0)  # of the randomised decomposition
    number = min(COMPONENTS, *pooled[0].shape)
    _, size, basis = torch.pca_lowrank(pooled[0], number)
    scale = len(pooled[0]) ** 0.5 / size.clamp(min=1e-3)
    return tuple(F.pad(values @ basis * scale, (0, COMPONENTS - number)) for values in pooled)


def _inputs(rows: Sequence, images: torch.Tensor, index: dict[str, int]) -> tuple[torch.Tensor, ...]:
    numbers = [[index[term] for term in terms(question) if term in index] for _, question, _ in rows]
    lengths = torch.tensor([0, *map(len, numbers)])
    flat = torch.tensor([number for several in numbers for number in several], dtype=torch.long)
    return flat, lengths.cumsum(0)[:-1], images[[image for image, _, _ in rows]]


def _fit(model, train: VisualQuestions, labels, images, index: dict[str, int], epochs: int) -> None:
    known = labels.any(1).nonzero().squeeze(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(epochs):
        for chosen in known[torch.randperm(len(known))].split(128):
            logits = model(*_inputs([train.rows[i] for i in chosen.tolist()], images, index))
            loss = F.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def _score(
    model, data: VisualQuestions, images, index: dict[str, int], vocabulary: AnswerVocabulary
) -> dict[str, float]:
    model.eval()
    chosen = model(*_inputs(data.rows, images, index)).argmax(1).tolist()
    return VqaAccuracy().compute(predictions=[vocabulary.answers[i] for i in chosen], references=data.answers)
