"""How text becomes ids, as tables that a program without this package can read: text.json."""

import re
from typing import Any

from ..config import NormalForm, TokenizerKind, languages
from ..data.normalization import ENTITIES, ENTITY, PLAIN, full_width
from ..data.text import SPACE_BY_CJK
from ..data.tokenizer import Tokenizer, Tokenizers

NOTHING = "(?!)"
"""A pattern that finds nothing."""


def text_tables(tokenizers: Tokenizers, files: list[str]) -> dict[str, Any]:
    """Return text.json; `files` are the models of the source and the target.

    ValueError for Chinese source text of a word tokenizer, which jieba divides into words.
    """
    source, target = tokenizers.source, tokenizers.target
    if is_segmented(source):
        raise ValueError(
            f"tokenizer.kind=word: jieba divides {source.language} text into words, and a program"
            " without this package does not; expected a run with tokenizer=bpe, unigram or char"
        )
    how = source.normalization
    kept = full_width(how.language) if how.form is NormalForm.nfkc else None
    longest_first = sorted(how.symbols, key=len, reverse=True)
    return {
        "tokenizers": files,
        "source_ids": source.numbers.ours,
        "target_pieces": target.numbers.theirs,
        "surplus_spaces": SPACE_BY_CJK.pattern if is_segmented(target) else NOTHING,
        "words": source.kind is TokenizerKind.word,
        "normal_form": "" if how.form is NormalForm.none else how.form.value.upper(),
        "full_width": NOTHING if kept is None else kept.pattern[1:-1],
        "placeholders": "|".join(map(re.escape, longest_first)) or NOTHING,
        "characters": PLAIN[how.markup],
        "entity": ENTITY.pattern if how.markup else NOTHING,
        "entities": ENTITIES if how.markup else {},
    }


def is_segmented(tokenizer: Tokenizer) -> bool:
    """Return whether text is divided into words before SentencePiece receives it."""
    is_chinese = languages.language(tokenizer.language).is_chinese
    return tokenizer.kind is TokenizerKind.word and is_chinese
