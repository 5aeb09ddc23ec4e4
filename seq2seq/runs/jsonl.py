"""Files with one JSON object a line: metrics.jsonl and probes.jsonl."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import orjson

from ..errors import AGAIN
from ..files import exists, naming, replacing
from ..shown import brief
from ..stored import damaged, opened
from . import typed

Record = TypeVar("Record")
LONGEST_LINE = 16 << 20
"""Bytes of the longest line that is read."""


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a metrics.jsonl or probes.jsonl; none if there is no such file.

    None stands for a value that was not finite. An incomplete last line, as a killed run leaves
    it, is skipped. Any other line that is not an object of JSON raises ValueError.
    """
    return [entry for _, entry in _entries(file)]


def _entries(file: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the entries of `read_metrics`, each with its line: as it is, where it is JSON."""
    for number, line in enumerate(_lines(file) if exists(file) else (), start=1):
        try:
            kept, entry = _parsed(line)
        except (ValueError, RecursionError) as error:
            if line.strip() and line.endswith(b"\n"):
                shown = brief(line.rstrip(b"\n")[:1000].decode(errors="replace"))
                raise ValueError(
                    f"{file}:{number}: not a JSON object: {shown!r}; {AGAIN}"
                ) from error
            continue
        yield kept, entry


def _lines(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file; ValueError for one that is too long to be an entry."""
    with opened(file) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise ValueError(
                    f"{file}:{number}: a line of over {LONGEST_LINE:,} bytes; expected a JSON"
                    f" object; {AGAIN}"
                )
            yield line


def _parsed(line: bytes) -> tuple[bytes, dict[str, Any]]:
    kept = line.rstrip(b"\n") + b"\n"
    try:
        found = orjson.loads(line)  # five times as fast as json
    except orjson.JSONDecodeError:  # NaN and Infinity, as earlier versions wrote them
        found = json.loads(line, parse_constant=lambda _: None)
        with suppress(TypeError):  # of text that no writer takes
            kept = json_line(found).encode()
    if not isinstance(found, dict) or type(found.get("update", 0)) is not int:
        raise ValueError("no object, or no number of an update")
    return kept, found


def json_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as a line of JSON, with null for a value that is not finite."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(entry, option=options).decode()


class JsonLines:
    """A file of entries that a run appends to."""

    def __init__(self, file: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Remove those entries of an existing file for which `keep` is false."""
        self.file = file
        if exists(file):
            kept = [line for line, entry in _entries(file) if keep(entry)]
            with replacing(file) as temporary:
                temporary.write_bytes(b"".join(kept))

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry."""
        with naming(self.file), open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json_line(entry))


def record_of(kind: type[Record], values: Mapping[str, Any], file: Path) -> Record:
    """Return a dataclass of this kind from the values of a JSON object.

    Values that this version does not know are ignored. A missing one takes the field's default;
    ValueError names one that has none, or a value of another type.
    """
    if not isinstance(values, Mapping):
        raise damaged(file, f"{kind.__name__}={typed.shown(values)}, no object")
    known: dict[str, Any] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    required = (
        name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING
    )
    if missing := [name for name in required if name not in values]:
        raise damaged(file, f"{kind.__name__} without {', '.join(missing)}")
    try:
        found: Record = typed.record(dict(values), kind)
    except (ValueError, RecursionError) as error:
        raise damaged(file, error) from error
    return found


def with_nan(value: Any) -> Any:
    """Return a value of a JSON object, with nan for each null."""
    if isinstance(value, list):
        return [with_nan(v) for v in value]
    return math.nan if value is None else value
