"""Synchronous grammars, which draw the built-in corpus: sentences together with translations."""

from .drawing import Grammar, Pair, generate_splits, load_grammar

__all__ = ["Grammar", "Pair", "generate_splits", "load_grammar"]
