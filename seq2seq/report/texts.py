"""What a report says of every comparison, and the terms that it uses: texts.yaml."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ..runs.configuration import read_yaml
from .experiments import EXPERIMENTS
from .groups import Group


@cache
def texts() -> dict[str, Any]:
    """Return the content of texts.yaml."""
    file = files("seq2seq.report") / "texts.yaml"
    return dict(read_yaml(file.read_text(encoding="utf-8")))


def caption(*names: str) -> str:
    """Return these texts, one after the other."""
    return " ".join(texts()[name] for name in names)


def glossary(groups: Sequence[Group]) -> dict[str, str]:
    """Return the terms that a report of these groups uses, with their meanings."""
    text = texts()
    names = {name for g in groups for name in (g.experiment, g.size, g.corpus)}
    if any(group.design.compares_norms for group in groups):
        names.add("norms compared")
    norms = ", ".join(norm for group in groups for norm in group.norms)
    words: dict[str, str] = text["words"] | {
        term: meaning
        for term, meaning in text["words_with"].items()
        if any(part in names or part in norms for part in text["shown_with"].get(term, [term]))
    }
    for name, of_experiment in text["words_of"].items():
        words |= of_experiment if name in names else {}
    return words | (text["words_of_verdicts"] if names & EXPERIMENTS.keys() else {})
