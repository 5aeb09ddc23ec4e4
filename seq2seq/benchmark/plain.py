"""The rival: a translator on torch.nn.LSTM, as a good engineer writes it in an hour.

It has the equations of our translator with norm=none and takes its weights. Sequences are packed,
attention is computed for all steps at once, and the loss is torch's own over the target tokens.
With input feeding the decoder is a loop over torch.nn.LSTMCell.

B sentences, S source and T target steps, N target tokens, E embedding, H hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..config import Attention, CellKind, Config, Tying
from ..data.tokenizer import Tokenizers
from ..model import Vocabulary
from ..model.weight_drop import call_with_dropped_weights

State = tuple[Tensor, Tensor]
"""h and c, each (rows, H)."""


@dataclass
class Source:
    """The encoded source, as attention reads it."""

    memory: Tensor  # (B, S, H)
    keys: Tensor  # (B, S, H)
    padding: Tensor  # (B, 1, S), true on padding

    def select(self, rows: Tensor) -> "Source":
        """Return the source of these sentences."""
        return Source(*(x.index_select(0, rows) for x in (self.memory, self.keys, self.padding)))


class PlainTranslator(nn.Module):
    """Bidirectional encoder, general attention and decoder of one layer each."""

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        """Make a model with fresh weights; ValueError for a setting that it does not have."""
        super().__init__()
        check(config)
        embedding, hidden = config.model.embedding_size, config.model.hidden_size
        self.vocabulary, self.dropout = vocabulary, config.model.dropout
        self.recurrent_dropout = config.model.recurrent_dropout
        self.feeds = config.model.input_feeding
        self.src_embedding = nn.Embedding(vocabulary.src_size, embedding, vocabulary.pad_id)
        self.tgt_embedding = nn.Embedding(vocabulary.tgt_size, embedding, vocabulary.pad_id)
        self.encoder = nn.LSTM(embedding, hidden // 2, bidirectional=True, batch_first=True)
        self.bridge_h, self.bridge_c = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.decoder: nn.LSTM | nn.LSTMCell = (
            nn.LSTMCell(embedding + hidden, hidden)
            if self.feeds
            else nn.LSTM(embedding, hidden, batch_first=True)
        )
        self.attention = nn.Linear(hidden, hidden, bias=False)
        self.combine = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, vocabulary.tgt_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -config.model.init_scale, config.model.init_scale)

    def forward(
        self, src: Tensor, src_lengths: Tensor, tgt: Tensor, tgt_lengths: Tensor, smoothing: float
    ) -> Tensor:
        """Return the label-smoothed loss, summed over target tokens, in nats.

        src (B, S) and tgt (B, T) are padded ids that end in eos; the lengths (B,) count eos.
        """
        source, state = self.encode(src, src_lengths)
        previous = F.pad(tgt[:, :-1], (1, 0), value=self.vocabulary.bos_id)
        embedded = self.drop(self.tgt_embedding(previous))
        words = tgt != self.vocabulary.pad_id
        states = self.teacher_forced(embedded, tgt_lengths, state, source, words)
        return F.cross_entropy(
            self.output(states), tgt[words], label_smoothing=smoothing, reduction="sum"
        )

    def drop(self, x: Tensor) -> Tensor:
        """Return x after dropout."""
        return F.dropout(x, self.dropout, self.training)

    def run(self, layer: nn.LSTM, *arguments: Any) -> Any:
        """Return what a layer returns, in training with dropout on its recurrent weights."""
        p = self.recurrent_dropout if self.training else 0.0
        return call_with_dropped_weights(layer, p, *arguments)

    def encode(self, src: Tensor, lengths: Tensor) -> tuple[Source, State]:
        """Return the encoded source of src (B, S) and the decoder's first state."""
        embedded = self.drop(self.src_embedding(src))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        output, (h, c) = self.run(self.encoder, packed)
        memory, _ = pad_packed_sequence(output, batch_first=True, total_length=src.size(1))
        h, c = (torch.cat(tuple(part), dim=1) for part in (h, c))  # (2, B, H/2) -> (B, H)
        state = torch.tanh(self.bridge_h(h)), torch.tanh(self.bridge_c(c))
        padding = torch.arange(src.size(1)) >= lengths[:, None]
        return Source(memory, self.attention(memory), padding[:, None]), state

    def teacher_forced(
        self, embedded: Tensor, lengths: Tensor, state: State, source: Source, words: Tensor
    ) -> Tensor:
        """Return the attentional states (N, H) of embedded (B, T, E), teacher-forced."""
        if isinstance(self.decoder, nn.LSTMCell):
            return self.teacher_forced_by_step(embedded, state, source)[words]
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        output, _ = self.run(self.decoder, packed, tuple(part[None] for part in state))
        h, _ = pad_packed_sequence(output, batch_first=True, total_length=words.size(1))
        both = torch.cat([self.context(h, source), h], dim=2)
        return self.drop(torch.tanh(self.combine(both[words])))

    def teacher_forced_by_step(self, embedded: Tensor, state: State, source: Source) -> Tensor:
        """Return the attentional states (B, T, H) with input feeding."""
        feed, outputs = torch.zeros_like(state[0]), []
        for x in embedded.unbind(dim=1):
            feed, state = self.step(x, state, feed, source)
            outputs.append(feed)
        return torch.stack(outputs, dim=1)

    def context(self, h: Tensor, source: Source) -> Tensor:
        """Return the context (B, T, H) of decoder states (B, T, H)."""
        scores = torch.bmm(h, source.keys.transpose(1, 2))
        weights = torch.softmax(scores.masked_fill(source.padding, float("-inf")), dim=2)
        return torch.bmm(weights, source.memory)

    def step(self, x: Tensor, state: State, feed: Tensor, source: Source) -> tuple[Tensor, State]:
        """Return the attentional states (R, H) and the next state of one step.

        x (R, E) is the previous word, feed (R, H) the last attentional state. R is a multiple of
        the number of sentences: the hypotheses of a sentence lie together.
        """
        if self.feeds:
            x = torch.cat([x, feed], dim=1)
        # faster than the layer on one step, where the rows are few
        state = torch.lstm_cell(x, state, *self.decoder.parameters())
        h = state[0]
        queries = h.view(source.memory.size(0), -1, h.size(1))
        both = torch.cat([self.context(queries, source).flatten(0, 1), h], dim=1)
        return self.drop(torch.tanh(self.combine(both))), state


