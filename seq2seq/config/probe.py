"""Settings of the probes, which measure what happens inside a model."""

from dataclasses import dataclass, field
from enum import Enum

from ..rnn import NormConfig, NormKind
from .checks import MOST, check_ranges, number, numbers, only_with

SHORTEST = 3
"""Fewest time steps over which sums can grow: the first step has no recurrent term."""
LONGEST = 100_000
"""Most time steps of a sequence whose gradients are measured."""


class ProbeKind(Enum):
    """What is measured inside a model (seq2seq/probes)."""

    gradient_flow = "gradient_flow"
    train_eval_gap = "train_eval_gap"
    invariance = "invariance"
    length = "length"


@dataclass
class ProbeConfig:
    """What is measured inside the model, for a run's probes.jsonl."""

    kinds: list[ProbeKind] = field(default_factory=list)
    sentences: int = number(64, at_least=1, at_most=MOST)
    """Sentences per batch (gradient_flow, train_eval_gap, invariance)."""
    batches: int = number(10, at_least=1, at_most=MOST)
    """Batches of each set (train_eval_gap)."""
    lengths: list[int] = numbers((10, 20, 50, 100, 200), at_least=SHORTEST, at_most=LONGEST)
    """Time steps of the sequences (gradient_flow)."""
    test_sets: list[str] = field(default_factory=lambda: ["test", "test_long"])
    """Splits to measure besides train, where the corpus has them (length, train_eval_gap)."""
    buckets: list[int] = numbers((10, 20, 30, 45, 60, 100), at_least=1)
    """Longest source of each bucket, in pieces with eos (length)."""
    bucket_sentences: int = number(200, at_least=1, at_most=MOST)
    """Sentences per bucket (length)."""

    def __post_init__(self) -> None:
        check_ranges(self, "probe")
        if self.buckets != sorted(set(self.buckets)):
            raise ValueError(f"probe.buckets={self.buckets}: expected ascending numbers of pieces")
        readers = {
            ("gradient_flow", "train_eval_gap", "invariance"): ("sentences",),
            ("train_eval_gap",): ("batches",),
            ("gradient_flow",): ("lengths",),
            ("length", "train_eval_gap"): ("test_sets",),
            ("length",): ("buckets", "bucket_sentences"),
        }
        chosen = {kind.name for kind in self.kinds}
        for kinds, names in readers.items():
            condition = f"probe.kinds=[{' or '.join(kinds)}]"
            only_with(self, "probe", condition, not chosen.isdisjoint(kinds), *names)


def has_statistics(norm: NormConfig, sentences: int) -> bool:
    """Return whether a batch of so many sentences is normalised by its own statistics.

    Batch norm uses the stored statistics for fewer than `min_rows` rows.
    """
    return norm.kind is not NormKind.batch or sentences >= norm.min_rows
