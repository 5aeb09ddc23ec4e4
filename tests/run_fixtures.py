"""Fixtures over `runs`, for test files with pytest_plugins = ["run_fixtures"].

The runs are trained once for all of these files.
"""

from pathlib import Path

import pytest
import runs

from seq2seq.figures import attention_figure
from seq2seq.training import validation


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> runs.Runs:
    """Return two small trained runs of one corpus.

    The one without a norm has learnt some words, the one with layer norm all words. Their attention
    is drawn.
    """
    with pytest.MonkeyPatch.context() as drawing:
        drawing.setattr(validation, "attention_figure", attention_figure)
        return runs.two_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a short run of each norm, by norm."""
    return runs.three_runs(tmp_path_factory.mktemp("three_runs"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> runs.Script:
    """Return a function: script("translate") is scripts/translate.py, run in this process."""
    return lambda name: runs.Command(name, monkeypatch, capfd)


@pytest.fixture
def translate(script: runs.Script) -> runs.Command:
    """Return translate.py, run in this process."""
    return script("translate")
