"""Fixtures: the built-in grammar, and sentences drawn from it once."""

import pytest
from grammar_files import GRAMMAR_FILE

from seq2seq.config import GrammarSplit
from seq2seq.data.grammar import Grammar, Pair, generate_splits, load_grammar


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    """Return the built-in grammar."""
    return load_grammar(GRAMMAR_FILE)


@pytest.fixture(scope="session")
def sizes() -> dict[str, GrammarSplit]:
    """Return the sizes of the splits that are drawn."""
    return {
        "train": GrammarSplit(3000, 1, 20),
        "valid": GrammarSplit(150, 1, 20),
        "test": GrammarSplit(150, 1, 20),
        "test_long": GrammarSplit(200, 21, 60),
    }


@pytest.fixture(scope="session")
def splits(grammar: Grammar, sizes: dict[str, GrammarSplit]) -> dict[str, list[Pair]]:
    """Return splits of these sizes."""
    return generate_splits(grammar, sizes, seed=1)
