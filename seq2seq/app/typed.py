"""Text on the command line, taken as it is typed.

Hydra reads a value by a grammar of its own: `,` and `=` have a meaning, letters outside ASCII have
none, `1e3` is a number. A value of a setting that holds text is therefore quoted for Hydra, unless
Hydra reads the same text without quotes. In a sweep a comma separates values, except inside quotes
and inside the path of a file or folder that exists.
"""

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, ValueType
from hydra.errors import HydraException

from ..config.settings import Kind, kind_of

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""Settings of Hydra that are paths; Hydra does not sweep them."""
GROUPS = ("experiment", "size")
"""Settings that are chosen like groups: their values are the names of files in configs/."""
SWEEP = re.compile(r"(choice|range|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
"""Hydra's functions that give the values of a sweep."""
LISTS = re.compile(r"(?<=\]),(?=\[)")
"""What is between the lists of a sweep."""
PART = re.compile(
    r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?=,|$)|(?:\$\{[^}]*\}|[^,])*""", re.DOTALL
)
"""The next of several values: in quotes, or all before the next comma outside ${...}."""


def as_typed(arguments: Sequence[str], sweep: bool) -> list[str]:
    """Return the command line with text quoted for Hydra where that is needed.

    ~ at the start of a path becomes the home folder. ValueError for text that is not UTF-8.
    """
    return [_quoted(argument, sweep) for argument in arguments]


def without_references(value: Any) -> Any:
    """Return a value as OmegaConf has it, for which ${ begins a reference."""
    if isinstance(value, dict):
        return {key: without_references(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_references(v) for v in value]
    return value.replace("${", r"\${") if isinstance(value, str) else value


def _quoted(argument: str, sweep: bool) -> str:
    head, sign, value = argument.partition("=")
    key = head.lstrip("+")
    kind = Kind(str, is_path=True) if key in HYDRA_PATHS else kind_of(key)
    if not value or kind is None or kind.type not in (str, list[str]) or key in GROUPS:
        return argument
    _check_utf8(key, value)
    swept = sweep and key not in HYDRA_PATHS
    if swept and SWEEP.fullmatch(value) and not _exists(value, kind):
        return argument
    if kind.type == list[str]:
        lists = LISTS.split(value) if swept else [value]
        return head + sign + ",".join(map(_literal_list, lists))
    values = _separated(value, kind) if swept else [value]
    return head + sign + ",".join(_literal(v, kind) for v in values)


def _check_utf8(key: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        shown = value.encode(errors="backslashreplace").decode()
        raise ValueError(
            f"{key}={shown}: expected text in UTF-8; a file with such a name can be given by a"
            " link to it: ln -s FILE NAME"
        ) from error


def _literal(value: str, kind: Kind) -> str:
    """Return a value as Hydra has to be given it."""
    text = os.path.expanduser(value) if kind.is_path else value
    if _exists(value, kind):
        text = text.replace("${", r"\${")  # part of a name, and no reference to another setting
    elif value.lower() == "null" or (value[:1] in ("'", '"') and _read(value) is not None):
        return value
    return text if _read(text) == text else QuotedString(text, Quote.single).with_quotes()


def _literal_list(value: str) -> str:
    """Return a list of texts, [a,b], as Hydra has to be given it."""
    found = re.fullmatch(r"\s*\[(.*)\]\s*", value, re.DOTALL)
    if found is None:
        return _literal(value, Kind(str))
    items = _split(found[1]) if found[1].strip() else []
    return f"[{','.join(_literal(item.strip(), Kind(str)) for item in items)}]"


def _exists(value: str, kind: Kind) -> bool:
    return kind.is_path and os.path.lexists(os.path.expanduser(value))


def _read(value: str) -> str | None:
    """Return the text that Hydra reads in a value; None if it reads none, or several."""
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None
    found = override.value()
    is_one = override.value_type is ValueType.ELEMENT and isinstance(found, (str, int, float))
    return str(found) if is_one else None


def _separated(value: str, kind: Kind) -> Iterator[str]:
    """Yield the values of a sweep; of parts that are a path together, as many as possible."""
    parts = _split(value)
    while parts:
        counts = range(len(parts), 1, -1)
        taken = next((n for n in counts if _exists(",".join(parts[:n]), kind)), 1)
        yield ",".join(parts[:taken])
        parts = parts[taken:]


def _split(value: str) -> list[str]:
    """Return the parts between commas, where quotes around a part may hold more of them."""
    parts, start = list[str](), 0
    while start <= len(value):
        found = PART.match(value, start)
        assert found is not None
        parts.append(found[0])
        start = found.end() + 1
    return parts
