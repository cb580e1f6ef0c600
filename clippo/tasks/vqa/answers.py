"""Answers of the VQA challenge: their official form, and the vocabulary that a model chooses from.

The form follows visualqa.org/evaluation.html and the official evaluation code (GT-Vision-Lab/VQA, `vqaEval.py`)
exactly, including its unusual cases.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

ARTICLES = {"a", "an", "the"}
DIGITS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"zero": "0"} | {word: str(number) for number, word in enumerate(DIGITS)}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBER_WITH_COMMA = re.compile(r"\d,\d")
PERIOD_OUTSIDE_NUMBER = re.compile(r"\.(?!\d)")
# Words that annotators write with one apostrophe missing. The official table has no entry for words whose short form is
# another word (hell, ill, were, wed, shed).
CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # noqa: SIM905 - quotes would hide the apostrophes
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in CONTRACTED for place, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}  # The official table has this entry the other way round.


def is_right(answer: str, people: Iterable[str]) -> bool:
    """Returns True if a person gave that answer, word for word or in the official form.

    Args:
        answer: Answer of a model, which may have learned either form.
        people: Answers of people.
    """
    people = set(people)
    return answer in people or answer in set(map(normalize_answer, people))


def normalize_answer(answer: str) -> str:
    """Converts an answer to the official form.

    Punctuation and articles are removed, numbers up to ten become digits, and missing apostrophes are restored. A mark
    beside a space is deleted, and so are all marks if a comma stands between digits. Other marks become spaces. A
    period is kept before a digit only.

    Args:
        answer: Any text.
    """
    text = answer
    delete = NUMBER_WITH_COMMA.search(answer) is not None
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if delete or f"{mark} " in answer or f" {mark}" in answer else " ")
    text = PERIOD_OUTSIDE_NUMBER.sub("", text)
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


class AnswerVocabulary:
    """Answers that a model chooses from, one class each.

    Args:
        answers: Texts of the classes.
        normalize: Whether answers are compared in the official form.

    Raises:
        ValueError: `answers` is empty or has duplicates.

    Example:
        >>> vocabulary = AnswerVocabulary.from_data([["two"], ["2"], ["red"]], normalize=True)
        >>> vocabulary.answers
        ['2', 'red']
        >>> vocabulary.scores(["red"])
        tensor([0., 1.])
    """

    def __init__(self, answers: Sequence[str], normalize: bool = False):
        self.answers, self.normalize = list(answers), normalize
        self._index = {answer: i for i, answer in enumerate(self.answers)}
        if len(self._index) != len(self.answers) or not self.answers:
            raise ValueError(f"An answer vocabulary needs different answers, at least one; got {self.answers[:10]}.")

    @classmethod
    def from_data(
        cls, answers: Iterable[Sequence[str]], size: int | None = None, min_count: int = 1, normalize: bool = False
    ) -> "AnswerVocabulary":
        """Builds the vocabulary from the most frequent answers. Ties are sorted alphabetically.

        Args:
            answers: Answers of people to each question. An answer counts once a question.
            size: Largest number of classes (3129 is usual for VQAv2). Default: all answers.
            min_count: Number of questions that an answer has to be right for.
            normalize: Whether answers are compared in the official form. Answers that become empty are dropped.
        """
        forms = ({normalize_answer(a) if normalize else a for a in several} - {""} for several in answers)
        counts = Counter(answer for form in forms for answer in form)
        kept = sorted((a for a, n in counts.items() if n >= min_count), key=lambda a: (-counts[a], a))
        return cls(kept[:size], normalize)

    @property
    def id2label(self) -> dict[int, str]:
        """Class number -> answer, for `ClippoConfig`."""
        return dict(enumerate(self.answers))

    def scores(self, answers: Sequence[str]) -> torch.Tensor:
        """Computes the soft label of one question: min(people / 3, 1) for each class, as in the VQA challenge.

        With fewer than three people, the score is their share, which the challenge does not define.

        Args:
            answers: Answers of people to the question.

        Returns:
            float32 (A,). All zeros if the vocabulary has none of the answers.
        """
        scores = torch.zeros(len(self.answers))  # (A,)
        for answer, people in Counter(normalize_answer(a) if self.normalize else a for a in answers).items():
            if answer in self._index:
                scores[self._index[answer]] = min(people / min(3, len(answers)), 1.0)
        return scores
