"""The examples in the docstrings of training and model surgery run."""

import doctest
import importlib
import pkgutil

import pytest

import clippo.training

MODULES = [
    "clippo.surgery",
    *(f"clippo.training.{module.name}" for module in pkgutil.iter_modules(clippo.training.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
