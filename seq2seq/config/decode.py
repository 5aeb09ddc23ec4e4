"""Settings of the search for a translation, or of its random draw."""

import re
from dataclasses import dataclass

from ..shown import brief
from .checks import MOST, check_ranges, note_unless, number

HYPOTHESES = 320
"""Hypotheses decoded together, unless decode.batch_size says how many sentences."""
MOST_CANDIDATES = 100
"""Most target pieces that a shortlist has for a source piece."""
LARGEST_FACTOR, LARGEST_EXTRA = 1000, 100_000
"""The largest A and B of max_length, so that every search ends."""


@dataclass
class DecodeConfig:
    """Search for a translation."""

    beam_size: int = number(5, at_least=1, at_most=10_000)
    """Hypotheses per sentence; 1: greedy."""
    length_penalty: float = number(1.0, at_least=0, at_most=100)
    """Exponent alpha: a hypothesis is scored by its log-probability / length ** alpha."""
    max_length: str = "2.0x+10"
    """Longest translation in pieces: 'Ax+B' for a source of x pieces, or a number.

    A is at most 1000 and B at most 100000.
    """
    min_length: int = number(0, at_least=0, at_most=LARGEST_EXTRA)
    """Shortest translation in pieces; it also raises max_length where a source is short."""
    no_repeat_ngram: int = number(0, at_least=0, at_most=MOST)
    """No N pieces in a row occur twice in a translation; 0: no such rule."""
    batch_size: int | None = number(None, at_least=1, at_most=MOST)
    """Sentences decoded together; null: as many as have 320 hypotheses, 64 with a beam of 5."""
    shortlist: int = number(0, at_least=0, at_most=MOST_CANDIDATES)
    """Target pieces that each source piece may become; 0: all.

    They are learnt from the training pairs, at the first search that asks for them.
    """
    replace_unk: bool = False
    """Whether the most attended source word replaces <unk>."""

    def __post_init__(self) -> None:
        check_ranges(self, "decode")
        wide = self.beam_size > 1
        note_unless("decode", "decode.beam_size above 1", wide, "length_penalty")
        factor, extra = length_limit(self.max_length)
        if not factor and extra < self.min_length:
            raise ValueError(
                f"decode.min_length={self.min_length}: expected at most"
                f" decode.max_length={self.max_length}"
            )

    @property
    def sentences(self) -> int:
        """Number of sentences decoded together."""
        return self.batch_size or max(1, HYPOTHESES // self.beam_size)


@dataclass(frozen=True)
class Sampling:
    """How to draw: each piece in turn, with probability proportional to p ** (1 / temperature)."""

    temperature: float = number(1.0, above=0)
    """Below 1 likely pieces are drawn more often, above 1 less often."""
    top_k: int = number(0, at_least=0)
    """Draw among the K most likely pieces only (Fan et al. 2018, arXiv:1805.04833); 0: all."""
    seed: int = number(1, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self, "")


def length_limit(rule: str) -> tuple[float, float]:
    """Return (A, B) of the rule 'Ax+B' for the longest translation; a plain number is (0, B).

    ValueError for a rule that is none, or allows more than LARGEST_FACTOR and LARGEST_EXTRA.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)x)?(?:\+?(\d+))?", rule.strip())
    if match is None or not any(float(part or 0) for part in match.groups()):
        raise ValueError(
            f"decode.max_length={rule}: expected 'Ax+B', such as '2x+10', or a number of pieces"
        )
    factor, extra = float(match[1] or 0), float(match[2] or 0)
    if factor > LARGEST_FACTOR or extra > LARGEST_EXTRA:
        raise ValueError(
            f"decode.max_length={brief(rule)}: expected 'Ax+B' with A at most {LARGEST_FACTOR} and"
            f" B at most {LARGEST_EXTRA}"
        )
    return factor, extra
