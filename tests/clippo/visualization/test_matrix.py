"""The figure shows the matrix, and shapes that do not match are errors."""

import numpy as np
import pytest
from PIL import Image

from clippo.visualization.matrix import draw_matrix


def test_a_matrix_with_labels(tmp_path):
    pytest.importorskip("matplotlib")
    draw_matrix(np.eye(3), str(tmp_path / "matrix.png"), "title", ["a", "b", "c"])
    with Image.open(tmp_path / "matrix.png") as figure:
        pixels = np.asarray(figure.convert("RGB"))
    left = pixels[:, : pixels.shape[1] // 2 - 60]  # without the colour bar and the histogram
    largest, smallest = ((left == colour).all(-1) for colour in ((253, 231, 36), (68, 1, 84)))  # viridis
    assert smallest.sum() == pytest.approx(2 * largest.sum(), rel=0.05)  # three of nine cells are 1
    rows, columns = largest.nonzero()
    assert np.corrcoef(rows, columns)[0, 1] > 0.85  # and they are the diagonal


@pytest.mark.parametrize(
    ("cosines", "labels", "message"),
    [(np.eye(3)[:2], None, "as many rows as columns"), (np.eye(3), ["a"], "3 rows need as many labels, got 1")],
)
def test_errors(tmp_path, cosines, labels, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        draw_matrix(cosines, str(tmp_path / "matrix.png"), labels=labels)
