"""The VQA challenge's form of an answer.

Rules of visualqa.org/evaluation.html and of the official evaluation code (GT-Vision-Lab/VQA, `vqaEval.py`), followed to
the letter where they look odd.
"""

import re
from collections.abc import Iterable

ARTICLES = {"a", "an", "the"}
DIGITS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"zero": "0"} | {word: str(number) for number, word in enumerate(DIGITS)}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBER_WITH_COMMA = re.compile(r"\d,\d")
PERIOD_OUTSIDE_NUMBER = re.compile(r"\.(?!\d)")
# Words that annotators write with one apostrophe missing. Left out are those that the official table does not know or
# that would become another word (hell, ill, were, wed, shed).
CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()  # noqa: SIM905 - a list of strings would hide the apostrophes among quotes
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in CONTRACTED for place, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}  # the other way round in the official table


def is_right(answer: str, people: Iterable[str]) -> bool:
    """Whether somebody gave that answer, word for word or in the official form, which a model may have learned."""
    people = set(people)
    return answer in people or answer in set(map(normalize_answer, people))


def normalize_answer(answer: str) -> str:
    """The official form of an answer: no punctuation, digits for numbers up to ten, no articles, apostrophes restored.

    A punctuation mark beside a space vanishes, and so do all marks where a comma stands between digits; elsewhere they
    become spaces. A period stays before a digit only.
    """
    text = answer
    vanish = NUMBER_WITH_COMMA.search(answer) is not None
    for mark in PUNCTUATION:
        text = text.replace(mark, "" if vanish or f"{mark} " in answer or f" {mark}" in answer else " ")
    text = PERIOD_OUTSIDE_NUMBER.sub("", text)
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
