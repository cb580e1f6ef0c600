"""Writing and comparing parameter archives in the tests of the conversion."""

from pathlib import Path

import numpy as np

from clippo.conversion.npz import same_bits


def write(path: Path, arrays: dict) -> Path:
    """Save arrays as an `.npz` and return its path."""
    np.savez(path, **arrays)
    return path


def assert_same(actual: dict, expected: dict) -> None:
    """Assert equal names and equal bits."""
    assert sorted(actual) == sorted(expected)
    for key, array in expected.items():
        assert same_bits(actual[key], array), key
