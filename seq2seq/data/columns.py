"""TSV files: the columns that hold the source and the target, and their pairs."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from ..config import DataConfig, languages
from ..errors import DataError
from ..shown import brief, counted, escaped
from .scripts import ScriptCount
from .splitting import Pair
from .text import read_lines

Numbered = tuple[int, Pair]
"""A pair, after the number of its line."""
LOG = logging.getLogger(__name__)
FIRST_LINES = 1000
"""So many lines tell what a column holds."""
LEAST_CELLS = 20
"""Fewer cells of a column do not tell labels from text."""
LABELS = 0.2
"""A column of labels has at most this share of different cells; of text, nearly all differ."""
HEADER_WORDS = re.compile(
    r"#?(id|idx|index|no|nr|line|source|src|target|tgt|trg|sl|tl|text|sentence|translation|lang|"
    r"language|user|username|url|score|date|licen[cs]e|attribution|comment)([ _-]?(\d|id|text|"
    r"sentence|lang|language|source|target))?"
)
"""What a cell of a header says, in lower case."""
SHOWN = 25
"""Characters of a sentence that the remark shows."""


@dataclass(frozen=True)
class Columns:
    """Positions of source and target, from 0."""

    source: int = 0
    target: int = 1
    has_header: bool = False
    """Whether the first line with text names the columns and is no pair."""


@dataclass
class Skipped:
    """Lines that are no pairs."""

    blank: int = 0
    """Blank lines of a TSV file."""


def check_tabs(path: Path, split: str, is_tsv: bool) -> None:
    """Raise DataError for plain text where TSV was expected, and for TSV beside another file.

    `split` is the key of its settings, such as data.train.
    """
    first = enumerate(islice(read_lines(path), FIRST_LINES), start=1)
    lines = {number: "\t" in line for number, line in first if line.strip()}
    tabs = [number for number, has_tab in lines.items() if has_tab]
    if is_tsv and lines and not tabs:
        raise DataError(
            f"{path}: no line has a tab; expected {split}.target=FILE with it, or TSV: source, tab,"
            " target"
        )
    if not is_tsv and 2 * len(tabs) > len(lines):
        raise DataError(
            f"{path}:{tabs[0]}: has a tab, as most lines have; expected a sentence a line, as there"
            f" is {split}.target (a .tsv file is given alone, as {split}.source; text has spaces"
            " instead)"
        )


def columns_of(path: Path, data: DataConfig) -> Columns:
    """Return the columns that the settings name, or the likely ones.

    These are the first two that hold text: no numbers, and no labels such as the name of a language
    or a user. Where source and target are written in different scripts, each has its own. In one
    script, nothing tells the source: it is the first of both. What was chosen is logged once.
    """
    written = (line.split("\t") for line in read_lines(path) if line.strip())
    rows = list(islice(written, FIRST_LINES))
    first = rows[0] if rows else []
    wanted = (data.source_column, data.target_column)
    is_named = any(column is not None and not column.isdecimal() for column in wanted)
    has_header = is_named or _is_header(first, data)
    names = [cell.strip() for cell in first] if has_header else []
    count = max([2, *map(len, rows)])
    columns = [_cells(rows[has_header:], i) for i in range(count)]
    given = [c if c is None else _position(path, c, names, count) for c in wanted]
    source, target = _chosen(columns, given, (data.source_language, data.target_language))
    found = Columns(source, target, has_header)
    if has_header or None in given:
        _log_once(_remark(path, found, columns))
    return found


def _cells(rows: Iterable[Sequence[str]], column: int) -> list[str]:
    return [row[column].strip() for row in rows if len(row) > column]


def _is_header(row: Sequence[str], data: DataConfig) -> bool:
    """Return whether a line names columns: each of its cells is such a name, or a language's."""
    words = [cell.strip().casefold() for cell in row if cell.strip()]
    tags = (data.source_language, data.target_language)
    return len(words) > 1 and all(
        HEADER_WORDS.fullmatch(word) or any(languages.is_called(word, tag) for tag in tags)
        for word in words
    )


def _position(path: Path, column: str, names: Sequence[str], count: int) -> int:
    """Return the position of a column that is named by number, from 1, or as in the header."""
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= count:
        return int(column) - 1
    header = f" or a name of line 1 ({brief(', '.join(names))})" if names else ""
    raise DataError(
        f"{path}: has no column {brief(column)!r}; expected a number from 1 to {count}{header}"
        " (data.source_column, data.target_column)"
    )


def _chosen(
    columns: Sequence[Sequence[str]], given: Sequence[int | None], tags: Sequence[str]
) -> tuple[int, int]:
    """Return the positions of source and target, of which some may be given."""
    texts = [i for i, cells in enumerate(columns) if len(columns) == 2 or _is_text(cells)]
    if len([i for i in texts if i not in given]) < given.count(None):
        texts = list(range(len(columns)))  # numbers or labels only: in order
    source, target = given
    if source is None:
        source = _first(columns, [i for i in texts if i != target], tags[0])
    if target is None:
        target = _first(columns, [i for i in texts if i != source], tags[1])
    return source, target


def _first(columns: Sequence[Sequence[str]], texts: Sequence[int], tag: str) -> int:
    """Return the first column in the script of a language; without one, the first.

    Of two columns a few lines tell nothing: source, tab, target is what people write.
    """
    few = len(columns) == 2 and len(columns[0]) < LEAST_CELLS
    if few or not languages.language(tag).scripts:
        return texts[0]
    counts = ((i, ScriptCount(columns[i], tag)) for i in texts)
    return next((i for i, count in counts if 2 * count.written > count.lines), texts[0])


def _is_text(cells: Sequence[str]) -> bool:
    """Return whether most cells have letters and are no addresses, and few of them are alike."""
    filled = [cell for cell in cells if cell]
    words = [cell for cell in filled if _has_letters(cell) and "://" not in cell.partition(" ")[0]]
    if 2 * len(words) <= len(filled):
        return False
    return len(words) < LEAST_CELLS or len(set(words)) > LABELS * len(words)


def _has_letters(cell: str) -> bool:
    return any(unicodedata.category(char).startswith("L") for char in cell)


def _remark(path: Path, found: Columns, columns: Sequence[Sequence[str]]) -> str:
    first = [next(iter(columns[i]), "")[:SHOWN] for i in (found.source, found.target)]
    header = ", after a line of names" if found.has_header else ""
    return (
        f"{path}: source is column {found.source + 1}, target is column {found.target + 1} of"
        f" {len(columns)}{header} ({first[0]!r} -> {first[1]!r}); data.source_column and"
        " data.target_column choose others"
    )


@cache
def _log_once(message: str) -> None:
    LOG.info(escaped(message))


def tsv_pairs(
    path: Path, columns: Columns, skipped: Skipped | None = None, member: str = ""
) -> Iterator[Numbered]:
    """Yield each line's number and (source, target) of a TSV file; further columns are ignored.

    Blank lines, as between documents, are skipped and counted. A zip archive's `member` is read.
    """
    source, target, has_header = columns.source, columns.target, columns.has_header
    for number, line in enumerate(read_lines(path, member), start=1):
        if "\t" not in line and not line.strip():
            if skipped is not None:
                skipped.blank += 1
            continue
        if has_header and line.strip():
            has_header = False
            continue
        cells = line.split("\t")
        if len(cells) <= max(source, target):
            raise DataError(
                f"{path}:{number}: found {counted(len(cells), 'tab-separated column')} in"
                f" {brief(line)!r}; expected source in column {source + 1} and target in column"
                f" {target + 1}"
            )
        yield number, (cells[source], cells[target])
