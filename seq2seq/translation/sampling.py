"""Translations that are drawn at random from the model, instead of searched for.

A sentences, K draws of each, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import Sampling


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
        scores = scores - scores.amax(
            dim=2, keepdim=True
        )  # so that the division overflows for none
        cumulative = torch.softmax(scores / self.sampling.temperature, dim=2).cumsum(dim=2)
        numbers = [[stream.random() for stream in self.streams[i]] for i in sentences.tolist()]
        uniform = torch.tensor(numbers, dtype=torch.double, device=scores.device)[:, :, None]
        place = torch.searchsorted(cumulative, uniform * cumulative[:, :, -1:], right=True)
        place = place.clamp(max=scores.size(2) - 1)
        return (place if words is None else words.gather(2, place))[:, :, 0]
