"""Batched beam search over a translator's steps, or drawing; greedy search is a beam of 1.

B sentences in the batch, A of them still active, K hypotheses each, S source steps, t target steps
so far, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config import DecodeConfig, Sampling, length_limit
from ..model import Translator
from .constraints import MINUS_INFINITY, forbid
from .ensemble import Ensemble
from .sampling import Draws

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
class _Search:
    """The beams of a batch's active sentences, and the finished hypotheses of all sentences.

    The rows of `state` are A * K: the hypotheses of a sentence lie together.
    """

    config: DecodeConfig
    src_lengths: list[int]  # of each of the B sentences
    finished: list[list[Hypothesis]]  # of each of the B sentences
    sentences: Tensor  # (A,) index in the batch of each beam's sentence
    limits: Tensor  # (A,) largest length of a translation
    log_probs: Tensor  # (A, K) of the hypotheses so far, in nats
    tokens: Tensor  # (A, K, t) pieces so far
    attends: bool  # whether attention is asked for
    attention: Tensor | None  # (A, K, t, S); None before the first step
    state: Any  # of the model: a DecoderState, or Several of an ensemble
    memory: Any  # of the model: a Memory, or Several
    draws: Draws | None  # random numbers; None: beam search

    def width(self) -> int:
        """Return the hypotheses per sentence in the state: 1 before the first step, then K."""
        return self.tokens.size(1)

    def advance(self, log_probs: Tensor, weights: Tensor | None, eos_id: int) -> None:
        """Take one step of every beam: finish the hypotheses that end, extend the best others.

        log_probs (A * K, V) are those of the next piece, weights (A * K, S) its attention.
        """
        beams, width = self.sentences.size(0), self.width()
        if weights is not None:
            weights = weights.view(beams, width, -1)
            if self.attends and self.attention is None:
                self.attention = weights.new_zeros(beams, width, 0, weights.size(2))
        log_probs = log_probs.view(beams, width, -1)
        choose = self.best if self.draws is None else self.drawn
        best, parents, words = choose(self.log_probs[:, :, None] + log_probs, log_probs)
        ends = words == eos_id
        competing = torch.arange(best.size(1), device=ends.device) < self.config.beam_size
        for beam, rank in (ends & competing & best.isfinite()).nonzero().tolist():
            self.finish(beam, int(parents[beam, rank]), float(best[beam, rank]), True, weights)
        best = best.masked_fill(ends, MINUS_INFINITY)
        if self.draws is None:  # those that do not end, best first
            order = ends.long().argsort(dim=1, stable=True)[:, : self.config.beam_size]
            best, parents, words = (x.gather(1, order) for x in (best, parents, words))
        self.log_probs = best
        self.extend(parents, words, weights)

    def best(self, totals: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best candidates' log-probabilities, parents and words.

        totals (A, K, V) are the log-probabilities with each next word. One candidate of each
        hypothesis ends: `width` more than a beam are enough.
        """
        count = min(self.config.beam_size + totals.size(1), totals[0].numel())
        best, index = totals.flatten(1).topk(count, dim=1)
        return best, index // totals.size(2), index % totals.size(2)

    def drawn(self, totals: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each draw's log-probability, parent and next word, which is drawn."""
        assert self.draws is not None
        beams, width, count = *totals.shape[:2], self.draws.count
        parents = torch.arange(count, device=totals.device).clamp(max=width - 1).expand(beams, -1)
        words = self.draws.words(log_probs.expand(-1, count, -1), self.sentences)
        chosen = totals.expand(-1, count, -1).gather(2, words[:, :, None])[:, :, 0]
        return chosen, parents, words

    def extend(self, parents: Tensor, words: Tensor, weights: Tensor | None) -> None:
        """Continue the hypotheses parents (A, K) by words (A, K); weights (A, K, S)."""
        beams = torch.arange(parents.size(0), device=parents.device)[:, None]
        self.state = self.state.select((beams * self.width() + parents).flatten())
        self.tokens = torch.cat([self.tokens[beams, parents], words[:, :, None]], dim=2)
        if self.attention is not None and weights is not None:
            chosen = weights[beams, parents][:, :, None]
            self.attention = torch.cat([self.attention[beams, parents], chosen], dim=2)

    def finish(
        self, beam: int, rank: int, log_prob: float, ended: bool, weights: Tensor | None = None
    ) -> None:
        """Add a beam's hypothesis to the finished ones; `ended`: eos follows, with its weights."""
        sentence, ids = int(self.sentences[beam]), self.tokens[beam, rank].tolist()
        attention = None
        if self.attention is not None:
            attention = self.attention[beam, rank]
            if weights is not None:
                attention = torch.cat([attention, weights[beam, rank][None]])
            attention = attention[:, : self.src_lengths[sentence]]  # without the batch's padding
        score = log_prob / (len(ids) + ended) ** self.config.length_penalty
        self.finished[sentence].append(Hypothesis(ids, log_prob, score, attention, ended))

    def retire(self) -> None:
        """Take finished sentences out of the batch.

        At its largest length a sentence's unfinished hypotheses count as they are.
        """
        length, active = self.tokens.size(2), []
        limits, possible = self.limits.tolist(), self.log_probs.isfinite().any(dim=1).tolist()
        for beam, sentence in enumerate(self.sentences.tolist()):
            if len(self.finished[sentence]) >= self.config.beam_size:
                continue
            if length < limits[beam] and possible[beam]:
                active.append(beam)
                continue
            for rank, log_prob in enumerate(self.log_probs[beam].tolist()):
                if log_prob > MINUS_INFINITY:
                    self.finish(beam, rank, log_prob, ended=False)
        if len(active) < self.sentences.size(0):
            self.keep(torch.tensor(active, dtype=torch.long, device=self.sentences.device))

    def keep(self, beams: Tensor) -> None:
        """Keep these beams (A',) alone."""
        width = self.width()
        rows = (beams[:, None] * width + torch.arange(width, device=beams.device)).flatten()
        self.state, self.memory = self.state.select(rows), self.memory.select(beams)
        self.sentences, self.limits = self.sentences[beams], self.limits[beams]
        self.log_probs, self.tokens = self.log_probs[beams], self.tokens[beams]
        self.attention = None if self.attention is None else self.attention[beams]


@torch.no_grad()
def beam_search(
    model: Translator | Ensemble,
    src: Tensor,
    src_lengths: Tensor,
    config: DecodeConfig,
    n_best: int = 1,
    return_attention: bool = False,
    draws: Draws | None = None,
) -> list[list[Hypothesis]]:
    """Return the n_best translations of each sentence, best first.

    src (B, S) are ids that end in eos, src_lengths (B,). A sentence is finished once beam_size of
    its hypotheses have ended, or at its largest length: there, unfinished hypotheses compete as
    they are. With `draws` each hypothesis is drawn word by word instead, beam_size of them.
    Raises ValueError for settings out of range, RuntimeError for a model whose probabilities are
    not finite.
    """
    if not 1 <= n_best <= config.beam_size:
        raise ValueError(f"n_best={n_best}: expected 1 to beam_size={config.beam_size}")
    memory, state = model.encode(src, src_lengths)
    search = _start(memory, state, src, src_lengths, config, return_attention, draws)
    ids = model.vocabulary
    words = torch.full((src.size(0),), ids.bos_id, device=src.device)
    while search.sentences.numel():
        log_probs, search.state, weights = model.step(words, search.state, search.memory)
        log_probs[:, [ids.pad_id, ids.bos_id]] = MINUS_INFINITY
        forbid(log_probs, search.tokens.flatten(0, 1), config, ids.eos_id)
        search.advance(log_probs, weights, ids.eos_id)
        search.retire()
        words = search.tokens[:, :, -1].flatten()
    if not all(search.finished):
        raise RuntimeError("search found no translation: the model's probabilities are not finite")
    return [sorted(found, key=lambda h: -h.score)[:n_best] for found in search.finished]


def _start(
    memory: Any,
    state: Any,
    src: Tensor,
    src_lengths: Tensor,
    config: DecodeConfig,
    attends: bool,
    draws: Draws | None,
) -> _Search:
    batch = src.size(0)
    factor, extra = length_limit(config.max_length)
    limits = (src_lengths.to(src.device) - 1) * factor + extra
    return _Search(
        config,
        src_lengths.tolist(),
        finished=[[] for _ in range(batch)],
        sentences=torch.arange(batch, device=src.device),
        limits=limits.clamp(max=LONGEST).long().clamp(min=max(1, config.min_length)),
        log_probs=src.new_zeros(batch, 1, dtype=torch.float),
        tokens=src.new_zeros(batch, 1, 0),
        attends=attends,
        attention=None,
        state=state,
        memory=memory,
        draws=draws,
    )


def search_in_batches(
    model: Translator | Ensemble,
    sentences: Sequence[Sequence[int]],
    config: DecodeConfig,
    n_best: int = 1,
    return_attention: bool = False,
    sampling: Sampling | None = None,
    first: int = 0,
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Yield (position, hypotheses) of each sentence, in batches from the longest to the shortest.

    Sentences are ids without eos. One without pieces has the empty translation, and comes first.
    With `sampling` there are n_best independent draws instead of a beam; `first` is the number of
    the first sentence, on which they depend.
    """
    if sampling is not None:
        config = replace(config, beam_size=n_best)
    vocabulary, device = model.vocabulary, next(model.parameters()).device
    order = sorted((i for i, s in enumerate(sentences) if len(s)), key=lambda i: -len(sentences[i]))
    for i, s in enumerate(sentences):
        if not len(s):
            yield i, [Hypothesis([], 0.0, 0.0, ended=False)]
    for start in range(0, len(order), config.batch_size):
        chosen = order[start : start + config.batch_size]
        rows = [torch.tensor([*sentences[i], vocabulary.eos_id]) for i in chosen]
        src = pad_sequence(rows, batch_first=True, padding_value=vocabulary.pad_id).to(device)
        lengths = torch.tensor([row.numel() for row in rows])
        draws = None
        if sampling is not None:
            draws = Draws(sampling, [first + i for i in chosen], n_best)
        found = beam_search(model, src, lengths, config, n_best, return_attention, draws)
        yield from zip(chosen, found, strict=True)
