"""The terms that a report uses, for readers who have not read the papers."""

from collections.abc import Sequence

from .experiments import EXPERIMENTS
from .experiments.base import Word
from .groups import Group

__all__ = ["EXPLAINER", "Word", "glossary"]

EXPLAINER = "docs/normalization.md (in Chinese: docs/normalization.zh.md)"
"""Where the rest is explained, in the project's folder."""
WORDS = (
    Word(
        "none, batch, layer, rms",
        "how the recurrent cells normalise their summed inputs: not at all; by mean and standard"
        " deviation over the sentences of a batch; by those over the features of one sentence; by"
        " the root mean square over these features.",
    ),
    Word(
        "seed",
        "one training with its own initial weights and order of sentences. Seeds differ by chance.",
    ),
    Word(
        "95% interval",
        "where the mean over very many seeds is expected, except for one time in twenty, if the"
        " seeds are normally distributed.",
    ),
    Word(
        "significant",
        "the 95% interval of the difference does not contain 0: by chance alone that happens one"
        " time in twenty.",
    ),
    Word(
        "detectable effect (80% power)",
        "the smallest true difference that this many seeds find significant in four of five"
        " repetitions.",
    ),
    Word(
        "BLEU, chrF",
        "how much of the translations' wording agrees with the reference: from 0 to 100, higher is"
        " better.",
    ),
    Word(
        "loss, nats/token",
        "the negative natural logarithm of the probability that a model gives a piece of the"
        " reference, given the pieces before: lower is better. 0.01 less is a probability 1%"
        " higher.",
    ),
    Word(
        "token, piece",
        "sentences are cut into frequent pieces of words; a target token is a piece of a"
        " translation.",
    ),
    Word("learning rate", "how far an update moves the weights."),
    Word("update", "one step of the optimizer, on one batch of sentences."),
    Word(
        "encoder, decoder",
        "the half of a translator that reads the source; the half that writes the translation.",
    ),
    Word(
        "grammar_en_zh",
        "the built-in corpus: pairs of English and Chinese sentences drawn from a grammar.",
        ("grammar_en_zh",),
    ),
    Word("quick", "minutes on two cores, with a small model: it shows early training.", ("quick",)),
    Word("real", "Multi30k or Tatoeba, and a model that a CPU trains in minutes.", ("real",)),
    Word("gpu", "the large model, which needs a GPU.", ("gpu",)),
    Word(
        "stored statistics",
        "the means and deviations that batch norm collects in training and uses in evaluation. Own"
        " statistics are those of the current batch.",
        ("batch (", "train_eval_gap"),
    ),
    Word(
        "per step",
        "batch norm stores a mean and a deviation for every time step, and uses the last ones for"
        " all later steps; for the input it stores one pair. This is norm=batch.",
        ("per step",),
    ),
    Word(
        "per step, the input too",
        "the input's statistics are also stored for every step.",
        ("the input too",),
    ),
    Word("shared", "batch norm stores one mean and one deviation for all time steps.", ("shared",)),
    Word(
        "gain",
        "the learned factor of the normalised sum; the value given is the initial one.",
        ("gain",),
    ),
)
REPORTED_ONLY = Word(
    "reported only", "measured, but not part of the claim: the verdict does not depend on it."
)


def glossary(groups: Sequence[Group]) -> list[Word]:
    """Return the terms that a report of these groups uses."""
    places = {name for g in groups for name in (g.experiment, g.size, g.corpus)}
    norms = ", ".join(norm for group in groups for norm in group.norms)
    used = {
        name: experiment
        for name, experiment in EXPERIMENTS.items()
        if name in places
        or (experiment.design.compares_norms and any(group.compares_norms for group in groups))
    }
    words = [
        word
        for word in WORDS
        if not word.of or any(part in places or part in norms for part in word.of)
    ]
    words += [word for experiment in used.values() for word in experiment.words]
    return words + [REPORTED_ONLY] * any(name in places for name in EXPERIMENTS)
