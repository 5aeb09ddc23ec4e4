"""Unknown words, replaced by the source words that they attend to (Luong et al. 2015b)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from ..config import TokenizerKind, languages
from ..data.tokenizer import SPACE, Tokenizer
from .history import Hypothesis


def source_words(pieces: Sequence[str], tokenizer: Tokenizer) -> list[str]:
    """Return for each piece the whole word that it belongs to.

    SentencePiece marks the start of a word by U+2581. The pieces of a word tokenizer are words
    themselves; so are those of a language written without spaces, for want of marks.
    """
    alone = not languages.language(tokenizer.language).has_spaces
    alone = alone or tokenizer.kind is TokenizerKind.word
    starts = [i for i, piece in enumerate(pieces) if alone or i == 0 or piece.startswith(SPACE)]
    words = []
    for start, end in pairwise([*starts, len(pieces)]):
        words += ["".join(pieces[start:end]).replace(SPACE, "")] * (end - start)
    return words


def with_source_words(
    hypothesis: Hypothesis, words: list[str], weights: Tensor, tokenizer: Tokenizer
) -> str:
    """Return the detokenized text with the most attended source word for each <unk>.

    `words` are the source words of `source_words`, weights (T, S) the attention.
    """
    parts: list[str] = []
    known: list[int] = []
    for position, piece in enumerate(hypothesis.ids):
        if piece != tokenizer.unk_id:
            known.append(piece)
            continue
        parts.append(tokenizer.decode(known))
        known = []
        best = int(weights[position, : len(words)].argmax())  # never the source's eos
        parts.append(words[best])
    parts.append(tokenizer.decode(known))
    return tokenizer.join(part for part in parts if part)
