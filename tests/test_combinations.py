"""Of all combinations, a few are fast tests, with every value."""

import itertools
from collections import Counter

import pytest
from combinations import chosen, few


@pytest.mark.parametrize("sizes", [[3], [4, 2], [2, 3, 5], [4, 4, 4], [1, 6], [2, 2, 4]], ids=str)
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_every_value_is_chosen_in_each_round(sizes: list[int], rounds: int) -> None:
    found = chosen(sizes, rounds)
    assert len(set(found)) == len(found)
    assert len(found) <= rounds * max(sizes)
    for column, size in zip(zip(*found, strict=True), sizes, strict=True):
        others = len(list(itertools.product(*map(range, sizes)))) // size
        assert set(column) == set(range(size))
        assert min(Counter(column).values()) >= min(rounds, others)


def test_more_rounds_have_more_pairs() -> None:
    for first, second in itertools.combinations(range(3), 2):
        pairs = {(c[first], c[second]) for c in chosen([2, 4, 2], 2)}
        assert len(pairs) == len({first, second} & {1}) * 4 + 4


def test_all_combinations_are_tests_and_those_not_chosen_slow() -> None:
    made = few({"a": "xy", "b, c": [(1, 2), (3, 4), (5, 6)]})
    names, params = made.args
    assert names == ["a", "b", "c"]
    assert [param.values for param in params] == [
        (a, *pair) for a, pair in itertools.product("xy", [(1, 2), (3, 4), (5, 6)])
    ]
    fast = [param.values for param in params if not param.marks]
    assert len(fast) == 3
    assert {values[0] for values in fast} == {"x", "y"}
    assert {values[1:] for values in fast} == {(1, 2), (3, 4), (5, 6)}
    assert {mark.name for param in params for mark in param.marks} == {"slow"}
