"""Plain data, as YAML and JSON hold it, turned into values of the types that a dataclass names."""

import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from ..shown import VALUE, brief

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST_INTEGER = 2**63
"""Beyond it no count is."""
Counts = TypeVar("Counts", bound="DataclassInstance")
Make = Callable[[dict[str, Any], Any, str], Any]
"""From an object's values, a dataclass and a dotted key: that dataclass with these values."""

types_of = cache(get_type_hints)
"""The types of a dataclass' fields by name."""

_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 2, VALUE, VALUE, VALUE


def shown(value: Any) -> str:
    """Return a value in brief; of one with a billion parts too, as aliases of YAML can make."""
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return "a number of more than 64 bits"
    return brief(_short.repr(value))


def typed(value: Any, kind: Any, key: str, make: Make) -> Any:
    """Return plain data as a value of this type; ValueError names the key and the type.

    `key` is the dotted key of the value, and `make` makes a dataclass of an object.
    """
    parts = get_args(kind)
    if kind is Any:
        return value
    if NoneType in parts:
        inner = next(part for part in parts if part is not NoneType)
        return None if value is None else typed(value, inner, key, make)
    if is_dataclass(kind) and isinstance(value, dict):
        return make(value, kind, key)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {str(n): typed(v, parts[1], f"{key}.{n}", make) for n, v in value.items()}
    if get_origin(kind) in (list, tuple) and isinstance(value, list):
        if parts[0] is not int and {type(v) for v in value} == {parts[0]}:
            return list(value)  # thousands of numbers, which need not be looked at one by one
        return [typed(v, parts[0], f"{key}[{i}]", make) for i, v in enumerate(value)]
    if isinstance(kind, type) and issubclass(kind, Enum) and name_of(value) in kind.__members__:
        return kind[name_of(value)]
    if type(value) is int and abs(value) < LARGEST_INTEGER and kind in (int, float):
        return kind(value)
    if type(value) is kind and kind is not int:
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{key or 'the file'}={shown(value)}: expected {expected}")


def name_of(value: Any) -> str:
    """Return what may be the name of an enum's member: YAML has read `none` or `1` as others."""
    return str(value) if isinstance(value, (str, bool, NoneType)) else ""


def record(values: dict[str, Any], kind: Any, key: str = "") -> Any:
    """Return a dataclass of a JSON object; values that this version does not know are ignored."""
    types = types_of(kind)
    known = {f.name for f in fields(kind)}
    prefix = f"{key}." if key else ""
    return kind(
        **{
            name: typed(value, types[name], f"{prefix}{name}", record)
            for name, value in values.items()
            if name in known
        }
    )


def check_count(value: Any, key: str) -> None:
    """Raise ValueError for a number that is negative or not finite; None is no number."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{key}={value}: expected at least 0")


def counts(kind: type[Counts], values: Any, others: Sequence[str] = ()) -> Counts:
    """Return a dataclass of numbers that are not negative, but for these others.

    ValueError where the values are no such numbers.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{kind.__name__}={shown(values)}: expected an object")
    found: Counts = record(values, kind)
    for name in {f.name for f in fields(kind)}.difference(others):
        check_count(getattr(found, name), name)
    return found
