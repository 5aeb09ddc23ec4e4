"""Files with one JSON object a line: metrics.jsonl and probes.jsonl."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import orjson

from ..errors import AGAIN
from ..files import naming, write_text
from ..shown import brief

Record = TypeVar("Record")


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a metrics.jsonl or probes.jsonl; none if there is no such file.

    None stands for a value that was not finite. An incomplete last line, as a killed run leaves
    it, is skipped. Any other line that is not JSON raises ValueError.
    """
    if not file.is_file():
        return []
    lines = file.read_bytes().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_parsed(line))
        except ValueError as error:
            if line and number < len(lines):
                shown = brief(line.decode(errors="replace"))
                raise ValueError(
                    f"{file}:{number}: not a JSON object: {shown!r}; {AGAIN}"
                ) from error
    return entries


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)  # five times as fast as json
    except orjson.JSONDecodeError:  # NaN and Infinity, as earlier versions wrote them
        return json.loads(line, parse_constant=lambda _: None)


def json_line(entry: Mapping[str, Any]) -> str:
    """Return an entry as a line of JSON, with null for a value that is not finite."""
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(entry, option=options).decode()


class JsonLines:
    """A file of entries that a run appends to."""

    def __init__(self, file: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Remove those entries of an existing file for which `keep` is false."""
        self.file = file
        if file.exists():
            kept = [json_line(entry) for entry in read_metrics(file) if keep(entry)]
            write_text(file, "".join(kept))

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry."""
        with naming(self.file), open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json_line(entry))


def record_of(kind: type[Record], values: Mapping[str, Any], file: Path) -> Record:
    """Return a dataclass of this kind from the values of a JSON object.

    Values that this version does not know are ignored. A missing one takes the field's default;
    ValueError names one that has none.
    """
    known: dict[str, Any] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    required = (
        name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING
    )
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{file}: {kind.__name__} without {', '.join(missing)}")
    return kind(**{name: value for name, value in values.items() if name in known})


def with_nan(value: Any) -> Any:
    """Return a value of a JSON object, with nan for each null."""
    if isinstance(value, list):
        return [with_nan(v) for v in value]
    return math.nan if value is None else value
