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


@dataclass
class Several:
    """The state, or the encoded source, of each member."""

    parts: list[Any]

    def select(self, rows: Tensor) -> "Several":
        """Return those of these rows, in this order."""
        return Several([part.select(rows) for part in self.parts])


class Ensemble(nn.Module):
    """Translators with one vocabulary, as one: p(y_t) is the mean of theirs."""

    def __init__(self, members: Sequence[Translator]) -> None:
        """Take the members; ValueError if their vocabularies differ in size."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.translators = list(members)
        self.vocabulary = members[0].vocabulary
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
        self, tokens: Tensor, state: Several, memory: Several
    ) -> tuple[Tensor, Several, Tensor | None]:
        """Return log-probabilities (R, V) of the next word, the next states and weights (R, S).

        The weights are the mean over the members that have attention.
        """
        steps = [
            member.step(tokens, own, its_memory)
            for member, own, its_memory in zip(
                self.translators, state.parts, memory.parts, strict=True
            )
        ]
        log_probs = torch.stack([log_probs for log_probs, _, _ in steps]).logsumexp(dim=0)
        weights = [weight for _, _, weight in steps if weight is not None]
        mean = torch.stack(weights).mean(dim=0) if weights else None
        return log_probs - math.log(len(steps)), Several([own for _, own, _ in steps]), mean
