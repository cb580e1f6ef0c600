"""Heat maps of the experts that read each group."""

import pytest
from PIL import Image

from clippo.visualization.expert_figure import draw_expert_use


def test_one_map_for_each_block(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    counts = {1: {"image": [9, 1, 0], "Latin": [1, 3, 0]}, 3: {"image": [0, 0, 5], "Latin": [0, 0, 0]}}
    draw_expert_use(counts, tmp_path / "two.png")
    draw_expert_use({1: counts[1]}, tmp_path / "one.png")
    sizes = [Image.open(tmp_path / name).size for name in ("one.png", "two.png")]
    assert sizes[0][0] < sizes[1][0] and sizes[0][1] == sizes[1][1]


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no block with experts"):
        draw_expert_use({}, tmp_path / "none.png")
