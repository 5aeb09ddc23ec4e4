"""Text to ids and back, with the tokenizers and the text.json of a folder."""

import html
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

DEEPEST = 10
"""So many entities inside one another are replaced: each takes another look at the whole line."""


def around(kept: str, change: Callable[[str], str], line: str, space: str = "") -> str:
    """Return a line changed between what the pattern `kept` finds, its parts joined by `space`."""
    parts = re.split(f"({kept})", line)
    parts[::2] = map(change, parts[::2])
    return space.join(part for part in parts if part)


def read_json(path: Path) -> Any:
    """Return what a file of JSON holds."""
    return json.loads(path.read_text(encoding="utf-8"))


class Text:
    """The tokenizers of both sides, and how text is normalised."""

    def __init__(self, folder: Path) -> None:
        self.how = read_json(folder / "text.json")
        self.source, self.target = (
            SentencePieceProcessor(str(folder / file)) for file in self.how["tokenizers"]
        )
        self.characters = str.maketrans(self.how["characters"])

    def encode(self, line: str) -> list[int]:
        """Return the ids of a line to translate, without bos and eos."""
        return [self.how["source_ids"][i] for i in self.source.encode(self.normalise(line))]

    def decode(self, ids: list[int]) -> str:
        """Return the text of a translation."""
        pieces = [piece for piece in (self.how["target_pieces"][i] for i in ids) if piece >= 0]
        return re.sub(self.how["surplus_spaces"], "", " ".join(self.target.decode(pieces).split()))

    def normalise(self, line: str) -> str:
        """Return a line as the tokenizer's training text was: entities, spaces, normal form."""
        how, placeholders = self.how, self.how["placeholders"]
        for _ in range(DEEPEST):
            before = line
            line = around(placeholders, self.unescaped, line)
            line = line.translate(self.characters)
            line = around(placeholders, lambda p: around(how["full_width"], self.formed, p), line)
            line = " ".join(line.split())
            if line == before:
                break
        return around(placeholders, str.strip, line, " ") if how["words"] else line

    def unescaped(self, part: str) -> str:
        """Return a part of a line with entities as characters, also with those that appear then."""
        for _ in range(DEEPEST):
            before = part
            part = re.sub(self.how["entity"], self.character, part)
            if part == before:
                break
        return part

    def formed(self, part: str) -> str:
        """Return a part of a line in its normal form of Unicode."""
        form = self.how["normal_form"]
        return unicodedata.normalize(form, part) if form else part

    def character(self, entity: re.Match[str]) -> str:
        """Return the character that an HTML entity stands for; the entity if there is none."""
        if not entity[1].startswith("#"):
            return str(self.how["entities"].get(entity[1], entity[0]))
        found = html.unescape(f"&{entity[1]};")
        return found if len(found) == 1 and found != "\ufffd" else entity[0]
