"""Tests of all combinations of some values, of which a few are fast tests and the others slow."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

Item = tuple[int, int]
"""Place of an argument, and the number of its value."""
Pair = tuple[Item, ...]


def chosen(sizes: Sequence[int], rounds: int) -> list[tuple[int, ...]]:
    """Return a few combinations of numbers below `sizes`: each number is in at least `rounds`.

    Next comes the one with most numbers that still lack, of these the one whose pairs are newest.
    """
    every = list(itertools.product(*map(range, sizes)))
    wanted = {
        (place, n): min(rounds, len(every) // size)
        for place, size in enumerate(sizes)
        for n in range(size)
    }
    pairs, found = Counter[Pair](), list[tuple[int, ...]]()

    def standing(combination: tuple[int, ...]) -> tuple[int, int]:
        lacking = sum(wanted[item] > 0 for item in enumerate(combination))
        return -lacking, sum(
            pairs[pair] for pair in itertools.combinations(enumerate(combination), 2)
        )

    while any(count > 0 for count in wanted.values()):
        best = min((c for c in every if c not in found), key=standing)
        found.append(best)
        pairs.update(itertools.combinations(enumerate(best), 2))
        for item in enumerate(best):
            wanted[item] -= 1
    return found


def few(values: Mapping[str, Iterable[Any]], rounds: int = 1) -> pytest.MarkDecorator:
    """Run a test with all combinations of values; those that are not chosen are slow tests.

    Args:
        values: Name of an argument -> its values; "a, b": two arguments, of which values are pairs.
        rounds: So often, or more, every value is in a fast test.
    """
    names = [name.strip() for key in values for name in key.split(",")]
    every = {key: list(found) for key, found in values.items()}
    fast = set(chosen([len(found) for found in every.values()], rounds))
    params = []
    for places in itertools.product(*(range(len(found)) for found in every.values())):
        arguments = list[Any]()
        for place, (key, found) in zip(places, every.items(), strict=True):
            arguments += found[place] if "," in key else [found[place]]
        marks = () if places in fast else pytest.mark.slow
        params.append(pytest.param(*arguments, id="-".join(map(str, arguments)), marks=marks))
    return pytest.mark.parametrize(names, params)
