"""Figure of all cosines of a set of pairs, with the pairs on the diagonal."""

from collections.abc import Sequence

import numpy as np


def draw_matrix(cosines: np.ndarray, output: str, title: str = "", labels: Sequence[str] | None = None) -> None:
    """Writes the matrix, and histograms of the pairs and of the other cosines, to an image file.

    Args:
        cosines: (N, N). Row i and column i are a pair.
        output: File name.
        title: First line of the figure.
        labels: N names for the axes. Matplotlib's font has Latin, Greek and Cyrillic letters.

    Raises:
        ImportError: Matplotlib is missing.
        ValueError: The matrix is not square, or the number of labels differs.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The matrix needs Matplotlib: pip install 'clippo[plot]'.") from error
    cosines = np.asarray(cosines, dtype=np.float64)
    if cosines.ndim != 2 or cosines.shape[0] != cosines.shape[1] or len(cosines) < 2:
        raise ValueError(f"The matrix needs as many rows as columns, two at least; got shape {cosines.shape}.")
    if labels is not None and len(labels) != len(cosines):
        raise ValueError(f"{len(cosines)} rows need as many labels, got {len(labels)}.")
    figure = Figure(figsize=(11, 5), layout="constrained")
    matrix, histogram = figure.subplots(1, 2)
    image = matrix.imshow(cosines, cmap="viridis", vmin=cosines.min(), vmax=cosines.max())
    figure.colorbar(image, ax=matrix, label="cosine", shrink=0.8)
    matrix.set(xlabel="images", ylabel="texts", title=title)
    if labels is not None:
        matrix.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        matrix.set_yticks(range(len(labels)), labels, fontsize=7)
    pairs = cosines.diagonal()
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    bins = np.linspace(cosines.min(), cosines.max() + 1e-9, 41)
    for values, name, color in ((others, "others", "0.6"), (pairs, "pairs", "#3b5bb5")):
        histogram.hist(values, bins, density=True, alpha=0.7, label=f"{name}, mean {values.mean():.2f}", color=color)
    histogram.set(xlabel="cosine", ylabel="density")
    histogram.legend(frameon=False)
    histogram.spines[["top", "right"]].set_visible(False)
    figure.savefig(output, dpi=110)
