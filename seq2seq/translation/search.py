"""Batched beam search over a translator's steps, or drawing; greedy search is a beam of 1.

A sentences are active at a time, K hypotheses each: R = A * K rows. S source steps, V vocabulary.
Sentences that are over make room for waiting ones, so that a step always has many rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config import DecodeConfig, Sampling, length_limit
from ..data.shortlist import Shortlist
from ..errors import NotFiniteError
from ..model import Translator
from ..model.kernels import log_sum_exp
from ..rnn import frozen
from .beams import Beams, Candidates
from .constraints import MINUS_INFINITY, forbid
from .ensemble import Ensemble
from .history import Chosen, History
from .next_words import drawn, likeliest, of_all_words
from .sampling import Draws

REFILL = 16
"""Waiting sentences are taken in once a REFILL-th of the places is free."""
MOST_PLACES = 2**20
"""Source steps of the sentences that are active together, padding included: 64 of 16,384 pieces."""
LONGEST = 2**31
"""Pieces that no translation reaches; more would overflow."""


@dataclass
class Hypothesis:
    """One translation of a sentence."""

    ids: list[int]  # of its pieces, without bos and eos
    log_prob: float  # sum over pieces and eos, in nats
    score: float  # log_prob / length ** length_penalty; the length counts eos
    attention: Tensor | None = None  # (T, S) over source pieces and eos, on request
    ended: bool = True  # false: cut at the largest length


@dataclass
class Encoded:
    """Sentences that wait to be translated, encoded together."""

    sentences: NDArray[np.int64]  # their positions among all
    memory: Any  # of the model: a Memory, or Several of an ensemble
    state: Any  # of the model: a DecoderState, or Several
    used: int = 0
    """How many of them have been taken."""

    def __len__(self) -> int:
        return len(self.sentences) - self.used


class Search:
    """A search under way: the model's tensors of the active sentences, and their hypotheses."""

    def __init__(
        self,
        model: Translator | Ensemble,
        sentences: Sequence[Sequence[int]],
        config: DecodeConfig,
        n_best: int,
        attends: bool,
        draws: Draws | None,
        shortlist: NDArray[np.int32] | None,
        waiting: NDArray[np.int64],
    ) -> None:
        """Let the sentences at these positions wait.

        `shortlist` (N, W) holds the words that each sentence may become, then -1.
        """
        self.model, self.sentences, self.config = model, sentences, config
        self.shortlist = shortlist
        self.attends, self.draws = attends, draws
        self.device = next(model.parameters()).device
        self.lengths = np.array([len(s) + 1 for s in sentences])  # with eos
        self.waiting = waiting
        self.capacity = min(config.sentences, len(self.waiting))
        self.beams = Beams(config, n_best, draws is not None)
        self.history = History()
        self.number = 0  # of the next step
        self.encoded: Encoded | None = None
        self.memory: Any = None  # of the active sentences, in the order of the beams
        self.state: Any = None  # of R rows
        self.words = torch.zeros(0, dtype=torch.long, device=self.device)  # (R,) the last ones

    def run(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Yield (position, hypotheses) of each sentence once it is over."""
        while self.admit():
            yield from self.step()

    def admit(self) -> bool:
        """Let waiting sentences fill the room; return whether any sentence is active."""
        room = self.capacity - len(self.beams)
        if len(self.beams) and room * REFILL < self.capacity:
            return True
        while room and (encoded := self.next_encoded()) is not None:
            taken = slice(encoded.used, encoded.used + min(room, len(encoded)))
            self.join(encoded, taken)
            encoded.used = taken.stop
            if not len(encoded):
                self.encoded = None  # its memory is free for the steps
            room = self.capacity - len(self.beams)
        return len(self.beams) > 0

    def next_encoded(self) -> Encoded | None:
        """Return sentences that are encoded but not yet active; encode waiting ones if need be."""
        if self.encoded is None:
            chosen, self.waiting = np.split(self.waiting, [self.capacity])
            if not len(chosen):
                return None
            ids = self.model.vocabulary
            rows = [torch.tensor([*self.sentences[i], ids.eos_id]) for i in chosen]
            src = pad_sequence(rows, batch_first=True, padding_value=ids.pad_id).to(self.device)
            memory, state = self.model.encode(src, torch.from_numpy(self.lengths[chosen]))
            self.encoded = Encoded(chosen, memory, state)
        return self.encoded

    def join(self, encoded: Encoded, taken: slice) -> None:
        """Make encoded sentences active, behind the others."""
        sentences, places = encoded.sentences[taken], len(self.beams)
        factor, extra = length_limit(self.config.max_length)
        limits = np.minimum((self.lengths[sentences] - 1) * factor + extra, LONGEST)
        limits = np.maximum(limits.astype(np.int64), max(1, self.config.min_length))
        self.beams.admit(sentences, limits, self.number)
        if self.memory is None:
            self.memory = encoded.memory.empty(self.capacity)
        self.memory.put(encoded.memory, taken, places)
        size = self.config.beam_size
        rows = torch.arange(taken.start, taken.stop, device=self.device).repeat_interleave(size)
        first = encoded.state.select(rows)
        self.state = first if not places else self.state.with_rows(first)
        bos = self.words.new_full((len(rows),), self.model.vocabulary.bos_id)
        self.words = torch.cat([self.words, bos])

    def step(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Extend every hypothesis by a word; yield the sentences that are over."""
        beams, steps = self.beams, int(self.lengths[self.beams.table["sentence"]].max())
        memory = self.memory.first(len(beams), steps)
        allowed = self.allowed()
        logits, state, weights = self.model.step(self.words, self.state, memory, allowed)
        parents, words = beams.advance(
            self.candidates(logits, allowed), self.number, self.model.vocabulary.eos_id
        )
        order, kept = beams.retire(self.number)
        parents, words = parents[order], words[order]
        self.history.append(
            Chosen(words.ravel(), parents.ravel(), weights if self.attends else None)
        )
        self.number += 1
        yield from (self.finished(place) for place in range(kept, len(order)))
        self.keep(order, kept, state, parents[:kept].ravel(), words[:kept].ravel())

    def allowed(self) -> Tensor | None:
        """Return the words that the active sentences may become (A, W), then -1; None: all."""
        if self.shortlist is None:
            return None
        rows = self.shortlist[self.beams.table["sentence"]]
        used = int((rows >= 0).sum(axis=1).max())
        return torch.from_numpy(np.ascontiguousarray(rows[:, :used])).to(self.device)

    def candidates(self, logits: Tensor, allowed: Tensor | None) -> Candidates:
        """Return the best next words of the active sentences, or drawn ones.

        logits (R, V), or (R, W) of the `allowed` words (A, W).
        """
        ids, backend = self.model.vocabulary, self.model.backend
        normaliser = log_sum_exp(logits, backend)
        has_rules = self.config.min_length > 0 or self.config.no_repeat_ngram > 0
        if allowed is not None and not has_rules and self.draws is None:
            return likeliest(logits, normaliser, self.beams, backend, allowed)
        if allowed is not None:
            logits = of_all_words(logits, allowed, ids.tgt_size)
        logits[:, [ids.pad_id, ids.bos_id]] = MINUS_INFINITY
        if has_rules:
            starts = self.beams.table["start"].repeat(self.config.beam_size)
            words = None
            if self.config.no_repeat_ngram:
                words = torch.from_numpy(self.history.words(starts)).to(self.device)
            lengths = torch.from_numpy(self.number - starts).to(self.device)
            forbid(logits, words, lengths, self.config, ids.eos_id)
        if self.draws is not None:
            return drawn(logits, normaliser, self.beams, self.draws)
        return likeliest(logits, normaliser, self.beams, backend)

    def finished(self, place: int) -> tuple[int, list[Hypothesis]]:
        """Return the position of a sentence that is over, and its best hypotheses."""
        sentence, start = (int(self.beams.table[name][place]) for name in ("sentence", "start"))
        found = []
        for row, end, ended, log_prob, score in self.beams.best(place).tolist():
            ids, attention = self.history.read(row, start, end)
            if ended and (weights := self.history.weights(end)) is not None:
                attention.append(weights[row])
            length = int(self.lengths[sentence])
            map_ = torch.stack([w[:length] for w in attention]) if attention else None
            found.append(Hypothesis(ids, log_prob, score, map_, ended))
        if not found:
            raise NotFiniteError(
                "search found no translation: the model's probabilities are not finite"
            )
        if self.draws is not None:
            self.draws.forget(sentence)
        return sentence, found

    def keep(
        self,
        order: NDArray[np.int64],
        kept: int,
        state: Any,
        parents: NDArray[np.int64],
        words: NDArray[np.int64],
    ) -> None:
        """Keep the first `kept` sentences of a new order, with these rows and last words."""
        moved = np.flatnonzero(order[:kept] != np.arange(kept))
        if kept < len(order):
            self.beams.keep(np.arange(kept))
            self.history.forget(int(self.beams.table["start"].min(initial=self.number)))
        if len(moved):
            self.memory.move(*(torch.from_numpy(x).to(self.device) for x in (order[moved], moved)))
        if len(parents) < len(order) * self.config.beam_size or (np.diff(parents) != 1).any():
            state = state.select(torch.from_numpy(parents).to(self.device))
        self.state, self.words = state, torch.from_numpy(words).to(self.device)


def together(lengths: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of sentences to search for together; the lengths count eos.

    All that have pieces are, but very long ones: fewer than `most` of them fit into MOST_PLACES.
    """
    order = np.argsort(-lengths, kind="stable")
    left = order[lengths[order] > 1]
    while len(left) and (fitting := max(1, MOST_PLACES // int(lengths[left[0]]))) < most:
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
    model.load_kernels()
    with frozen(model):
        for waiting in together(np.array([len(s) + 1 for s in sentences]), config.sentences):
            how = (config, n_best, return_attention, draws, words, waiting)
            yield from Search(model, sentences, *how).run()
