"""The terms that a report uses, for readers who have not read the papers."""

from collections.abc import Sequence

from .experiments import EXPERIMENTS
from .groups import Group
from .texts import texts


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
