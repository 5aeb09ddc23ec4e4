"""The terms that a report uses, for readers who have not read the papers."""

from collections.abc import Sequence
from dataclasses import dataclass

from .experiments import EXPERIMENTS
from .groups import Group

EXPLAINER = "docs/normalization.md (in Chinese: docs/normalization.zh.md)"
"""Where the rest is explained, in the project's folder."""
ALWAYS = {
    "none, batch, layer, rms": (
        "how the recurrent cells normalise their summed inputs: not at all; by mean and"
        " standard deviation over the sentences of a batch; by those over the features of one"
        " sentence; by the root mean square over these features."
    ),
    "seed": (
        "one training with its own initial weights and order of sentences. Seeds differ by chance."
    ),
    "95% interval": (
        "where the mean over very many seeds is expected, except for one time in twenty, if the"
        " seeds are normally distributed."
    ),
    "significant": (
        "the 95% interval of the difference does not contain 0: by chance alone that happens"
        " one time in twenty."
    ),
    "detectable effect (80% power)": (
        "the smallest true difference that this many seeds find significant in four of five"
        " repetitions."
    ),
    "BLEU, chrF": (
        "how much of the translations' wording agrees with the reference: from 0 to 100, higher"
        " is better."
    ),
    "loss, nats/token": (
        "the negative natural logarithm of the probability that a model gives a piece of the"
        " reference, given the pieces before: lower is better. 0.01 less is a probability 1%"
        " higher."
    ),
    "token, piece": (
        "sentences are cut into frequent pieces of words; a target token is a piece of a"
        " translation."
    ),
    "learning rate": "how far an update moves the weights.",
    "update": "one step of the optimizer, on one batch of sentences.",
    "encoder, decoder": (
        "the half of a translator that reads the source; the half that writes the translation."
    ),
}
SOMETIMES = {
    "grammar_en_zh": (
        "the built-in corpus: pairs of English and Chinese sentences drawn from a grammar."
    ),
    "quick": "minutes on two cores, with a small model: it shows early training.",
    "real": "Multi30k or Tatoeba, and a model that a CPU trains in minutes.",
    "gpu": "the large model, which needs a GPU.",
    "stored statistics": (
        "the means and deviations that batch norm collects in training and uses in evaluation."
        " Own statistics are those of the current batch."
    ),
    "per step": (
        "batch norm stores a mean and a deviation for every time step, and uses the last ones"
        " for all later steps; for the input it stores one pair. This is norm=batch."
    ),
    "per step, the input too": "the input's statistics are also stored for every step.",
    "shared": "batch norm stores one mean and one deviation for all time steps.",
    "gain": "the learned factor of the normalised sum; the value given is the initial one.",
}
"""Terms for some corpora, sizes and norms; see `PARTS`."""
PARTS = {
    "per step, the input too": ("the input too",),
    "stored statistics": ("batch (", "train_eval_gap"),
}
"""Term -> names, or parts of norms' names, that need it, where that is not the term itself."""
REPORTED_ONLY = {
    "reported only": "measured, but not part of the claim: the verdict does not depend on it."
}


@dataclass(frozen=True)
class Word:
    """A term and its meaning."""

    term: str
    meaning: str


def glossary(groups: Sequence[Group]) -> list[Word]:
    """Return the terms that a report of these groups uses."""
    names = {name for g in groups for name in (g.experiment, g.size, g.corpus)}
    norms = ", ".join(norm for group in groups for norm in group.norms)
    words = ALWAYS | {
        term: meaning
        for term, meaning in SOMETIMES.items()
        if any(part in names or part in norms for part in PARTS.get(term, (term,)))
    }
    for name, experiment in EXPERIMENTS.items():
        as_a_whole = experiment.design.compares_norms and any(g.compares_norms for g in groups)
        if name in names or as_a_whole:
            words |= experiment.words
    words |= REPORTED_ONLY if names & EXPERIMENTS.keys() else {}
    return [Word(term, meaning) for term, meaning in words.items()]
