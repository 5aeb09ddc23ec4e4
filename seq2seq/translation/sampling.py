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
    """Random numbers for K draws of each sentence.

    They depend on the seed, the sentence's number and the draw's number alone, so that neither the
    batch nor the number of draws matters.
    """

    def __init__(self, sampling: Sampling, first: int, count: int) -> None:
        """Draw `count` times for each sentence; they are numbered from `first` on."""
        self.sampling, self.first, self.count = sampling, first, count
        self.streams: dict[int, list[np.random.Generator]] = {}

    def words(self, log_probs: Tensor, sentences: Sequence[int]) -> Tensor:
        """Return a next piece (A, K) for each draw.

        log_probs (A, K, V) are the model's, sentences (A,) their positions among all.
        """
        scores, words = log_probs.double(), None
        if 0 < self.sampling.top_k < scores.size(2):
            scores, words = scores.topk(self.sampling.top_k, dim=2)
        scores = scores - scores.amax(dim=2, keepdim=True)  # the division overflows for none
        cumulative = torch.softmax(scores / self.sampling.temperature, dim=2).cumsum(dim=2)
        numbers = [[stream.random() for stream in self.streams_of(i)] for i in sentences]
        uniform = torch.tensor(numbers, dtype=torch.double, device=scores.device)[:, :, None]
        place = torch.searchsorted(cumulative, uniform * cumulative[:, :, -1:], right=True)
        place = place.clamp(max=scores.size(2) - 1)
        return (place if words is None else words.gather(2, place))[:, :, 0]

    def streams_of(self, sentence: int) -> list[np.random.Generator]:
        """Return the random numbers of a sentence's draws, begun at its first step."""
        if sentence not in self.streams:
            self.streams[sentence] = [
                np.random.default_rng([self.sampling.seed, self.first + sentence, draw])
                for draw in range(self.count)
            ]
        return self.streams[sentence]

    def forget(self, sentence: int) -> None:
        """Drop the random numbers of a sentence that is over."""
        self.streams.pop(sentence, None)
