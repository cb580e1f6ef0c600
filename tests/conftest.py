"""Fixtures every test may use. Reference data that we may not ship lives in a `shared` folder beside the checkout."""

import logging
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CLIPPO_SHARED", ROOT.parent / "shared"))


def shared_path(*parts: str) -> Path:
    """Path below the shared reference folder; skips the calling test, with the reason, when it is not there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not on this machine (set CLIPPO_SHARED to its folder)")
    return path


@pytest.fixture(scope="session")
def shared():
    """The function `shared_path`, as a fixture."""
    return shared_path


@pytest.fixture
def log_messages():
    """Messages that transformers and clippo log during the test, as a list that grows."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("transformers", "clippo")]
    for logger in loggers:
        logger.addHandler(handler)
    yield messages
    for logger in loggers:
        logger.removeHandler(handler)
