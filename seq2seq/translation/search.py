"""Search: batched beam search over a translator's steps (greedy is a beam of 1), and text to text.

A sentences are still searched, K hypotheses each, S source steps, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import DecodeConfig, length_limit
from ..model import DecoderState, Memory, Translator

MINUS_INFINITY = float("-inf")


@dataclass
class Hypothesis:
    """One translation of a sentence."""

    ids: list[int]
    """Pieces, without bos and eos."""
    log_prob: float
    """Sum over pieces and eos, in nats."""
    score: float
    """log_prob / length ** length_penalty, length counting eos."""
    attention: Tensor | None = None
    """(T, S) weights of every piece and eos over the source pieces and eos, on request."""


@dataclass
class _Search:
    """The beams of the sentences still searched; rows of the state are A * K, a sentence's
    hypotheses together.
    """

    sentences: Tensor
    """(A,) which sentence of the batch each beam belongs to"""
    log_probs: Tensor
    """(A, K)"""
    tokens: Tensor
    """(A, K, t) pieces so far"""
    attention: Tensor | None
    """(A, K, t, S)"""
    state: DecoderState
    memory: Memory
    limits: Tensor
    """(A,) longest translation"""

    def select_beams(
        self, parents: Tensor, words: Tensor, log_probs: Tensor, weights: Tensor | None
    ) -> None:
        """Continue hypotheses parents (A, K) by words (A, K)."""
        beams = torch.arange(parents.size(0), device=parents.device)[:, None]
        self.tokens = torch.cat([self.tokens[beams, parents], words[:, :, None]], dim=2)
        self.log_probs = log_probs
        rows = (beams * self.state_width() + parents).flatten()
        self.state = self.state.select(rows)
        if self.attention is not None and weights is not None:
            chosen = weights.view(*parents.shape[:1], -1, 1, weights.size(-1))[beams, parents]
            self.attention = torch.cat([self.attention[beams, parents], chosen], dim=2)

    def state_width(self) -> int:
        """Hypotheses a sentence the state holds: 1 before the first step, then K."""
        return self.state.layers[0][0].size(0) // self.sentences.size(0)

    def keep(self, beams: Tensor) -> None:
        """Go on with these beams (A',) only: finished sentences leave the batch."""
        width = self.state_width()
        rows = (beams[:, None] * width + torch.arange(width, device=beams.device)).flatten()
        self.state, self.memory = self.state.select(rows), self.memory.select(beams)
        self.sentences, self.log_probs, self.limits = (
            self.sentences[beams],
            self.log_probs[beams],
            self.limits[beams],
        )
        self.tokens = self.tokens[beams]
        self.attention = None if self.attention is None else self.attention[beams]


@dataclass
class _Results:
    """Finished hypotheses of every sentence of a batch."""

    src_lengths: list[int]
    length_penalty: float
    finished: list[list[Hypothesis]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.finished = [[] for _ in self.src_lengths]

    def add(
        self, sentence: int, ids: list[int], log_prob: float, length: int, attention: Tensor | None
    ) -> None:
        """Count a hypothesis of `length` steps; its attention without the batch's padding."""
        score = log_prob / length**self.length_penalty
        attention = None if attention is None else attention[:, : self.src_lengths[sentence]]
        self.finished[sentence].append(Hypothesis(ids, log_prob, score, attention))


@torch.no_grad()
def beam_search(
    model: Translator,
    src: Tensor,
    src_lengths: Tensor,
    config: DecodeConfig,
    n_best: int = 1,
    return_attention: bool = False,
) -> list[list[Hypothesis]]:
    """The n_best translations of each sentence, best first; src (B, S) ids ending in eos,
    src_lengths (B,).

    A sentence is finished once beam_size hypotheses of it have ended or it has reached its longest
    length; at that length what hasn't ended competes as it stands.
    """
    if not 1 <= n_best <= config.beam_size:
        raise ValueError(f"n_best={n_best}: expected 1 to beam_size={config.beam_size}")
    search = _start(model, src, src_lengths, config, return_attention)
    results = _Results(src_lengths.tolist(), config.length_penalty)
    bos = torch.full((src.size(0),), model.vocabulary.bos_id, device=src.device)
    while search.sentences.numel():
        tokens = bos if search.tokens.size(2) == 0 else search.tokens[:, :, -1].flatten()
        log_probs, search.state, weights = model.step(tokens, search.state, search.memory)
        log_probs[:, [model.vocabulary.pad_id, model.vocabulary.bos_id]] = MINUS_INFINITY
        _extend(search, results, log_probs, weights, model.vocabulary.eos_id, config.beam_size)
        _retire(search, results, config.beam_size)
    if not all(results.finished):
        raise RuntimeError("search found no translation: the model's probabilities are not finite")
    return [sorted(found, key=lambda h: -h.score)[:n_best] for found in results.finished]


def _start(
    model: Translator,
    src: Tensor,
    src_lengths: Tensor,
    config: DecodeConfig,
    return_attention: bool,
) -> _Search:
    memory, state = model.encode(src, src_lengths)
    batch = src.size(0)
    factor, extra = length_limit(config.max_length)
    limits = ((src_lengths.to(src.device) - 1) * factor + extra).long().clamp(min=1)
    has_attention = return_attention and model.decoder.attention is not None
    return _Search(
        sentences=torch.arange(batch, device=src.device),
        log_probs=src.new_zeros(batch, 1, dtype=torch.float),
        tokens=src.new_zeros(batch, 1, 0),
        state=state,
        memory=memory,
        limits=limits,
        attention=memory.states.new_zeros(batch, 1, 0, src.size(1)) if has_attention else None,
    )


def _extend(
    search: _Search,
    results: _Results,
    log_probs: Tensor,
    weights: Tensor | None,
    eos_id: int,
    beam_size: int,
) -> None:
    """One step of every beam: collect the best hypotheses that end here, go on with the best that
    don't.
    """
    beams, width = search.sentences.size(0), search.state_width()
    vocabulary = log_probs.size(1)
    totals = (search.log_probs[:, :, None] + log_probs.view(beams, width, vocabulary)).flatten(1)
    # At most `width` of the candidates can end (one a hypothesis): so many more suffice for a full
    # beam.
    best, index = totals.topk(min(beam_size + width, totals.size(1)), dim=1)
    parents, words = index // vocabulary, index % vocabulary
    ends = words == eos_id
    ranked_ends = (
        ends & (torch.arange(best.size(1), device=ends.device) < beam_size) & best.isfinite()
    )
    for beam, rank in ranked_ends.nonzero().tolist():
        _collect(search, results, beam, int(parents[beam, rank]), float(best[beam, rank]), weights)
    order = ends.long().argsort(dim=1, stable=True)[:, :beam_size]  # those that go on, best first
    going_on = best.masked_fill(ends, MINUS_INFINITY).gather(1, order)
    search.select_beams(parents.gather(1, order), words.gather(1, order), going_on, weights)


def _collect(
    search: _Search,
    results: _Results,
    beam: int,
    parent: int,
    log_prob: float,
    weights: Tensor | None,
) -> None:
    """A hypothesis that ends with this step's eos."""
    attention = None
    if search.attention is not None and weights is not None:
        last = weights.view(search.sentences.size(0), -1, weights.size(1))[beam, parent]
        attention = torch.cat([search.attention[beam, parent], last[None]])
    ids = search.tokens[beam, parent].tolist()
    results.add(int(search.sentences[beam]), ids, log_prob, len(ids) + 1, attention)


def _retire(search: _Search, results: _Results, beam_size: int) -> None:
    """Take finished sentences out of the batch."""
    length = search.tokens.size(2)
    going_on = []
    limits, alive = search.limits.tolist(), search.log_probs.isfinite().any(dim=1).tolist()
    for beam, sentence in enumerate(search.sentences.tolist()):
        full = len(results.finished[sentence]) >= beam_size
        if not full and length < limits[beam] and alive[beam]:
            going_on.append(beam)
        elif not full:
            _collect_unfinished(search, results, beam, sentence)
    if len(going_on) < search.sentences.size(0):
        search.keep(torch.tensor(going_on, dtype=torch.long, device=search.sentences.device))


def _collect_unfinished(search: _Search, results: _Results, beam: int, sentence: int) -> None:
    """At the longest length hypotheses count as they stand, where too few have ended."""
    for rank, log_prob in enumerate(search.log_probs[beam].tolist()):
        if log_prob > MINUS_INFINITY:
            ids = search.tokens[beam, rank].tolist()
            attention = None if search.attention is None else search.attention[beam, rank]
            results.add(sentence, ids, log_prob, len(ids), attention)


def search_in_batches(
    model: Translator,
    sentences: Sequence[Sequence[int]],
    config: DecodeConfig,
    n_best: int = 1,
    return_attention: bool = False,
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Translate sentences of ids (without eos), longest first; yields (position, hypotheses) as
    they are done.

    A sentence without pieces has the empty translation.
    """
    vocabulary, device = model.vocabulary, next(model.parameters()).device
    order = sorted((i for i, s in enumerate(sentences) if len(s)), key=lambda i: -len(sentences[i]))
    for i, s in enumerate(sentences):
        if not len(s):
            yield i, [Hypothesis([], 0.0, 0.0)]
    for start in range(0, len(order), config.batch_size):
        chosen = order[start : start + config.batch_size]
        rows = [torch.tensor([*sentences[i], vocabulary.eos_id]) for i in chosen]
        src = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=vocabulary.pad_id
        ).to(device)
        lengths = torch.tensor([row.numel() for row in rows])
        yield from zip(
            chosen, beam_search(model, src, lengths, config, n_best, return_attention), strict=True
        )
