"""Comparison of an exported folder with the translator that it comes from."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..translation.lines import Session
from .example import Translator as Networks
from .text import Text

TIE = 1e-4
"""Two translations whose scores differ by less, in nats, are equally good: rounding decides."""


@dataclass
class Comparison:
    """The translations of a folder's networks beside those of the run's model."""

    beam: int
    same: int = 0
    ties: int = 0
    difference: float = 0.0
    """The largest one of two log-probabilities of the same translation, in nats."""
    wrong: list[tuple[str, str, str]] = field(default_factory=list)
    """Lines, their translations by the model, and others that are no tie."""
    texts: list[str] = field(default_factory=list)
    """The folder's translations."""
    expected: list[str] = field(default_factory=list)
    """The model's."""


def compared(
    session: Session, folder: Path, lines: list[str], beam: int, kind: str = ""
) -> Comparison:
    """Translate lines with a folder's networks as the example does, and with the model.

    `kind` is the part of the networks' file names before .onnx: .int8, or nothing.
    """
    text, networks, found = Text(folder), Networks(folder, kind), Comparison(beam)
    expected = replace(session, decode=replace(session.decode, beam_size=beam)).translate(lines)
    for line, [best] in zip(lines, expected, strict=True):
        src = text.encode(line)
        score, log_p, ids = networks.search(src, beam) if src else (0.0, 0.0, list[int]())
        translation = text.decode(ids)
        found.texts.append(translation)
        found.expected.append(best.text)
        if translation == best.text:
            found.same += 1
            found.difference = max(found.difference, abs(log_p - best.log_probability))
        elif abs(score - best.score) < TIE:
            found.ties += 1
        else:
            found.wrong.append((line, best.text, translation))
    return found
