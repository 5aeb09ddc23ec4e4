"""The sentences of a search that are translated together: their tensors, hypotheses and next step.

B sentences, K hypotheses each, R rows (B before the first words, then B * K), S source steps, V
vocabulary, W words of a shortlist.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import DecodeConfig, length_limit
from ..errors import NotFiniteError
from ..model import Translator
from ..model.kernels import best_of, log_sum_exp
from .beams import Beams, Candidates
from .constraints import MINUS_INFINITY, forbid
from .ensemble import Ensemble
from .history import Chosen, History, Hypothesis
from .next_words import drawn, likeliest, of_all_words, of_shortlist
from .sampling import Draws

LONGEST = 2**31
"""Pieces that no translation reaches; more would overflow."""


@dataclass
class Task:
    """What a search is for, and how it searches."""

    model: Translator | Ensemble
    sentences: Sequence[Sequence[int]]  # N, ids without eos
    config: DecodeConfig
    n_best: int
    attends: bool
    draws: Draws | None  # None: a beam
    shortlist: NDArray[np.int32] | None  # (N, W) words that each may become, then -1; None: all
    lengths: NDArray[np.int64] = field(init=False)  # (N,) with eos

    def __post_init__(self) -> None:
        self.lengths = np.array([len(s) + 1 for s in self.sentences])

    @property
    def has_rules(self) -> bool:
        """Whether min_length or no_repeat_ngram is set."""
        return self.config.min_length > 0 or self.config.no_repeat_ngram > 0

    @property
    def is_plain(self) -> bool:
        """Whether it is a beam search among all words, without rules."""
        return self.draws is None and self.shortlist is None and not self.has_rules

    def limits(self, sentences: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the largest lengths of the translations of these sentences."""
        factor, extra = length_limit(self.config.max_length)
        limits = np.minimum((self.lengths[sentences] - 1) * factor + extra, LONGEST)
        found: NDArray[np.int64] = limits.astype(np.int64)
        return found.clip(min=max(1, self.config.min_length))


