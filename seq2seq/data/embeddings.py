"""Pretrained embeddings of words, in the text formats of word2vec, fastText and GloVe.

A line is a word and its numbers, separated by spaces. word2vec and fastText (.vec) begin with a
line of two numbers, how many words and how many dimensions; GloVe does not.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..shown import brief, counted
from .text import read_lines
from .tokenizer import SPACE, Tokenizer

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
HEADER = re.compile(r"(\d{1,18}) (\d{1,18})")


def vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of a word tokenizer's words, without the four special pieces."""
    pieces = range(tokenizer.eos_id + 1, tokenizer.vocab_size)
    return {tokenizer.id_to_piece(i).removeprefix(SPACE): i for i in pieces}


def read_embeddings(
    path: Path, ids: Mapping[str, int], size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ids of the words that a file has, and their embeddings (words, size).

    Of a word that the file has twice, the first embedding counts. Raise DataError where the file
    cannot be read, has other dimensions, has fewer words than it says or a line with too few or
    too many numbers. What the numbers of other words are is not looked at.
    """
    found = dict[int, NDArray[np.float32]]()
    for number, line in _numbered(path, size):
        numbers = line.count(" ")
        if numbers < size:
            raise _malformed(path, number, line, size, f"found {numbers}")
        word = line.partition(" ")[0]
        # A word may have spaces in it, as GloVe has some, but no number at its end.
        if numbers > size:
            word = line.rsplit(" ", size)[0].rstrip(" ")
            if " " in word and NUMBER.fullmatch(word.rpartition(" ")[2]):
                raise _malformed(path, number, line, size, f"found {numbers}")
        place = ids.get(word)
        if place is not None and place not in found:
            found[place] = _vector(path, number, line, size)
    rows = np.array(list(found.values()), np.float32).reshape(-1, size)
    return np.array(list(found), np.int64), rows


def _numbered(path: Path, size: int) -> Iterator[tuple[int, str]]:
    """Yield the lines with embeddings and their numbers; check how many dimensions they have."""
    lines = ((number, line.rstrip(" \t")) for number, line in enumerate(read_lines(path), start=1))
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: empty; expected a word and its embedding on each line")
    header = HEADER.fullmatch(first[1])
    dimensions = int(header[2]) if header else _dimensions(first[1])
    if not dimensions:
        raise _malformed(path, *first, size, "found 0")
    if dimensions != size:
        raise DataError(
            f"{path}:1: embeddings of {counted(dimensions, 'dimension', '')}; expected"
            f" model.embedding_size={size}"
            + (f" (or set model.embedding_size={dimensions})" if dimensions > 1 else "")
        )
    number = 1
    for number, line in lines if header else chain([first], lines):
        yield number, line
    if header and number - 1 < int(header[1]):
        words = counted(number - 1, "word")
        raise DataError(f"{path}: {words}, line 1 says {header[1]}; expected a whole file")


def _dimensions(line: str) -> int:
    """Return how many numbers a line ends in, after a word that may be a number too."""
    parts = line.split(" ")[:0:-1]
    return next((i for i, part in enumerate(parts) if not NUMBER.fullmatch(part)), len(parts))


def _vector(path: Path, number: int, line: str, size: int) -> NDArray[np.float32]:
    try:
        vector = np.array(line.rsplit(" ", size)[1:], np.float64)
    except ValueError as error:
        raise _malformed(path, number, line, size, str(error)) from error
    if not (np.abs(vector) <= np.finfo(np.float32).max).all():
        raise _malformed(path, number, line, size, "found one that is not finite")
    return vector.astype(np.float32)


def _malformed(path: Path, number: int, line: str, size: int, reason: str) -> DataError:
    expected = f"expected a word and {counted(size, 'number', '')} in {brief(line)!r}"
    return DataError(f"{path}:{number}: {expected}: {brief(reason)}")
