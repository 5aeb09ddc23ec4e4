"""Several translators that search together.

M members, R hypotheses, S source steps, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model import Translator
from ..model.kernels import best_log_probs


@dataclass
class Several:
    """The state, or the encoded source, of each member."""

    parts: list[Any]

    def select(self, rows: Tensor) -> "Several":
        """Return those of these rows, in this order."""
        return Several([part.select(rows) for part in self.parts])

    def with_rows(self, other: "Several") -> "Several":
        """Return the states with the rows of others behind their own."""
        both = zip(self.parts, other.parts, strict=True)
        return Several([part.with_rows(new) for part, new in both])

    def empty(self, capacity: int) -> "Several":
        """Return memories of `capacity` sentences to be `put` there."""
        return Several([part.empty(capacity) for part in self.parts])

    def put(self, other: "Several", taken: slice, place: int) -> None:
        """Copy sentences of other memories to the places from `place` on."""
        for part, new in zip(self.parts, other.parts, strict=True):
            part.put(new, taken, place)

    def move(self, sources: Tensor, places: Tensor) -> None:
        """Copy the sentences in places `sources` to others."""
        for part in self.parts:
            part.move(sources, places)

    def first(self, sentences: int, steps: int) -> "Several":
        """Return the first sentences and source steps, as views."""
        return Several([part.first(sentences, steps) for part in self.parts])


class Ensemble(nn.Module):
    """Translators with one vocabulary, as one: p(y_t) is the mean of theirs."""

    def __init__(self, members: Sequence[Translator]) -> None:
        """Take the members; ValueError if their vocabularies differ in size."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.translators = list(members)
        self.vocabulary, self.backend = members[0].vocabulary, members[0].backend
        self.device = members[0].device
        sizes = {(m.vocabulary.src_size, m.vocabulary.tgt_size) for m in members}
        if len(sizes) > 1:
            raise ValueError(f"an ensemble of vocabularies of {sorted(sizes)} pieces: expected one")

    def load_kernels(self) -> None:
        """Compile or load the kernels of every member."""
        for member in self.translators:
            member.load_kernels()

    def encode(self, src: Tensor, src_lengths: Tensor) -> tuple[Several, Several]:
        """Return the memory of src (B, S) and the first state of every member."""
        encoded = [member.encode(src, src_lengths) for member in self.translators]
        return Several([memory for memory, _ in encoded]), Several([state for _, state in encoded])

    def step(
        self, tokens: Tensor, state: Several, memory: Several, shortlist: Tensor | None = None
    ) -> tuple[Tensor, Several, Tensor | None]:
        """Return logits (R, V), or (R, W) of a shortlist, the next states and weights (R, S).

        The logits are the logarithm of the mean of the members' probabilities, the weights the mean
        over the members that have attention.
        """
        steps = [
            member.step(tokens, own, its_memory, shortlist)
            for member, own, its_memory in zip(
                self.translators, state.parts, memory.parts, strict=True
            )
        ]
        each = torch.stack([torch.log_softmax(logits, dim=1) for logits, _, _ in steps])
        log_probs = each.logsumexp(dim=0)
        weights = [weight for _, _, weight in steps if weight is not None]
        mean = torch.stack(weights).mean(dim=0) if weights else None
        return log_probs - math.log(len(steps)), Several([own for _, own, _ in steps]), mean

    def best_step(
        self, tokens: Tensor, state: Several, memory: Several, count: int
    ) -> tuple[Tensor, Tensor, Several, Tensor | None]:
        """Return the best next words but pad and bos, in place of the logits of `step`.

        Their log-probabilities and ids (R, count), the likeliest first; the next states, weights.
        """
        logits, state, weights = self.step(tokens, state, memory)
        return (
            *best_log_probs(logits, self.vocabulary.never_next, count, self.backend),
            state,
            weights,
        )
