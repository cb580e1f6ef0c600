"""How right an answer to a question about a picture is: the VQA challenge's accuracy, exact match, DAQUAR's accuracy.

VQA: Antol et al., ICCV 2015 (arXiv 1505.00468), section 4; rules of visualqa.org/evaluation.html and of the official
evaluation code (GT-Vision-Lab/VQA, `vqaEval.py`). DAQUAR: Malinowski and
Fritz, NeurIPS 2014 (arXiv 1410.0210).
"""

from collections.abc import Sequence

import datasets
import evaluate

from clippo.tasks.vqa.answers import normalize_answer


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """min(people who gave this answer / 3, 1), averaged over leaving out each of the people.

    Args:
        prediction: The model's answer.
        answers: What people answered, 10 of them in VQA. Where they disagree all texts are normalised first; where they
            all wrote the same, only that very text counts.

    Raises:
        ValueError: Fewer than 4 answers, of which not even the right one could score 1.
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
    # Leaving out one who agrees leaves one fewer; the others leave all of them.
    scores = agreeing * min(1, (agreeing - 1) / 3) + (len(answers) - agreeing) * min(1, agreeing / 3)
    return scores / len(answers)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction is one of the answers, letter for letter but for the space around it; else 0."""
    return float(prediction.strip() in {answer.strip() for answer in answers})


def set_accuracy(prediction: str, answers: Sequence[str], separator: str = ",") -> float:
    """DAQUAR's accuracy: 1 if the prediction names the same things as one of the answers, in any order; else 0."""
    wanted = [frozenset(map(str.strip, answer.split(separator))) for answer in answers]
    return float(frozenset(map(str.strip, prediction.split(separator))) in wanted)


SCORES = {"vqa_accuracy": vqa_accuracy, "exact_match": exact_match, "set_accuracy": set_accuracy}


class VqaAccuracy(evaluate.Metric):
    """The three above, as a metric of Hugging Face evaluate.

    `compute(predictions=[...], references=[[...], ...])` takes one string and a list of answers for each question and
    returns the mean of each score over the questions; `vqa_accuracy` only if all of them have 4 answers or more.

    Raises:
        ValueError: No question at all.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy of answers to questions about pictures: VQA challenge, exact match, DAQUAR.",
            citation="Antol et al., VQA: Visual Question Answering, ICCV 2015",
            inputs_description="predictions: list of str; references: list of lists of str.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
            reference_urls=["https://visualqa.org/evaluation.html"],
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        if not predictions:
            raise ValueError("There are no answers to score; give at least one prediction and its answers.")
        names = list(SCORES)
        if min(map(len, references)) < 4:
            names.remove("vqa_accuracy")
        pairs = list(zip(predictions, references, strict=True))
        return {name: sum(SCORES[name](*pair) for pair in pairs) / len(pairs) for name in names}
