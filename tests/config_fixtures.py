"""A fixture that composes configurations, each only once."""

import pytest
from conftest import ROOT
from fixture_types import Composed
from hydra import compose, initialize_config_dir

from seq2seq.app import composition
from seq2seq.config import Config


@pytest.fixture(scope="session")
def composed() -> Composed:
    """Return a function that composes a configuration the first time that it is asked for."""
    composition.register()
    known: dict[tuple[str, tuple[str, ...]], Config] = {}

    def make(*overrides: str, name: str = "train") -> Config:
        if (name, overrides) not in known:
            with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
                known[name, overrides] = composition.composed(compose(name, list(overrides)))
        return known[name, overrides]

    return make
