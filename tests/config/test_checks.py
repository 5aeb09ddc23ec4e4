"""How a settings class checks its values."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from seq2seq.config import Metric
from seq2seq.config.checks import (
    RANGE,
    Range,
    as_text,
    check_ranges,
    number,
    numbers,
    only_with,
    refuse,
    saved_settings,
)


@dataclass
class Example:
    """Settings of each kind."""

    rate: float = number(0.5, at_least=0, below=1)
    steps: int | None = number(None, at_least=1)
    pair: tuple[float, float] = number((0.1, 0.2), above=0, at_most=1)
    sizes: list[int] = numbers((3, 4), at_least=2)
    name: str = "a"
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rate": -0.1}, "group.rate=-0.1: expected at least 0 and less than 1"),
        ({"rate": 1}, "group.rate=1: expected at least 0 and less than 1"),
        ({"rate": math.nan}, "group.rate=nan: expected at least 0 and less than 1"),
        ({"steps": 0}, "group.steps=0: expected at least 1"),
        ({"steps": math.inf}, "group.steps=inf: expected at least 1"),
        (
            {"pair": (0.5, 0)},
            r"group.pair=\[0.5,0\]: expected 2 numbers, each more than 0 and at most 1",
        ),
        ({"sizes": [5, 1]}, r"group.sizes=\[5,1\]: expected at least 2"),
    ],
)
def test_a_number_out_of_its_range_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_ranges(Example(**changed), "group")


def test_limits_are_part_of_a_range_if_it_includes_them() -> None:
    check_ranges(Example(rate=0, steps=None, pair=(1, 0.1), sizes=[]), "group")
    assert 0 in Range(at_least=0)
    assert 0 not in Range(above=0)
    assert 1 in Range(at_most=1)
    assert 1 not in Range(below=1)
    assert str(Range(above=0, below=1)) == "more than 0 and less than 1"


def test_a_default_is_a_copy_and_keeps_its_range() -> None:
    first, second = Example(), Example()
    first.sizes.append(9)
    assert second.sizes == [3, 4]
    assert [f.name for f in fields(Example) if RANGE in f.metadata] == [
        "rate",
        "steps",
        "pair",
        "sizes",
    ]


def test_a_setting_without_effect_is_refused() -> None:
    only_with(Example(), "group", "other=b", False, "name", "names", "steps")
    only_with(Example(name="b"), "group", "other=b", True, "name")
    for changed, message in (
        ({"name": "b"}, "group.name=b: expected a, the default: .* only with other=b"),
        ({"steps": 3}, "group.steps=3: expected null, the default"),
        ({"names": ["x"]}, r"group.names=\[x\]: expected \[\], the default"),
    ):
        with pytest.raises(ValueError, match=message):
            only_with(Example(**changed), "group", "other=b", False, "name", "names", "steps")


def test_saved_settings_without_effect_return_to_their_default() -> None:
    old = Example(name="b", names=["x"])
    with saved_settings():
        only_with(old, "group", "other=b", False, "name", "names")
        refuse("two settings that exclude each other")
    assert old == Example()
    with pytest.raises(ValueError, match="exclude each other"):
        refuse("two settings that exclude each other")


def test_a_range_holds_for_saved_settings_too() -> None:
    with saved_settings(), pytest.raises(ValueError, match=r"group\.rate=2"):
        check_ranges(Example(rate=2), "group")


def test_values_are_written_as_on_the_command_line() -> None:
    assert [as_text(v) for v in (None, True, False, Metric.bleu, 0.5, "x", [1])] == [
        "null",
        "true",
        "false",
        "bleu",
        "0.5",
        "x",
        "[1]",
    ]
