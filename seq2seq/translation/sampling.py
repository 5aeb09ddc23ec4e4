"""Translations that are drawn at random from the model, instead of searched for.

A sentences, K draws of each, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config.checks import Range


@dataclass(frozen=True)
class Sampling:
    """How to draw: each piece in turn, with probability proportional to p ** (1 / temperature)."""

    temperature: float = 1.0
    """Below 1 likely pieces are drawn more often, above 1 less often."""
    top_k: int = 0
    """Draw among the K most likely pieces only (Fan et al. 2018, arXiv:1805.04833); 0: all."""
    seed: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range, under the name of its option."""
        count = Range(at_least=0)
        for name, bounds in {"temperature": Range(above=0), "top_k": count, "seed": count}.items():
            value = getattr(self, name)
            if value not in bounds:
                raise ValueError(f"--{name.replace('_', '-')} {value}: expected {bounds}")


class Draws:
    """Random numbers for `count` draws of each sentence of a batch.

    They depend on the seed, the sentence's number and the draw's number alone, so that neither the
    batch nor the number of draws matters.
    """

    def __init__(self, sampling: Sampling, numbers: Sequence[int], count: int) -> None:
        """Begin the streams of the sentences with these numbers."""
        self.sampling, self.count = sampling, count
        self.streams = [
            [np.random.default_rng([sampling.seed, number, draw]) for draw in range(count)]
            for number in numbers
        ]

    def words(self, log_probs: Tensor, sentences: Tensor) -> Tensor:
        """Return a next piece (A, K) for each draw.

        log_probs (A, K, V) are the model's, sentences (A,) the sentences' indices in the batch.
        """
        scores, words = log_probs.double(), None
        if 0 < self.sampling.top_k < scores.size(2):
            scores, words = scores.topk(self.sampling.top_k, dim=2)
        scores = scores - scores.amax(dim=2, keepdim=True)  # the division overflows for none
        cumulative = torch.softmax(scores / self.sampling.temperature, dim=2).cumsum(dim=2)
        numbers = [[stream.random() for stream in self.streams[i]] for i in sentences.tolist()]
        uniform = torch.tensor(numbers, dtype=torch.double, device=scores.device)[:, :, None]
        place = torch.searchsorted(cumulative, uniform * cumulative[:, :, -1:], right=True)
        place = place.clamp(max=scores.size(2) - 1)
        return (place if words is None else words.gather(2, place))[:, :, 0]