class Active:
    """Sentences that are translated together.

    Sentences that begin have one row each. From their first words on they have K, and can join
    others that are on their way.
    """

    def __init__(self, task: Task) -> None:
        """Start without sentences."""
        self.task, self.device = task, task.model.device
        self.beams = Beams(task.config, task.n_best, task.draws is not None)
        self.history = History()
        self.memory: Any = None  # of the sentences, in the order of the beams
        self.state: Any = None  # of R rows
        self.words = torch.zeros(0, dtype=torch.long, device=self.device)  # (R,) the last ones

    def __len__(self) -> int:
        return len(self.beams)

    def begin(self, sentences: NDArray[np.int64], memory: Any, state: Any) -> None:
        """Take in the first sentences, encoded."""
        self.beams.begin(sentences, self.task.limits(sentences))
        self.memory, self.state = memory, state
        self.words = self.words.new_full((len(sentences),), self.task.model.vocabulary.bos_id)

    def join(self, others: "Active", taken: slice, capacity: int) -> None:
        """Take in others that have just got their first words, behind the present sentences."""
        places, size = len(self), self.task.config.beam_size
        rows = slice(taken.start * size, taken.stop * size)
        before = self.history.join(others.history.steps[-1].of(rows), places * size)
        self.beams.join(others.beams, taken, self.history.end - 1, before)
        if self.memory is None:
            self.memory = others.memory.empty(capacity)
        self.memory.put(others.memory, taken, places)
        state = others.state.select(torch.arange(rows.start, rows.stop, device=self.device))
        self.state = self.state.with_rows(state) if places else state
        self.words = torch.cat([self.words, others.words[rows]])

    def step(self) -> Iterator[tuple[int, list[Hypothesis]]]:
        """Extend every hypothesis by a word; yield the sentences that are over."""
        beams, number, model = self.beams, self.history.end, self.task.model
        steps = int(self.task.lengths[beams.table["sentence"]].max())
        memory, allowed = self.memory.first(len(beams), steps), self.allowed()
        if self.task.is_plain:
            count = min(2 * self.task.config.beam_size, model.vocabulary.tgt_size)
            rows = (self.words, self.state, memory)
            log_probs, words_of_rows, state, weights = model.best_step(*rows, count)
            found = likeliest(log_probs, words_of_rows, beams)
        else:
            logits, state, weights = model.step(self.words, self.state, memory, allowed)
            found = self.candidates(logits, allowed)
        parents, words = beams.advance(found, number, model.vocabulary.eos_id)
        order, kept = beams.retire(number)
        parents, words = parents[order], words[order]
        self.history.append(
            Chosen(words.ravel(), parents.ravel(), weights if self.task.attends else None)
        )
        yield from (self.finished(place) for place in range(kept, len(order)))
        self.keep(order, kept, state, parents[:kept].ravel(), words[:kept].ravel())

    def allowed(self) -> Tensor | None:
        """Return the words that the sentences may become (B, W), then -1; None: all."""
        if self.task.shortlist is None:
            return None
        rows = self.task.shortlist[self.beams.table["sentence"]]
        used = int((rows >= 0).sum(axis=1).max())
        return torch.from_numpy(np.ascontiguousarray(rows[:, :used])).to(self.device)

    def candidates(self, logits: Tensor, allowed: Tensor | None) -> Candidates:
        """Return the best next words of the sentences, or drawn ones.

        logits (R, V), or (R, W) of the `allowed` words (B, W).
        """
        task, config = self.task, self.task.config
        ids, backend, count = task.model.vocabulary, task.model.backend, 2 * config.beam_size
        normaliser = log_sum_exp(logits, backend)
        if allowed is not None and not task.has_rules and task.draws is None:
            log_probs, places = best_of(logits, normaliser, count, backend)
            return likeliest(log_probs, of_shortlist(places, allowed), self.beams)
        if allowed is not None:
            logits = of_all_words(logits, allowed, ids.tgt_size)
        logits[:, ids.never_next] = MINUS_INFINITY
        if task.has_rules:
            starts = self.beams.table["start"].repeat(len(logits) // len(self))
            words = None
            if config.no_repeat_ngram:
                words = torch.from_numpy(self.history.words(starts)).to(self.device)
            lengths = torch.from_numpy(self.history.end - starts).to(self.device)
            forbid(logits, words, lengths, config, ids.eos_id)
        if task.draws is not None:
            return drawn(logits, normaliser, self.beams, task.draws)
        return likeliest(*best_of(logits, normaliser, count, backend), self.beams)

    def finished(self, place: int) -> tuple[int, list[Hypothesis]]:
        """Return the position of a sentence that is over, and its best hypotheses."""
        sentence, start = (int(self.beams.table[name][place]) for name in ("sentence", "start"))
        found = []
        for row, end, ended, log_prob, score in self.beams.best(place).tolist():
            ids, attention = self.history.read(row, start, end)
            if ended and (weights := self.history.weights(end)) is not None:
                attention.append(weights[row])
            length = int(self.task.lengths[sentence])
            map_ = torch.stack([w[:length] for w in attention]) if attention else None
            found.append(Hypothesis(ids, log_prob, score, map_, ended))
        if not found:
            raise NotFiniteError(
                "search found no translation: the model's probabilities are not finite"
            )
        if self.task.draws is not None:
            self.task.draws.forget(sentence)
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
            self.history.forget(int(self.beams.table["start"].min(initial=self.history.end)))
        if len(moved):
            self.memory.move(*(torch.from_numpy(x).to(self.device) for x in (order[moved], moved)))
        if len(parents) != len(self.words) or (np.diff(parents) != 1).any():
            state = state.select(torch.from_numpy(parents).to(self.device))
        self.state, self.words = state, torch.from_numpy(words).to(self.device)
