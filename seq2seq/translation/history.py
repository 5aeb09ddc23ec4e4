"""What a search has chosen at each step, and the translations that are read back from it.

R hypotheses at a step, S source steps.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad


@dataclass
class Hypothesis:
    """One translation of a sentence."""

    ids: list[int]  # of its pieces, without bos and eos
    log_prob: float  # sum over pieces and eos, in nats
    score: float  # log_prob / length ** length_penalty; the length counts eos
    attention: Tensor | None = None  # (T, S) over source pieces and eos, on request
    ended: bool = True  # false: cut at the largest length


@dataclass
class Chosen:
    """The hypotheses after one step, and what they continue."""

    words: NDArray[np.int64]  # (R,) the last word of each
    parents: NDArray[np.int64]  # (R,) its row in the step before, without this word
    weights: Tensor | None  # (rows of the step before, S) attention, if asked for

    def of(self, rows: slice) -> "Chosen":
        """Return these hypotheses alone; the i-th continues row i of the step before."""
        words, parents = self.words[rows], self.parents[rows]
        weights = None if self.weights is None else self.weights[torch.from_numpy(parents)]
        return Chosen(words, np.arange(len(words)), weights)


@dataclass
class History:
    """The steps of a search, as far back as an active sentence needs them."""

    first: int = 0
    """Number of the oldest step that is kept."""
    steps: deque[Chosen] = field(default_factory=deque)

    @property
    def end(self) -> int:
        """Number of the next step."""
        return self.first + len(self.steps)

    def append(self, chosen: Chosen) -> None:
        """Add the next step."""
        self.steps.append(chosen)

    def join(self, others: Chosen, kept: int) -> int:
        """Let hypotheses with their first words follow the first `kept` of the last step.

        Return the row of the step before that the first of them continues.
        """
        if not self.steps:
            self.append(others)
            return 0
        last, before, weights = self.steps[-1], 0, None
        if last.weights is not None and others.weights is not None:
            both, before = (last.weights, others.weights), len(last.weights)
            steps = max(w.size(1) for w in both)
            weights = torch.cat([pad(w, (0, steps - w.size(1))) for w in both])
        words = np.concatenate([last.words[:kept], others.words])
        parents = np.concatenate([last.parents[:kept], others.parents + before])
        self.steps[-1] = Chosen(words, parents, weights)
        return before

    def forget(self, before: int) -> None:
        """Drop the steps before this one."""
        while self.steps and self.first < before:
            self.steps.popleft()
            self.first += 1

    def read(self, row: int, start: int, end: int) -> tuple[list[int], list[Tensor]]:
        """Return the words of steps start to end - 1, and their attention (S,) where it is kept.

        `row` is the hypothesis' row after the last of these steps.
        """
        words, attention = [], []
        for number in range(end - 1, start - 1, -1):
            chosen = self.steps[number - self.first]
            words.append(int(chosen.words[row]))
            row = int(chosen.parents[row])
            if chosen.weights is not None:
                attention.append(chosen.weights[row])
        return words[::-1], attention[::-1]

    def weights(self, number: int) -> Tensor | None:
        """Return the attention of a step's rows, if it is kept."""
        return self.steps[number - self.first].weights

    def words(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the words so far (R, t) of the last step's hypotheses, with -1 before the first.

        starts (R,) are the steps of their first words.
        """
        end, rows = self.end, np.arange(len(starts))
        oldest = int(starts.min(initial=end))
        words = np.full((len(starts), end - oldest), -1)
        for number in range(end - 1, oldest - 1, -1):
            chosen, begun = self.steps[number - self.first], starts <= number
            words[begun, number - oldest] = chosen.words[rows[begun]]
            rows[begun] = chosen.parents[rows[begun]]
        return words
