"""What a GLUE score has to beat: the majority class, and a linear model on bags of words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def majority(train: Mapping[str, Sequence], evaluation: Mapping[str, Sequence]) -> list:
    """The training set's commonest label for every row to be judged; the mean, where labels are floats."""
    labels = train["label"][:]
    guess = float(np.mean(labels)) if isinstance(labels[0], float) else Counter(labels).most_common(1)[0][0]
    return [guess] * len(evaluation["label"])


def bag_of_words(train: Mapping[str, Sequence], evaluation: Mapping[str, Sequence], seed: int = 0) -> list:
    """Logistic regression (ridge regression where labels are floats) on TF-IDF of words and pairs of neighbours.

    A linear model on two bags side by side cannot compare them, so a pair is described by the product and the absolute
    difference of its TF-IDF vectors, and by how much they overlap: cosine, share of common words, lengths.

    Args:
        train, evaluation: Columns "text", "label" and, of pairs, "text_pair", all lists or lists when sliced by [:].
        seed: Of the solver.

    Returns:
        One label a row of `evaluation`.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.multiclass import OneVsRestClassifier
    except ImportError as error:
        raise ImportError("The bag of words needs scikit-learn; pip install 'clippo[evaluation]'.") from error
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]")
    texts = [train["text"][:]] + ([train["text_pair"][:]] if "text_pair" in _names(train) else [])
    vectorizer.fit([text for column in texts for text in column])
    labels = train["label"][:]
    if len(set(labels)) == 1:
        return majority(train, evaluation)
    if isinstance(labels[0], float):
        model = Ridge(alpha=1.0)
    else:
        model = LogisticRegression(C=10.0, solver="liblinear", random_state=seed)
        if len(set(labels)) > 2:
            model = OneVsRestClassifier(model)
    model.fit(_features(train, vectorizer), labels)
    return model.predict(_features(evaluation, vectorizer)).tolist()


def _names(columns) -> Sequence[str]:
    return columns.column_names if hasattr(columns, "column_names") else list(columns)


def _features(columns, vectorizer):
    from scipy import sparse

    first = vectorizer.transform(columns["text"][:])
    if "text_pair" not in _names(columns):
        return first
    second = vectorizer.transform(columns["text_pair"][:])
    cosine = np.asarray(first.multiply(second).sum(1)).ravel()
    words = [[set(vectorizer.build_tokenizer()(text.lower())) for text in columns[c][:]] for c in ("text", "text_pair")]
    overlap = [
        (len(a & b) / max(len(a | b), 1), len(a & b) / max(len(a), 1), len(a & b) / max(len(b), 1), len(a) - len(b))
        for a, b in zip(*words, strict=True)
    ]
    overlap = np.array(overlap) * [1, 1, 1, 0.1]  # (rows, 4); lengths on the scale of the rest
    dense = np.column_stack([cosine, overlap])
    return sparse.hstack([first.multiply(second), abs(first - second), sparse.csr_matrix(dense)]).tocsr()
