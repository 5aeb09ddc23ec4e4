"""Text that is plainly not in its language, or not in words that spaces separate, is refused."""

from collections.abc import Iterable, Sequence
from itertools import islice

from ..config import DataConfig, languages
from ..errors import DataError
from .corpora import is_here, locate, split_pairs, splits
from .scripts import ScriptCount

FIRST_PAIRS = 2000
"""So many pairs of each split are looked at."""
MOST_LETTERS = 8
"""More letters and digits a word, on average, are no words of a language without spaces."""


def check_scripts(data: DataConfig) -> None:
    """Raise DataError where a side of a corpus is plainly not in the language stated for it."""
    for name in splits(data):
        if is_here(data, name):
            _check_split(data, name)


def _check_split(data: DataConfig, name: str) -> None:
    pairs = list(islice(split_pairs(data, name), FIRST_PAIRS))
    files = locate(data, name)
    tags = {"source": data.source_language, "target": data.target_language}
    for side, (key, tag) in enumerate(tags.items()):
        found = ScriptCount((pair[side] for pair in pairs), tag)
        if not found.is_other:
            continue
        exchanged = not ScriptCount((pair[1 - side] for pair in pairs), tag).is_other
        setting = f"set data.{key}_language"
        way_out = (
            f"are source and target exchanged? Else {setting}"
            if exchanged
            else f"{setting} to its language, such as de or zh-Latn"
        )
        raise DataError(
            f"{files[-1] if side else files[0]}: expected {key} text in {tag}, but {found};"
            f" {way_out} (und: no check)"
        )


def check_words(texts: Sequence[Iterable[str]], data: DataConfig) -> None:
    """Raise DataError for text whose words nothing separates, neither spaces nor jieba.

    Text that a program for its language has divided by spaces passes.
    """
    tags = {"source": data.source_language, "target": data.target_language}
    for (side, tag), lines in zip(tags.items(), texts, strict=True):
        if (spoken := languages.language(tag)).has_spaces or spoken.is_chinese:
            continue
        words = letters = 0
        for line in lines:
            words += len(line.split())
            letters += sum(map(str.isalnum, line))
        if letters > MOST_LETTERS * words:
            raise DataError(
                f"tokenizer=word: the {side} text ({tag}) has {letters / words:.0f} letters"
                " between spaces on average; expected words between spaces, or tokenizer=bpe or"
                " unigram, which need no spaces"
            )
