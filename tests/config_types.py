"""A check that values have the types of the settings' classes."""

import types
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


def wrong(value: Any, hint: Any, path: str = "") -> list[str]:
    """Return where a value, or a part of it, does not have its type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [] if any(not wrong(value, part) for part in parts) else [f"{path}={value!r}"]
    if origin is dict:
        return [
            w
            for k, v in value.items()
            for w in wrong(k, parts[0], path) + wrong(v, parts[1], f"{path}.{k}")
        ]
    if origin is tuple:
        return [] if [type(v) for v in value] == list(parts) else [f"{path}={value!r}"]
    if origin is list:
        return [w for i, v in enumerate(value) for w in wrong(v, parts[0], f"{path}[{i}]")]
    if type(value) is not hint:
        return [f"{path}={value!r}"]
    if is_dataclass(hint):
        return [
            w
            for name, kind in get_type_hints(hint).items()
            for w in wrong(getattr(value, name), kind, f"{path}.{name}" if path else name)
        ]
    return []
