"""Batched beam search over a translator's steps, or drawing; greedy search is a beam of 1.

B sentences are active at a time, K hypotheses each. Sentences that are over make room for others,
which have been encoded together and have their first words: so that a step always has many rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from ..config import DecodeConfig, Sampling
from ..data.shortlist import Shortlist
from ..model import Translator
from ..rnn import frozen
from .active import Active, Task
from .ensemble import Ensemble
from .history import Hypothesis
from .sampling import Draws

REFILL = 16
"""Waiting sentences are taken in once a REFILL-th of the places is free."""
MOST_PLACES = 2**20
"""Source steps of the sentences that are active together, padding included: 64 of 16,384 pieces."""
MOST_KEPT_WEIGHTS = 2**27
"""Attention weights kept for the sentences that are active together: 512 MiB."""


class Search:
    """A search under way: the sentences that are active, those that begin and those that wait."""

    def __init__(self, task: Task, waiting: NDArray[np.int64]) -> None:
        """Let the sentences at these positions wait."""
        self.task, self.waiting = task, waiting
        self.capacity = min(task.config.sentences, len(waiting))
        self.active, self.begun = Active(task), Active(task)
        self.used = 0
        """How many of those that have begun are active."""

    def run(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Yield (position, hypotheses) of each sentence once it is over."""
        yield from self.admit()
        while len(self.active):
            yield from self.active.step()
            yield from self.admit()

    def admit(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Fill the room with sentences that have begun; yield those that are over at once."""
        room = self.capacity - len(self.active)
        if len(self.active) and room * REFILL < self.capacity:
            return
        while room and (self.used < len(self.begun) or len(self.waiting)):
            if self.used == len(self.begun):
                yield from self.begin()
            taken = slice(self.used, min(self.used + room, len(self.begun)))
            if taken.start < taken.stop:
                self.active.join(self.begun, taken, self.capacity)
            self.used = taken.stop
            if self.used == len(self.begun):
                self.begun, self.used = Active(self.task), 0  # its memory is free for the steps
            room = self.capacity - len(self.active)

    def begin(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Encode waiting sentences and choose their first words; yield those that are over then."""
        chosen, self.waiting = np.split(self.waiting, [self.capacity])
        model, lengths = self.task.model, self.task.lengths[chosen]
        ids = model.vocabulary
        rows = [torch.tensor([*self.task.sentences[i], ids.eos_id]) for i in chosen]
        src = pad_sequence(rows, batch_first=True, padding_value=ids.pad_id).to(model.device)
        self.begun.begin(chosen, *model.encode(src, torch.from_numpy(lengths)))
        yield from self.begun.step()


def together(task: Task) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of sentences to search for together.

    All that have pieces are, but very long ones: fewer of them than may be active fit into
    MOST_PLACES, or have attention weights that fit into MOST_KEPT_WEIGHTS.
    """
    lengths, most = task.lengths, task.config.sentences
    order = np.argsort(-lengths, kind="stable")
    left = order[lengths[order] > 1]
    fits = MOST_PLACES // lengths
    if task.attends:
        weights = lengths * task.limits(np.arange(len(lengths))) * task.config.beam_size
        fits = np.minimum(fits, MOST_KEPT_WEIGHTS // np.maximum(weights, 1))
    while len(left) and (fitting := max(1, int(fits[left[0]]))) < most:
        now, left = np.split(left, [fitting])
        yield now
    if len(left):
        yield left


@torch.no_grad()
def search_in_batches(
    model: Translator | Ensemble,
    sentences: Sequence[Sequence[int]],
    config: DecodeConfig,
    n_best: int = 1,
    return_attention: bool = False,
    sampling: Sampling | None = None,
    first: int = 0,
    shortlist: Shortlist | None = None,
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Yield (position, the n_best translations, best first) of each sentence, as they are found.

    Sentences are ids without eos; those without pieces have the empty translation, and come first.
    At most `config.sentences` are active at a time. A sentence is over once beam_size of its
    hypotheses have ended, or n_best that none of the others can beat, or at its largest length:
    there, unfinished hypotheses compete as they are. With `sampling` there are n_best independent
    draws instead of a beam; `first` is the number of the first sentence, on which they depend. With
    `shortlist` a sentence becomes words of its own shortlist alone, decode.shortlist of each piece.
    The model's weights must not change before the last sentence: see `frozen`.

    Raises ValueError for settings out of range, NotFiniteError for a model whose probabilities are
    not finite.
    """
    if sampling is not None:
        config = replace(config, beam_size=n_best)
    if not 1 <= n_best <= config.beam_size:
        raise ValueError(f"n_best={n_best}: expected 1 to beam_size={config.beam_size}")
    for i, s in enumerate(sentences):
        if not len(s):
            yield i, [Hypothesis([], 0.0, 0.0, ended=False)]
    draws = None if sampling is None else Draws(sampling, first, n_best)
    words = None if shortlist is None else shortlist.words(sentences, config.shortlist)
    task = Task(model, sentences, config, n_best, return_attention, draws, words)
    model.load_kernels()
    with frozen(model):
        for waiting in together(task):
            yield from Search(task, waiting).run()
