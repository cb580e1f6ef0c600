"""Colours of right and wrong characters."""

import numpy as np

from clippo.tasks.generation.figures import GAP, INK, RIGHT, ROW, WRONG, draw_lines, wrong_characters


def colours(pixels):
    return {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()} - {(255, 255, 255)}


def test_wrong_characters_alone_are_red():
    sheet = np.asarray(draw_lines([("a dog", "a dig"), ("猫", "猫")], width=64, zoom=1))
    first, second = sheet[: 2 * ROW + 2 * GAP], sheet[2 * ROW + 2 * GAP :]
    assert colours(first[:ROW]) == {INK}
    assert colours(first[ROW : 2 * ROW]) == {RIGHT, WRONG}
    assert colours(first[ROW : 2 * ROW, :16]) == {RIGHT}
    assert colours(second[ROW : 2 * ROW]) == {RIGHT}


def test_missing_and_additional_characters_are_marked():
    assert wrong_characters("same", "same") == []
    assert wrong_characters("ab", "abcd") == [2, 3]
    assert wrong_characters("abc", "") == []
