"""Translation quality by length of the source: up to the longest sentence trained on, and
beyond.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

from ..config import has_statistics
from ..rnn.config import NormKind
from ..rnn.recalibration import batch_statistics
from ..translation.likelihood import mean_nll
from ..translation.lines import translate_lines
from ..translation.scores import score
from .subject import Subject

Pairs = tuple[list[str], list[str]]


def length(subject: Subject) -> Iterator[dict[str, Any]]:
    """For each bucket of source pieces (more than `over`, at most `pieces`): loss, BLEU and chrF of
    its sentences.

    Pieces count eos, as the encoder's time steps do; `trained` is the most of any training
    sentence. `statistics`: which ones batch norm normalised by, the `running` ones or, where the
    bucket has sentences enough, the `batch`'s own; `running` for every other norm, which has none.
    `nll` is in nats a target token, teacher-forced; `length_ratio` the hypotheses' characters over
    the references'.

    The search knows no later steps than the one it is at: where the input's own statistics are
    pooled over all steps (norm.statistics=sequence_input), it takes the step's.
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
    """(over, at most, source and target lines) of each bucket that has sentences, from all test
    sets together.
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
    """Teacher-forced loss, and scores of the configured search's translations."""
    config, model = subject.config, subject.model
    src, tgt = pairs
    nll = mean_nll(model, [subject.batch(src, tgt)], config, subject.device)
    found = translate_lines(
        model, subject.prepared.tokenizers, src, config.decode, precision=config.trainer.precision
    )
    texts = [best[0].text for best in found]
    scores = score(texts, tgt, config.data.target_language)
    return {
        "nll": nll,
        "bleu": scores.bleu,
        "chrf": scores.chrf,
        "length_ratio": sum(map(len, texts)) / max(sum(map(len, tgt)), 1),
    }
