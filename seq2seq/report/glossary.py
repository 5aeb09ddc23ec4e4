"""The words that a report uses, for who has not read the papers."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..runs.records import AXES, Group

EXPLAINER = "docs/normalization.md (in Chinese: docs/normalization.zh.md)"
"""Where the rest is explained, in the project's folder."""


@dataclass(frozen=True)
class Word:
    """What a word, or several, mean."""

    term: str
    meaning: str
    of: tuple[str, ...] = ()
    """Experiments, corpora and sizes that it is needed for, or parts of norms' names; none: for
    all.
    """


WORDS = (
    Word(
        "none, batch, layer, rms",
        "what the recurrent cells normalise the sums that come into them by: by nothing; by mean"
        " and deviation over the sentences of a batch; by those over the features of one sentence;"
        " by the root of the mean square over these.",
    ),
    Word(
        "seed",
        "one training from its own initial weights and order of sentences. How far seeds lie apart"
        " is chance.",
    ),
    Word(
        "95% interval",
        "where the mean over ever more seeds lies, but for one time in twenty, if seeds differ "
        "normally.",
    ),
    Word(
        "p",
        "how likely a difference at least as large would be between two equally good models, over"
        " other test sentences like these.",
        ("convergence",),
    ),
    Word(
        "BLEU, chrF",
        "how much of the translations' wording is the reference's: from 0 to 100, higher is"
        " better.",
    ),
    Word(
        "loss, nats/token",
        "minus the logarithm of the probability that a model gives a piece of the reference "
        "translation, given those before: lower is better. 0.01 less is a probability 1% higher.",
    ),
    Word(
        "token, piece",
        "sentences are cut into frequent pieces of words; a target token is one of a translation.",
    ),
    Word(
        "the loss halfway there",
        "halfway on a logarithmic scale: the geometric mean of the lowest loss at a first "
        "validation and of the lowest that both runs of a seed reach.",
        ("convergence",),
    ),
    Word("learning rate", "how far an update moves the weights."),
    Word("update", "one step of the optimizer, on one batch of sentences."),
    Word("greedy", "of a search that takes the likeliest piece at every step.", ("convergence",)),
    Word(
        "encoder, decoder",
        "the half of a translator that reads the source; the half that writes the translation.",
    ),
    Word(
        "lstm, rnn",
        "recurrent cells: the LSTM, and the plain one, whose state is the tanh of its summed"
        " inputs.",
        ("gradient_flow",),
    ),
    Word(
        "grammar_en_zh",
        "the built-in corpus: pairs of English and Chinese sentences, drawn from a grammar.",
        ("grammar_en_zh",),
    ),
    Word("quick", "minutes on two cores, with a small model: it shows early training.", ("quick",)),
    Word("real", "Multi30k or Tatoeba, and a model that a CPU trains in minutes.", ("real",)),
    Word("gpu", "the large model, for which it takes a GPU.", ("gpu",)),
    Word(
        "stored statistics",
        "the means and deviations by which batch norm normalises in use, gathered in training; "
        "its own statistics are those of the batch at hand.",
        ("batch (", "train_eval_gap"),
    ),
    Word(
        "per step",
        "batch norm stores a mean and a deviation for every time step, of which the last serve for"
        " all beyond; of the input one pair for all steps. So does norm=batch.",
        ("per step",),
    ),
    Word(
        "per step, the input too",
        "the input's are stored for every step as well.",
        ("the input too",),
    ),
    Word("shared", "batch norm stores one mean and one deviation for all time steps.", ("shared",)),
    Word("bucket", "test sentences of about one length.", ("length",)),
    Word(
        "test_long",
        "the built-in corpus's test sentences that are longer than any in training.",
        ("train_eval_gap",),
    ),
    Word(
        "recurrent term, cell",
        "what is normalised: the sum that comes from the state of the step before, and the "
        "LSTM's memory on its way to the output.",
        ("train_eval_gap",),
    ),
    Word(
        "stored deviations",
        "the unit of a distance between means: the deviation that batch norm has stored. One "
        "figure is the mean over terms and the rows of all steps.",
        ("train_eval_gap",),
    ),
    Word(
        "doublings or halvings",
        "how much a size changes over 200 steps, as a power of 2, whichever way it goes.",
        ("gradient_flow",),
    ),
    Word("eps", "a small number under the norm's root.", ("invariance",)),
    Word("dropout", "units silenced by chance in training, and only there.", ("train_eval_gap",)),
    Word("</s>", "the end of a sentence, a piece like the others.", ("convergence",)),
    Word(
        "gain",
        "what a norm multiplies the normalised sum by: learnt, from the value given.",
        ("gain",),
    ),
    Word(
        "u + z",
        "what a cell sums: u comes from its input, z from its state of the step before.",
        ("gradient_flow",),
    ),
    Word(
        "|d loss / d h_t|",
        "how much the loss depends on the state of time step t: what training has to go by there.",
        ("gradient_flow",),
    ),
    Word(
        "reported only",
        "measured, but no part of the claim: the verdict doesn't depend on it.",
        tuple(AXES),
    ),
)


def glossary(groups: Sequence[Group]) -> list[Word]:
    """The words that a report of these groups of runs uses."""
    places = {
        name
        for group in groups
        for name in (
            "convergence" if group.compares_norms else group.experiment,
            group.size,
            group.corpus,
        )
    }
    norms = ", ".join(norm for group in groups for norm in group.norms)
    return [
        word
        for word in WORDS
        if not word.of or any(part in places or part in norms for part in word.of)
    ]
