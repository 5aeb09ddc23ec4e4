"""Translations that are drawn at random from the model, instead of searched for.

B sentences, K draws of each, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import Sampling


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
        """Return a next piece (B, K) for each draw.

        log_probs (B, K, V) are the model's, sentences (B,) their positions among all.
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
