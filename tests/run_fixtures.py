"""Fixtures over `runs`, for test files that say pytest_plugins = ["run_fixtures"]: one training for
all of them.
"""

import pytest
import runs


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory):
    """Two small trained runs of one corpus: norm none, which has learnt some words, and layer,
    which knows all.
    """
    return runs.two_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def three_runs(tmp_path_factory):
    """A short run of each norm, by the norm, for TensorBoard."""
    return runs.three_runs(tmp_path_factory.mktemp("three_runs"))


@pytest.fixture
def script(monkeypatch, capfd):
    """`script("translate")` is scripts/translate.py, called in this process."""
    return lambda name: runs.Command(name, monkeypatch, capfd)
