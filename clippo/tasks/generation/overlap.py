"""CIDEr-D and BLEU-4 in plain Python, and the words of any language.

CIDEr-D: Vedantam et al., CVPR 2015 (arXiv 1411.5726), with the constants of the COCO caption evaluation (n-grams up to
4, sigma 6, factor 10). BLEU-4: Papineni et al., ACL 2002. COCO's words come from a Java program; here they are
separated by spaces and punctuation, in lower case, so scores differ slightly from those in papers.
"""

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Languages that write no spaces between words: characters count as words.
UNSPACED = ("zh", "zho", "cmn", "yue", "ja", "jpn", "th", "tha", "lo", "lao", "km", "khm", "my", "mya")


def words(text: str, language: str = "") -> list[str]:
    """Words of a text in lower case without punctuation; single characters in Chinese, Japanese, Thai and others.

    Example:
        >>> words("A dog's ball."), words("猫が好き。", "ja")
        (['a', 'dog', 's', 'ball'], ['猫', 'が', '好', 'き'])
    """
    kept = "".join(" " if unicodedata.category(character)[0] in "PSZC" else character for character in text.lower())
    if language.lower().replace("_", "-").split("-")[0] in UNSPACED:
        return [character for character in kept if character != " "]
    return kept.split()


def _grams(tokens: Sequence[str], n: int) -> Counter:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def cider_d(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Compute CIDEr-D of each prediction; the mean over a set is what papers call CIDEr, times 100.

    Args:
        predictions: Words of each prediction.
        references: Words of the references of each prediction. Document frequencies are counted over them.

    Example:
        >>> a, b = "a b c d e".split(), "f g h i j".split()
        >>> [round(score, 6) for score in cider_d([a, a], [[a], [b]])]
        [10.0, 0.0]
    """
    frequencies = [Counter() for _ in range(4)]
    for several in references:
        for n, frequency in enumerate(frequencies, 1):
            frequency.update(set().union(*(_grams(tokens, n) for tokens in several)))
    documents = math.log(max(len(references), 1))

    def vector(tokens: Sequence[str], n: int) -> tuple[dict, float]:
        frequency = frequencies[n - 1]
        weights = {
            gram: count * (documents - math.log(max(1, frequency[gram]))) for gram, count in _grams(tokens, n).items()
        }
        return weights, math.sqrt(sum(weight**2 for weight in weights.values()))

    scores = []
    for prediction, several in zip(predictions, references, strict=True):
        own = [vector(prediction, n) for n in range(1, 5)]
        total = 0.0
        for tokens in several:
            penalty = math.exp(-((len(prediction) - len(tokens)) ** 2) / (2 * 6.0**2))
            for n, (weights, norm) in enumerate(own, 1):
                theirs, their_norm = vector(tokens, n)
                common = ((weights[gram], theirs[gram]) for gram in weights.keys() & theirs.keys())
                shared = sum(min(own_weight, weight) * weight for own_weight, weight in common)
                if norm and their_norm:
                    total += penalty * shared / (norm * their_norm)
        scores.append(10 * total / 4 / len(several))
    return scores


def bleu_4(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Compute BLEU-4 of a set, 0 to 1, without smoothing.

    Args:
        predictions: Words of each prediction.
        references: Words of the references of each prediction. The nearest length counts, the shorter one at a tie.

    Example:
        >>> text = "a b c d e".split()
        >>> bleu_4([text], [[text]])
        1.0
    """
    matched, possible, length, wanted = [0] * 4, [0] * 4, 0, 0
    for prediction, several in zip(predictions, references, strict=True):
        length += len(prediction)
        wanted += min((abs(len(tokens) - len(prediction)), len(tokens)) for tokens in several)[1]
        for n in range(1, 5):
            grams, most = _grams(prediction, n), Counter()
            for tokens in several:
                most |= _grams(tokens, n)
            matched[n - 1] += sum(min(count, most[gram]) for gram, count in grams.items())
            possible[n - 1] += max(0, len(prediction) - n + 1)
    if not all(matched):
        return 0.0
    precision = sum(math.log(m / p) for m, p in zip(matched, possible, strict=True)) / 4
    return math.exp(min(0.0, 1 - wanted / length) + precision)
