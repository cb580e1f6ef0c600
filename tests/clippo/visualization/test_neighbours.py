"""The nearest images come first, and the right ones are framed."""

import numpy as np
import pytest

from clippo.visualization.neighbours import GAP, MARGIN, SIDE, draw_neighbours
from clippo.visualization.sheet import RIGHT

COLORS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], dtype=np.uint8)
ITEMS = [np.broadcast_to(color, (16, 16, 3)) for color in COLORS]


def middle(place):
    """Middle of the tile at a place of the first row."""
    return MARGIN + (place + 1) * (SIDE + GAP) + 2 * GAP + SIDE // 2, 2 * MARGIN + 20 + SIDE // 2


def test_order_and_frame():
    sheet = draw_neighbours([np.full((16, 8, 1), 127, np.uint8)], ITEMS, np.array([[0.1, 0.9, 0.5]]), k=9, right=[{2}])
    shown = [sheet.getpixel(middle(place)) for place in range(3)]
    assert shown == [tuple(COLORS[i].tolist()) for i in (1, 2, 0)]
    frame = [sheet.getpixel((middle(place)[0], 2 * MARGIN + 20 - 2)) for place in range(3)]
    assert frame[1] == tuple(bytes.fromhex(RIGHT[1:])) and frame[0] == frame[2] == (255, 255, 255)


def test_shapes_that_do_not_go_together():
    with pytest.raises(ValueError, match="1 queries and 3 items need cosines of that shape"):
        draw_neighbours(ITEMS[:1], ITEMS, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="as many sets of right items, got 2"):
        draw_neighbours(ITEMS[:1], ITEMS, np.zeros((1, 3)), right=[set(), set()])
