"""Worked examples: the test text that a run was scored on, and a few sentences of it.

They are written at the end of a run, so that a report needs neither the corpus nor the model.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..files import exists, write_text
from ..stored import LARGEST_FILE, damaged, read_json, text
from .jsonl import record_of

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Places of the sentences in the test set ordered by length, as parts of it."""
WITH_ATTENTION = (1, 2)
"""Which of these sentences come with their attention."""


@dataclass
class WorkedExample:
    """A test sentence and a run's translation of it."""

    index: int
    """Its place in the test set."""
    source: str
    reference: str
    translation: str
    source_pieces: list[str] = field(default_factory=list)
    """(S,) with the end of the sentence"""
    target_pieces: list[str] = field(default_factory=list)
    """(T,) of the translation, with its end"""
    attention: list[list[float]] = field(default_factory=list)
    """(T, S) teacher-forced weights; empty without attention"""


def chosen(sources: Sequence[str]) -> list[int]:
    """Return the places of the sentences to show: they depend on the test set alone."""
    order = sorted(range(len(sources)), key=lambda i: (len(sources[i]), i))
    return [order[int(place * len(order))] for place in PLACES] if order else []


def write_examples(folder: Path, examples: Sequence[WorkedExample]) -> None:
    """Write examples.json into the folder of translations."""
    content = [asdict(example) for example in examples]
    write_text(folder / "examples.json", json.dumps(content, ensure_ascii=False) + "\n")


def read_examples(folder: Path) -> list[WorkedExample]:
    """Return the examples of a run; none for a run of an older version."""
    file = folder / "examples.json"
    if not exists(file):
        return []
    content = read_json(file)
    if not isinstance(content, list):
        raise damaged(file, "expected a list")
    return [record_of(WorkedExample, entry, file) for entry in content]


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Write a text of one sentence a line."""
    write_text(file, "".join(line + "\n" for line in lines))


def read_lines(file: Path) -> list[str]:
    """Return the lines of such a text; none if there is no such file."""
    return text(file, LARGEST_FILE).split("\n")[:-1] if exists(file) else []
