"""Columns line up in every script."""

import pytest

from clippo.visualization.text_table import LEFT_TO_RIGHT_MARK, align, bar, display_width, pad


@pytest.mark.parametrize(
    ("text", "width"),
    [("cat", 3), ("猫", 2), ("ねこ", 4), ("กำ", 2), ("e\u0301", 1), ("고양이", 6), ("", 0), ("\u200fא", 1)],
)
def test_display_width(text, width):
    assert display_width(text) == width


def test_columns_line_up():
    rows = [["a", "猫", "x"], ["long", "e\u0301", "y"], ["", "", ""]]
    first, second, empty = align(rows, indent=1, gap=1)
    assert display_width(first.partition("x")[0]) == display_width(second.partition("y")[0]) == 1 + 4 + 1 + 2 + 1
    assert empty == ""


def test_a_right_to_left_cell_does_not_take_its_neighbour_along():
    assert pad("אב", 4) == "אב" + LEFT_TO_RIGHT_MARK + "  "
    assert LEFT_TO_RIGHT_MARK not in pad("ab", 4)


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        align([["a", "b"], ["c"]])


@pytest.mark.parametrize(("share", "blocks"), [(0, ""), (1, "████"), (0.5, "██"), (1 / 32, "▏"), (2, "████"), (-1, "")])
def test_bar(share, blocks):
    assert bar(share, width=4) == blocks
