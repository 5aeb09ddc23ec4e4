"""The words that a report uses, for who has not read the papers."""

from collections.abc import Sequence
from dataclasses import dataclass

from .records import Group

EXPLAINER = "docs/normalization.md"
"""Where the rest is explained, in the project's folder; in Chinese beside it."""


@dataclass(frozen=True)
class Word:
    """What a word, or several, mean."""

    term: str
    meaning: str
    where: tuple[str, ...] = ()
    """The experiments, corpora and sizes that it is of; any, where there is none."""


WORDS = (
    Word("none, batch, layer, rms", "what the recurrent cells normalise the sums that come into them by: by nothing; "
         "by mean and deviation over the sentences of a batch; by those over the features of one sentence; by the "
         "root of the mean square over these. See The norms below."),
    Word("seed", "one training from its own initial weights and order of sentences. How far seeds lie apart is "
         "chance."),
    Word("95% interval", "where the mean over ever more seeds lies, but for one time in twenty, if seeds differ "
         "normally."),
    Word("BLEU, chrF", "how much of the translations' wording is the reference's: from 0 to 100, higher is better."),
    Word("loss, nats/token", "minus the logarithm of the probability that a model gives a piece of the reference "
         "translation, given those before: lower is better. 0.01 less is a probability 1% higher."),
    Word("token, piece", "sentences are cut into frequent pieces of words; a target token is one of a translation."),
    Word("update", "one step of the optimizer, on one batch of sentences."),
    Word("grammar_en_zh", "the built-in corpus: pairs of English and Chinese sentences, drawn from a grammar.",
         ("grammar_en_zh",)),
    Word("quick", "minutes on two cores, with a small model: it shows early training.", ("quick",)),
    Word("stored statistics", "the means and deviations by which batch norm normalises in use, gathered in training; "
         "its own statistics are those of the batch at hand.", ("length", "train_eval_gap")),
    Word("batch (per step), batch (shared)", "which statistics batch norm stores: a mean and a deviation for every "
         "time step, of which the last serve for all steps beyond (the input's are one pair for all steps), as "
         "everywhere else on this page; or one pair for all steps.", ("length",)),
    Word("bucket", "test sentences of about one length.", ("length",)),
    Word("test_long", "the built-in corpus's test sentences that are longer than any in training.",
         ("train_eval_gap",)),
    Word("stored deviations", "the unit of a distance between means: the deviation that batch norm has stored.",
         ("train_eval_gap",)),
    Word("gain", "what a norm multiplies the normalised sum by: learnt, from the value given.", ("gradient_flow",)),
    Word("u + z", "what a cell sums: u comes from its input, z from its state of the step before.", ("gradient_flow",)),
    Word("|d loss / d h_t|", "how much the loss depends on the state of time step t: what training has to go by there.",
         ("gradient_flow",)),
    Word("reported only", "measured, but no part of the claim: the verdict doesn't depend on it."),
)


def glossary(groups: Sequence[Group]) -> list[Word]:
    """The words that a report of these groups of runs uses."""
    here = {place for group in groups for place in (group.experiment, group.size, group.corpus)}
    return [word for word in WORDS if not word.where or here & set(word.where)]
