"""How an upstream file of pairs becomes train, valid and test, so that no sentence is in two of
them.
"""

import hashlib
import io
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..config import SplitRule
from ..errors import DataError
from .text import decoded_lines

Pair = tuple[str, str]


def read_upstream(path: Path, rule: SplitRule) -> Iterator[Pair]:
    """(source, target) of every line of a TSV file, or of member `rule.file` of a zip."""
    for number, line in enumerate(
        decoded_lines(io.BytesIO(_upstream_bytes(path, rule)), str(path)), start=1
    ):
        if not line.strip():
            continue
        columns = line.rstrip("\r").split("\t")
        if len(columns) <= max(rule.source_column, rule.target_column):
            raise DataError(
                f"{path}:{number}: {len(columns)} columns; expected source and target in columns "
                f"{rule.source_column + 1} and {rule.target_column + 1}"
            )
        yield columns[rule.source_column], columns[rule.target_column]


def _upstream_bytes(path: Path, rule: SplitRule) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(rule.file)
    except KeyError as error:
        raise DataError(f"{path}: has no member {rule.file!r}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: damaged zip file ({error})") from error


def check_git_blob(path: Path, expected: str | None) -> None:
    """DataError where a file is not the one git knows by this hash."""
    data = path.read_bytes()
    found = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    if expected is not None and found != expected:
        raise DataError(f"{path}: wrong checksum: git hash {found}, expected {expected}")


def sentence_key(sentence: str) -> str:
    """The sentence without case, spacing and punctuation: NFKC, casefold, letters, marks and digits
    alone.
    """
    folded = unicodedata.normalize("NFKC", sentence).casefold()
    key = "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")
    return key or sentence.strip()


class _Components:
    """Union-find over sentence keys."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    def root(self, key: str) -> str:
        self.parents.setdefault(key, key)
        while self.parents[key] != key:
            self.parents[key] = self.parents[self.parents[key]]
            key = self.parents[key]
        return key

    def join(self, a: str, b: str) -> None:
        self.parents[self.root(a)] = self.root(b)


def split_by_components(pairs: Iterable[Pair], rule: SplitRule) -> dict[str, list[Pair]]:
    """train, valid and test of a file of pairs, in its order.

    Repeated pairs are dropped. Sentences with one key, and the two sides of a pair, are in one
    component; a component is named by the smallest key of its `rule.name_side` side, and SHA-256 of
    salt and name, as a part of its range, says where all of it goes.
    """
    kept = list(dict.fromkeys(pairs))
    components, names = _Components(), dict[str, str]()
    keys = [(f"s{sentence_key(src)}", f"t{sentence_key(tgt)}") for src, tgt in kept]
    for src_key, tgt_key in keys:
        components.join(src_key, tgt_key)
    side = 0 if rule.name_side == "source" else 1
    for both in keys:
        root, key = components.root(both[0]), both[side][1:]
        names[root] = min(names.get(root, key), key)
    divided: dict[str, list[Pair]] = {"train": [], "valid": [], "test": []}
    for pair, both in zip(kept, keys, strict=True):
        divided[assign(names[components.root(both[0])], rule)].append(pair)
    return divided


def assign(name: str, rule: SplitRule) -> str:
    """The split of a component."""
    digest = hashlib.sha256((rule.salt + name).encode("utf-8")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < rule.train_share:
        return "train"
    return "valid" if place < rule.train_share + rule.valid_share else "test"