def vocabulary_of(tokenizers: Tokenizers) -> Vocabulary:
    """Return the sizes and special ids of a corpus' tokenizers."""
    source, target = tokenizers.source, tokenizers.target
    special = target.pad_id, target.bos_id, target.eos_id
    return Vocabulary(source.vocab_size, target.vocab_size, tokenizers.joint, *special)


def check(config: Config) -> None:
    """Raise ValueError for a setting that the plain translator does not have."""
    model = config.model
    for key, value, expected in (
        ("cell.kind", config.cell.kind, CellKind.lstm),
        ("model.encoder_layers", model.encoder_layers, 1),
        ("model.decoder_layers", model.decoder_layers, 1),
        ("model.residual", model.residual, False),
        ("model.bidirectional", model.bidirectional, True),
        ("model.attention", model.attention, Attention.general),
        ("model.tying", model.tying, Tying.none),
        ("model.variational", model.variational, False),
        ("model.recurrent_dropout", model.recurrent_dropout * model.input_feeding, 0.0),
        ("model.word_dropout", model.word_dropout, 0.0),
        ("trainer.r_drop", config.trainer.r_drop, 0.0),
        ("decode.min_length", config.decode.min_length, 0),
        ("decode.no_repeat_ngram", config.decode.no_repeat_ngram, 0),
    ):
        if value != expected:
            shown, wanted = (getattr(v, "name", v) for v in (value, expected))
            raise ValueError(
                f"{key}={shown}: expected {wanted}: the translator on torch.nn.LSTM has no other"
            )


PLACES = {
    "encoder.layers.0.": "encoder.",
    "bridge.projections.0.0.": "bridge_h.",
    "bridge.projections.0.1.": "bridge_c.",
    "decoder.layers.0.": "decoder.",
    "decoder.attention.memory_projection.": "attention.",
    "decoder.combine.": "combine.",
}
"""Where the weights of our translator lie in the plain one; others have the same name."""


def as_plain(weights: dict[str, Tensor], feeds: bool) -> dict[str, Tensor]:
    """Return the weights of our translator with norm=none under the plain one's names."""
    renamed = {}
    for name, tensor in weights.items():
        old, new = next(((o, n) for o, n in PLACES.items() if name.startswith(o)), ("", ""))
        place = new + name.removeprefix(old)
        if feeds and new == "decoder.":
            place = place.removesuffix("_l0")  # of a cell, not a layer
        renamed[place] = tensor
    return renamed
