"""Baselines for GLUE: the majority class, and a linear model on bags of words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clippo.tasks.glue.metrics import glue_scores


def baseline_scores(task: str, splits: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Scores both baselines on the first evaluation split of a task.

    Args:
        task: A key of `GLUE_TASKS`.
        splits: Splits as `load_glue` returns them.

    Returns:
        {"majority": {metric: value}, "bag_of_words": {metric: value}}.
    """
    train, evaluation = splits["train"], next(rows for name, rows in splits.items() if name != "train")
    answers = {"majority": majority(train, evaluation), "bag_of_words": bag_of_words(train, evaluation)}
    return {name: glue_scores(task, predictions, evaluation["label"][:]) for name, predictions in answers.items()}


def majority(train: Mapping[str, Sequence], evaluation: Mapping[str, Sequence]) -> list:
    """Predicts the most frequent training label for every evaluation row, or the mean if labels are floats."""
    labels = train["label"][:]
    guess = float(np.mean(labels)) if isinstance(labels[0], float) else Counter(labels).most_common(1)[0][0]
    return [guess] * len(evaluation["label"])


def bag_of_words(train: Mapping[str, Sequence], evaluation: Mapping[str, Sequence], seed: int = 0) -> list:
    """Predicts with logistic regression (ridge regression for float labels) on TF-IDF of words and word pairs.

    A linear model on two concatenated bags cannot compare them. A pair is therefore described by the product and the
    absolute difference of its TF-IDF vectors, their cosine, the share of common words and the lengths.

    Args:
        train: Columns "text", "label" and, for pairs, "text_pair". Each is a list, or a list when sliced by [:].
        evaluation: The same columns.
        seed: Seed of the solver.

    Returns:
        One label for each row of `evaluation`.

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


def _names(columns: Any) -> Sequence[str]:
    return columns.column_names if hasattr(columns, "column_names") else list(columns)


def _features(columns: Any, vectorizer: Any):
    from scipy import sparse

    first = vectorizer.transform(columns["text"][:])  # (rows, words)
    if "text_pair" not in _names(columns):
        return first
    second = vectorizer.transform(columns["text_pair"][:])  # (rows, words)
    cosine = np.asarray(first.multiply(second).sum(1)).ravel()  # (rows,)
    words = [[set(vectorizer.build_tokenizer()(text.lower())) for text in columns[c][:]] for c in ("text", "text_pair")]
    overlap = [
        (len(a & b) / max(len(a | b), 1), len(a & b) / max(len(a), 1), len(a & b) / max(len(b), 1), len(a) - len(b))
        for a, b in zip(*words, strict=True)
    ]
    overlap = np.array(overlap) * [1, 1, 1, 0.1]  # (rows, 4), lengths on the scale of the rest
    dense = np.column_stack([cosine, overlap])  # (rows, 5)
    return sparse.hstack([first.multiply(second), abs(first - second), sparse.csr_matrix(dense)]).tocsr()
