"""A fixture that composes configurations, each only once."""

import composing
import pytest
from fixture_types import Composed

from seq2seq.config import Config


@pytest.fixture(scope="session")
def composed() -> Composed:
    """Return a function that composes a configuration the first time that it is asked for."""
    known: dict[tuple[str, tuple[str, ...]], Config] = {}

    def make(*overrides: str, name: str = "train") -> Config:
        if (name, overrides) not in known:
            known[name, overrides] = composing.composed(*overrides, name=name)
        return known[name, overrides]

    return make
