"""Translation quality by source length, up to the longest training sentence and beyond."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..config import has_statistics
from ..rnn import NormKind, batch_statistics
from ..translation.likelihood import mean_nll
from ..translation.scores import score
from .subject import Subject

Pairs = tuple[list[str], list[str]]


def length(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield loss, BLEU and chrF of the test sentences in each bucket of source lengths.

    A bucket has sentences of more than `over` and at most `pieces` pieces; pieces count eos.

    - trained: the largest number of source pieces in the training set
    - statistics: those that batch norm normalised by, `running` or, if the bucket has enough
      sentences, the `batch`'s own; always `running` for other norms
    - nll: mean negative log-likelihood of a target token in nats, teacher-forced
    - length_ratio: characters of the hypotheses over those of the references

    All sentences of a bucket are one batch, in search too: a sentence that joined a search under
    way would have another step than the others, and no statistics of its own.

    Search has no later steps than the present one. With norm.statistics=sequence_input, pooled
    over all steps in training, it uses the step's own statistics.
    """
    norm = subject.config.norm
    trained = int(subject.prepared.split("train").src_lengths.max())
    for over, pieces, pairs in buckets(subject):
        own = norm.kind is NormKind.batch and has_statistics(norm, len(pairs[0]))
        kinds = ["running", "batch"] if own else ["running"]
        for statistics in kinds:
            with nullcontext() if statistics == "running" else batch_statistics(subject.model):
                yield {
                    "over": over,
                    "pieces": pieces,
                    "trained": trained,
                    "statistics": statistics,
                    "sentences": len(pairs[0]),
                    **measured(subject, pairs),
                }


def buckets(subject: Subject) -> Iterator[tuple[int, int, Pairs]]:
    """Yield (over, at most, source and target lines) of each bucket that has sentences.

    All test sets are taken together.
    """
    tokenizer = subject.prepared.tokenizers.source
    pairs = [
        pair for name in subject.test_sets() for pair in zip(*subject.lines(name), strict=True)
    ]
    lengths = [len(tokenizer.encode(src)) + 1 for src, _ in pairs]
    for over, most in pairwise([0, *subject.config.probe.buckets]):
        found = [pair for pair, n in zip(pairs, lengths, strict=True) if over < n <= most]
        found = found[: subject.config.probe.bucket_sentences]
        if found:
            yield over, most, ([src for src, _ in found], [tgt for _, tgt in found])


def measured(subject: Subject, pairs: Pairs) -> dict[str, float]:
    """Return the teacher-forced loss, and the scores of the configured search."""
    config, (src, tgt) = subject.config, pairs
    nll = mean_nll(subject.model, [subject.batch(src, tgt)], config)
    found = subject.session(replace(config.decode, batch_size=len(src))).translate(src)
    texts = [best[0].text for best in found]
    scores = score(texts, tgt, config.data.splits_for_bleu)
    return {
        "nll": nll,
        "bleu": scores.bleu,
        "chrf": scores.chrf,
        "length_ratio": sum(map(len, texts)) / max(sum(map(len, tgt)), 1),
    }
