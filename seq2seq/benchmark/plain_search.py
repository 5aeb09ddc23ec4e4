"""Greedy and beam search of the plain translator, batched, without Python per hypothesis.

The rules are those of `seq2seq.translation.search`. A sentence ends with beam_size finished
hypotheses or at its largest length, and the best score per length wins.

B sentences of a batch, A of them active, K hypotheses each, V vocabulary, t steps so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config import DecodeConfig, length_limit
from .plain import PlainTranslator, Source, State

MINUS_INFINITY = float("-inf")


@dataclass
class Found:
    """The translations of a batch, best so far, and how long each sentence was searched."""

    ids: Tensor  # (B, longest)
    lengths: Tensor  # (B,) pieces without eos
    scores: Tensor  # (B,)
    steps: Tensor  # (B,) steps in which the sentence was active
    hypotheses: Tensor  # (B,) number of finished ones
    limits: Tensor  # (B,) largest length

    @classmethod
    def nothing(cls, src_lengths: Tensor, max_length: str) -> "Found":
        """Return what is found before the search; src_lengths (B,) count eos."""
        factor, extra = length_limit(max_length)
        limits = ((src_lengths - 1) * factor + extra).long().clamp(min=1)
        lengths, steps, hypotheses = (torch.zeros_like(limits) for _ in range(3))
        ids = limits.new_zeros(len(limits), int(limits.max()))
        scores = torch.full(limits.shape, MINUS_INFINITY)
        return cls(ids, lengths, scores, steps, hypotheses, limits)

    def offer(self, sentences: Tensor, tokens: Tensor, scores: Tensor) -> None:
        """Keep the best of tokens (A, K, t) where its score (A, K) is above the best so far."""
        score, rank = scores.max(dim=1)
        better = score > self.scores[sentences]
        rows, where = sentences[better], better.nonzero()[:, 0]
        self.ids[rows, : tokens.size(2)] = tokens[where, rank[where]]
        self.lengths[rows], self.scores[rows] = tokens.size(2), score[where]

    def translations(self) -> list[list[int]]:
        """Return the best translation of each sentence, without eos."""
        lengths = self.lengths.tolist()
        return [ids[:length] for ids, length in zip(self.ids.tolist(), lengths, strict=True)]


@torch.no_grad()
def search(model: PlainTranslator, src: Tensor, src_lengths: Tensor, config: DecodeConfig) -> Found:
    """Return the translations of src (B, S), ids that end in eos; src_lengths (B,) count it."""
    found = Found.nothing(src_lengths, config.max_length)
    source, state = model.encode(src, src_lengths)
    if config.beam_size == 1:
        greedy(model, source, state, found)
    else:
        beam_search(model, source, state, config, found)
    return found


def greedy(model: PlainTranslator, source: Source, state: State, found: Found) -> None:
    """Fill `found` with the likeliest word after word, from the decoder's first state."""
    ids, (h, c) = model.vocabulary, state
    feed, sentences = torch.zeros_like(h), torch.arange(len(h))
    words = torch.full_like(sentences, ids.bos_id)
    while sentences.numel():
        feed, (h, c) = model.step(model.tgt_embedding(words), (h, c), feed, source)
        logits = model.output(feed)
        logits[:, [ids.pad_id, ids.bos_id]] = MINUS_INFINITY
        words = logits.argmax(dim=1)
        step = found.steps[sentences]
        found.steps[sentences] += 1
        goes_on = words != ids.eos_id
        found.ids[sentences[goes_on], step[goes_on]] = words[goes_on]
        found.lengths[sentences] += goes_on
        goes_on &= step + 1 < found.limits[sentences]
        if not goes_on.all():
            rows = goes_on.nonzero()[:, 0]
            sentences, words, h, c, feed = (
                x.index_select(0, rows) for x in (sentences, words, h, c, feed)
            )
            source = source.select(rows)


def beam_search(
    model: PlainTranslator, source: Source, state: State, config: DecodeConfig, found: Found
) -> None:
    """Fill `found` with the best of `beam_size` hypotheses, from the decoder's first state."""
    ids, size, power = model.vocabulary, config.beam_size, config.length_penalty
    h, c = state
    feed, sentences = torch.zeros_like(h), torch.arange(len(h))
    tokens = found.ids.new_zeros(len(h), 1, 0)  # (A, K, t); one hypothesis before the first step
    totals = torch.zeros(len(h), 1)  # (A, K) log-probabilities
    words = torch.full_like(sentences, ids.bos_id)
    while sentences.numel():
        feed, (h, c) = model.step(model.tgt_embedding(words.flatten()), (h, c), feed, source)
        found.steps[sentences] += 1
        log_probs = torch.log_softmax(model.output(feed), dim=1)
        log_probs[:, [ids.pad_id, ids.bos_id]] = MINUS_INFINITY
        width, length = tokens.size(1), tokens.size(2) + 1
        candidates = (totals.flatten()[:, None] + log_probs).view(len(sentences), -1)
        best, index = candidates.topk(size + width, dim=1)
        parents, words = index // log_probs.size(1), index % log_probs.size(1)
        ends = words == ids.eos_id
        if (finished := ends[:, :size]).any():
            scores = best[:, :size].masked_fill(~finished, MINUS_INFINITY) / length**power
            histories = tokens.gather(1, parents[:, :size, None].expand(-1, -1, length - 1))
            found.offer(sentences, histories, scores)
            found.hypotheses[sentences] += finished.sum(dim=1)
        order = ends.long().argsort(dim=1, stable=True)[:, :size]  # those that go on, best first
        totals = best.masked_fill(ends, MINUS_INFINITY).gather(1, order)
        parents, words = parents.gather(1, order), words.gather(1, order)
        rows = parents + width * torch.arange(len(sentences))[:, None]
        tokens = tokens.flatten(0, 1).index_select(0, rows.flatten())
        tokens = torch.cat([tokens, words.view(-1, 1)], dim=1).view(-1, size, length)
        open_, full = found.hypotheses[sentences] < size, found.limits[sentences] <= length
        if (cut := open_ & full).any():
            found.offer(sentences[cut], tokens[cut], totals[cut] / length**power)
        active = open_ & ~full
        if not active.all():
            kept = active.nonzero()[:, 0]
            sentences, rows, totals, words, tokens = (
                x.index_select(0, kept) for x in (sentences, rows, totals, words, tokens)
            )
            source = source.select(kept)
        h, c, feed = (x.index_select(0, rows.flatten()) for x in (h, c, feed))


def search_in_batches(
    model: PlainTranslator, sentences: Sequence[Sequence[int]], config: DecodeConfig
) -> tuple[list[list[int]], list[Tensor]]:
    """Return the translation of each sentence, ids without eos, and the steps of each batch.

    Batches have `config.sentences` sentences, sorted by length; no sentence may be empty.
    """
    order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i]))
    translations: list[list[int]] = [[] for _ in sentences]
    steps = []
    for start in range(0, len(order), config.sentences):
        chosen = order[start : start + config.sentences]
        rows = [torch.tensor([*sentences[i], model.vocabulary.eos_id]) for i in chosen]
        src = pad_sequence(rows, batch_first=True, padding_value=model.vocabulary.pad_id)
        found = search(model, src, torch.tensor([len(row) for row in rows]), config)
        steps.append(found.steps)
        for i, ids in zip(chosen, found.translations(), strict=True):
            translations[i] = ids
    return translations, steps
