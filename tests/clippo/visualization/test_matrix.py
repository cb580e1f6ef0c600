"""The matrix is written, and shapes that do not fit are said."""

import numpy as np
import pytest
from PIL import Image

from clippo.visualization.matrix import draw_matrix


def test_a_matrix_with_labels(tmp_path):
    pytest.importorskip("matplotlib")
    draw_matrix(np.eye(3), str(tmp_path / "matrix.png"), "title", ["a", "b", "c"])
    with Image.open(tmp_path / "matrix.png") as picture:
        assert picture.width > picture.height > 300 and len(picture.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.parametrize(
    ("cosines", "labels", "message"),
    [(np.eye(3)[:2], None, "as many rows as columns"), (np.eye(3), ["a"], "3 rows need as many labels, got 1")],
)
def test_errors(tmp_path, cosines, labels, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        draw_matrix(cosines, str(tmp_path / "matrix.png"), labels=labels)
