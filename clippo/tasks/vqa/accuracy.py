"""Accuracy of answers to questions about images: VQA challenge, exact match, DAQUAR.

VQA: Antol et al., ICCV 2015 (arXiv 1505.00468), section 4, with the rules of visualqa.org/evaluation.html and of the
official evaluation code (GT-Vision-Lab/VQA, `vqaEval.py`). DAQUAR: Malinowski and Fritz, NeurIPS 2014 (arXiv
1410.0210).
"""

from collections.abc import Sequence

import datasets

from clippo.evaluation.metrics import LocalMetric
from clippo.tasks.vqa.answers import normalize_answer


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Computes min(people who gave this answer / 3, 1), averaged over leaving out each of the people.

    Args:
        prediction: Answer of the model.
        answers: Answers of people, 10 in VQA. All texts are normalised if the people disagree. If all of them wrote the
            same text, only that text counts.

    Raises:
        ValueError: There are fewer than 4 answers, so that even the right one could not score 1.
    """
    if len(answers) < 4:
        raise ValueError(
            f"VQA accuracy leaves one person out and asks 3 others, but there are {len(answers)} answers "
            f"({list(answers)}); use exact_match for questions with one answer."
        )
    prediction, *answers = (text.replace("\n", " ").replace("\t", " ").strip() for text in (prediction, *answers))
    if len(set(answers)) > 1:
        prediction, *answers = map(normalize_answer, (prediction, *answers))
    agreeing = answers.count(prediction)
    # Leaving out a person who agrees leaves one fewer; leaving out another person leaves all of them.
    scores = agreeing * min(1, (agreeing - 1) / 3) + (len(answers) - agreeing) * min(1, agreeing / 3)
    return scores / len(answers)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Returns 1 if the prediction equals one of the answers, apart from surrounding space; else 0."""
    return float(prediction.strip() in {answer.strip() for answer in answers})


def set_accuracy(prediction: str, answers: Sequence[str], separator: str = ",") -> float:
    """Returns DAQUAR's accuracy: 1 if the prediction lists the same things as an answer, in any order; else 0."""
    wanted = [frozenset(map(str.strip, answer.split(separator))) for answer in answers]
    return float(frozenset(map(str.strip, prediction.split(separator))) in wanted)


SCORES = {"vqa_accuracy": vqa_accuracy, "exact_match": exact_match, "set_accuracy": set_accuracy}


class VqaAccuracy(LocalMetric):
    """Mean of VQA accuracy, exact match and DAQUAR's accuracy over questions.

    `compute(predictions=[...], references=[[...], ...])` takes one string and a list of answers for each question. The
    result has `vqa_accuracy` only if every question has at least 4 answers.

    Raises:
        ValueError: There are no questions.

    Example:
        >>> VqaAccuracy().compute(predictions=["b, a", "red"], references=[["a, b"], ["red"]])
        {'exact_match': 0.5, 'set_accuracy': 1.0}
    """

    citation = "Antol et al., VQA: Visual Question Answering, ICCV 2015"
    inputs = {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        if not predictions:
            raise ValueError("There are no answers to score; give at least one prediction and its answers.")
        names = list(SCORES)
        if min(map(len, references)) < 4:
            names.remove("vqa_accuracy")
        pairs = list(zip(predictions, references, strict=True))
        return {name: sum(SCORES[name](*pair) for pair in pairs) / len(pairs) for name in names}
