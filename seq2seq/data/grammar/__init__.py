"""Synchronous grammars, from which the built-in corpus is drawn."""
