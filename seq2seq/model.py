"""The translator, bottom-up: packed batches, dropout, attention, encoder, decoder.

B sentences, S source and T target steps, N unpadded rows, E embedding, H hidden, A attentional
state, V vocabulary. Everything but attention works on packed rows (torch's PackedSequence layout),
so padding costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from .config import Attention, CellConfig, CellKind, ModelConfig, Tying
from .loss import linear_cross_entropy
from .rnn import GRU, LSTM, RNN, NormConfig, RecurrentLayers, State, is_norm_parameter


@dataclass
class Vocabulary:
    """What the model has to know of the tokenizers."""

    src_size: int
    tgt_size: int
    shared: bool
    pad_id: int = 0
    bos_id: int = 2
    eos_id: int = 3


class Packing:
    """Where the rows of a padded batch (B, T) stand when packed."""

    def __init__(self, lengths: Tensor, steps: int, device: torch.device) -> None:
        index = torch.arange(lengths.numel() * steps).view(-1, steps)
        packed = pack_padded_sequence(index, lengths.cpu(), batch_first=True, enforce_sorted=False)
        self.shape = (lengths.numel(), steps)
        self.batch_sizes = packed.batch_sizes
        self.index = packed.data.to(device)
        assert packed.sorted_indices is not None
        assert packed.unsorted_indices is not None
        self.sorted_indices = packed.sorted_indices.to(device)
        self.unsorted_indices = packed.unsorted_indices.to(device)

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)"""
        return padded.flatten(0, 1).index_select(0, self.index)

    def pad(self, rows: Tensor) -> Tensor:
        """(N, F) -> (B, T, F), zeros where there is no row."""
        padded = rows.new_zeros(self.shape[0] * self.shape[1], rows.size(1))
        return padded.index_copy(0, self.index, rows).view(*self.shape, -1)

    def sequence(self, rows: Tensor) -> PackedSequence:
        """Packed rows (N, F) as the recurrent layers take them; their states then are in sorted
        order.
        """
        return PackedSequence(rows, self.batch_sizes)

    def positions(self) -> Tensor:
        """Of each packed row (N,): the place of its sentence in the sorted batch."""
        return torch.cat([torch.arange(n) for n in self.batch_sizes.tolist()]).to(self.index.device)


class Dropout:
    """Dropout for one pass over a batch. Variational: one mask a sentence and place, the same at
    every step.
    """

    def __init__(self, p: float, variational: bool, packing: Packing | None = None) -> None:
        self.p = p
        self.positions = (
            packing.positions() if variational and packing is not None and p > 0 else None
        )
        self.variational = variational
        self.sentences = 0 if packing is None else packing.shape[0]
        self.masks: dict[str, Tensor] = {}

    def __call__(self, place: str, x: Tensor) -> Tensor:
        """x (rows, F): the packed rows of all steps, or the first rows of the sorted batch at one
        step.
        """
        if self.p == 0:
            return x
        if not self.variational:
            return F.dropout(x, self.p)
        if place not in self.masks:
            self.masks[place] = F.dropout(x.new_ones(self.sentences, x.size(1)), self.p)
        mask = self.masks[place]
        if self.positions is not None and x.size(0) == self.positions.size(0):
            return x * mask[self.positions]
        return x * mask[: x.size(0)]


NO_DROPOUT = Dropout(0.0, False)


class AttentionLayer(nn.Module):
    """Weights over the source by Luong et al. 2015, eq. 8 (dot, general), or Bahdanau et al. 2015
    (additive).

    dot: h . m      general: h . (W m)      additive: v . tanh(W_h h + W_m m)
    """

    def __init__(self, kind: Attention, size: int) -> None:
        super().__init__()
        self.kind = kind
        if kind is not Attention.dot:
            self.memory_projection = nn.Linear(size, size, bias=False)
        if kind is Attention.additive:
            self.query_projection = nn.Linear(size, size)
            self.score = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """What queries are compared with, once a sentence: (B, S, H) -> (B, S, H)."""
        return memory if self.kind is Attention.dot else self.memory_projection(memory)

    def forward(self, query: Tensor, memory: "Memory") -> tuple[Tensor, Tensor]:
        """query (B, T, H) -> context (B, T, H), weights (B, T, S), 0 on padding."""
        if self.kind is Attention.additive:
            hidden = torch.tanh(self.query_projection(query)[:, :, None] + memory.keys[:, None])
            scores = self.score(hidden).squeeze(3)
        else:
            scores = torch.bmm(query, memory.keys.transpose(1, 2))
        scores = scores.float().masked_fill(~memory.mask[:, None], float("-inf"))
        weights = torch.softmax(scores, dim=2).to(query.dtype)
        return torch.bmm(weights, memory.states), weights


@dataclass
class Memory:
    """The encoded source."""

    states: Tensor
    """(B, S, H)"""
    keys: Tensor
    """(B, S, H)"""
    mask: Tensor
    """(B, S), true on words"""

    def select(self, sentences: Tensor) -> "Memory":
        """The memory of these sentences (R,), in this order."""
        return Memory(*(x.index_select(0, sentences) for x in (self.states, self.keys, self.mask)))

    def first(self, count: int) -> "Memory":
        """The memory of the first sentences."""
        return Memory(self.states[:count], self.keys[:count], self.mask[:count])


def recurrent_layer(
    cell: CellConfig,
    norm: NormConfig,
    backend: str,
    inputs: int,
    hidden: int,
    bidirectional: bool = False,
) -> RecurrentLayers:
    """One layer of the configured cell and norm."""
    if cell.kind is CellKind.rnn:
        return RNN(
            inputs,
            hidden,
            nonlinearity=cell.nonlinearity.value,
            bidirectional=bidirectional,
            norm=norm,
            backend=backend,
        )
    layer = LSTM if cell.kind is CellKind.lstm else GRU
    return layer(inputs, hidden, bidirectional=bidirectional, norm=norm, backend=backend)


def as_state(hx: Tensor | tuple[Tensor, ...]) -> State:
    """A recurrent layer's last state as a tuple, whatever its cell."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def as_hx(state: State) -> Tensor | State:
    """The reverse of `as_state`."""
    return state[0] if len(state) == 1 else state


class Encoder(nn.Module):
    """Embedded source -> its states and, of every layer, the last state with both directions side
    by side.
    """

    def __init__(
        self, config: ModelConfig, norm: NormConfig, cell: CellConfig, backend: str
    ) -> None:
        super().__init__()
        directions = 2 if config.bidirectional else 1
        if config.hidden_size % directions:
            raise ValueError(
                f"model.hidden_size={config.hidden_size}: a bidirectional encoder needs an even"
                " number"
            )
        sizes = [config.embedding_size] + [config.hidden_size] * (config.encoder_layers - 1)
        self.layers = nn.ModuleList(
            recurrent_layer(
                cell, norm, backend, size, config.hidden_size // directions, config.bidirectional
            )
            for size in sizes
        )

    def forward(
        self, rows: Tensor, packing: Packing, dropout: Dropout
    ) -> tuple[Tensor, list[State]]:
        """rows (N, E) -> states (N, H) packed, and each layer's last state, parts (B, H) in the
        batch's order.
        """
        last = []
        for i, layer in enumerate(self.layers):
            if i:
                rows = dropout(f"encoder{i}", rows)
            output, hx = layer(packing.sequence(rows))
            rows = output.data
            last.append(
                tuple(torch.cat(tuple(s), dim=1)[packing.unsorted_indices] for s in as_state(hx))
            )
        return rows, last


class Bridge(nn.Module):
    """The decoder's first state from the encoder's last: tanh(W s + b), each layer and part its
    own.
    """

    def __init__(self, config: ModelConfig, cell: CellConfig) -> None:
        super().__init__()
        parts = 2 if cell.kind is CellKind.lstm else 1
        self.sources = [min(i, config.encoder_layers - 1) for i in range(config.decoder_layers)]
        self.projections = nn.ModuleList(
            nn.ModuleList(nn.Linear(config.hidden_size, config.hidden_size) for _ in range(parts))
            for _ in self.sources
        )

    def forward(self, last: list[State]) -> list[State]:
        """Each encoder layer's state -> each decoder layer's; parts (B, H)."""
        return [
            tuple(
                torch.tanh(project(s)).to(s.dtype)
                for project, s in zip(parts, last[i], strict=True)
            )
            for parts, i in zip(
                cast(list[nn.ModuleList], self.projections), self.sources, strict=True
            )
        ]


@dataclass
class DecoderState:
    """What a decoder carries from step to step, for R hypotheses."""

    layers: list[State]
    """Of each layer, parts (R, H)."""
    feed: Tensor | None
    """(R, A): the last attentional state, with input feeding."""
    step: int = 0

    def select(self, rows: Tensor) -> "DecoderState":
        """The state of these hypotheses (R',), in this order."""
        feed = None if self.feed is None else self.feed.index_select(0, rows)
        return DecoderState(
            [tuple(s.index_select(0, rows) for s in state) for state in self.layers],
            feed,
            self.step,
        )

    def first(self, count: int) -> "DecoderState":
        """The state of the first hypotheses."""
        feed = None if self.feed is None else self.feed[:count]
        return DecoderState(
            [tuple(s[:count] for s in state) for state in self.layers], feed, self.step
        )


class Decoder(nn.Module):
    """Embedded target, source memory -> attentional states (Luong et al. 2015, eq. 5)."""

    def __init__(
        self, config: ModelConfig, norm: NormConfig, cell: CellConfig, backend: str
    ) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.size = hidden if config.tying is Tying.none else config.embedding_size
        self.input_feeding = config.input_feeding
        inputs = config.embedding_size + (self.size if config.input_feeding else 0)
        sizes = [inputs] + [hidden] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(
            recurrent_layer(cell, norm, backend, size, hidden) for size in sizes
        )
        attends = config.attention is not Attention.none
        self.attention = AttentionLayer(config.attention, hidden) if attends else None
        self.combine = nn.Linear(2 * hidden if attends else hidden, self.size)

    def memory(self, states: Tensor, mask: Tensor) -> Memory:
        """Encoder states (B, S, H) and word mask (B, S), made ready for attention."""
        return Memory(
            states, states if self.attention is None else self.attention.keys(states), mask
        )

    def first_state(self, layers: list[State]) -> DecoderState:
        """Before the first word."""
        feed = (
            layers[0][0].new_zeros(layers[0][0].size(0), self.size) if self.input_feeding else None
        )
        return DecoderState(layers, feed)

    def forward(
        self, rows: Tensor, packing: Packing, state: DecoderState, memory: Memory, dropout: Dropout
    ) -> tuple[Tensor, Tensor | None]:
        """All steps of a batch: rows (N, E) packed -> attentional states (N, A) packed, weights (B,
        T, S).

        `state` is in the batch's order. Without input feeding every layer is one recurrent call.
        """
        state = state.select(packing.sorted_indices)
        if self.input_feeding:
            return self._forward_by_step(rows, packing, state, memory, dropout)
        for i, layer in enumerate(self.layers):
            if i:
                rows = dropout(f"decoder{i}", rows)
            output, _ = layer(
                packing.sequence(rows), as_hx(tuple(s[None] for s in state.layers[i]))
            )
            rows = output.data
        if self.attention is None:
            return self._attentional(rows, None, dropout), None
        context, weights = self.attention(packing.pad(rows), memory)
        return self._attentional(rows, packing.pack(context), dropout), weights

    def _forward_by_step(
        self, rows: Tensor, packing: Packing, state: DecoderState, memory: Memory, dropout: Dropout
    ) -> tuple[Tensor, Tensor | None]:
        memory = memory.select(packing.sorted_indices)
        outputs, weights = [], []
        for embedded in rows.split(packing.batch_sizes.tolist()):
            alive = embedded.size(0)
            output, state, weight = self.step(
                embedded, state.first(alive), memory.first(alive), dropout
            )
            outputs.append(output)
            weights.append(weight)
        attention = (
            None
            if self.attention is None
            else packing.pad(torch.cat([w for w in weights if w is not None]))
        )
        return torch.cat(outputs), attention

    def step(
        self, embedded: Tensor, state: DecoderState, memory: Memory, dropout: Dropout = NO_DROPOUT
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """One step: embedded (R, E) -> attentional states (R, A), the next state, weights (R, S).

        R is a multiple of the memory's B: R / B hypotheses in turn attend to each sentence.
        """
        x = embedded if state.feed is None else torch.cat([embedded, state.feed], dim=1)
        layers = []
        for i, layer in enumerate(self.layers):
            if i:
                x = dropout(f"decoder{i}", x)
            output, hx = layer(
                x[None], as_hx(tuple(s[None] for s in state.layers[i])), first_step=state.step
            )
            x = output[0]
            layers.append(tuple(s[0] for s in as_state(hx)))
        context = weights = None
        if self.attention is not None:
            context, weights = self.attention(x.view(memory.mask.size(0), -1, x.size(1)), memory)
            context, weights = context.flatten(0, 1), weights.flatten(0, 1)
        output = self._attentional(x, context, dropout)
        return (
            output,
            DecoderState(layers, output if self.input_feeding else None, state.step + 1),
            weights,
        )

    def _attentional(self, h: Tensor, context: Tensor | None, dropout: Dropout) -> Tensor:
        """tanh(W [c; h]), then dropout; in the state's type also under autocast."""
        both = h if context is None else torch.cat([context.to(h.dtype), h], dim=1)
        return dropout("output", torch.tanh(self.combine(both)).to(h.dtype))


class Translator(nn.Module):
    """Encoder-decoder with attention over subword ids."""

    def __init__(
        self,
        config: ModelConfig,
        norm: NormConfig,
        cell: CellConfig,
        vocabulary: Vocabulary,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if config.tying is Tying.all and not vocabulary.shared:
            raise ValueError(
                "model.tying=all shares the source's embeddings with the target's: it needs "
                "tokenizer.joint=true"
            )
        self.config, self.vocabulary = config, vocabulary
        self.src_embedding = nn.Embedding(
            vocabulary.src_size, config.embedding_size, vocabulary.pad_id
        )
        self.tgt_embedding = nn.Embedding(
            vocabulary.tgt_size, config.embedding_size, vocabulary.pad_id
        )
        self.encoder = Encoder(config, norm, cell, backend)
        self.bridge = Bridge(config, cell)
        self.decoder = Decoder(config, norm, cell, backend)
        self.output = nn.Linear(self.decoder.size, vocabulary.tgt_size)
        if config.tying is not Tying.none:
            self.output.weight = self.tgt_embedding.weight
        if config.tying is Tying.all:
            self.src_embedding.weight = self.tgt_embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights and biases uniform in (-init_scale, init_scale); gains and shifts of norms keep
        their own start.
        """
        scale = self.config.init_scale
        for name, parameter in self.named_parameters():
            if not is_norm_parameter(name):
                nn.init.uniform_(parameter, -scale, scale)
        with torch.no_grad():
            for embedding in (self.src_embedding, self.tgt_embedding):
                embedding.weight[self.vocabulary.pad_id].zero_()

    def _dropout(self, packing: Packing) -> Dropout:
        return Dropout(
            self.config.dropout if self.training else 0.0, self.config.variational, packing
        )

    def encode(self, src: Tensor, src_lengths: Tensor) -> tuple[Memory, DecoderState]:
        """src (B, S) ids, src_lengths (B,) -> memory, and the decoder's first state."""
        packing = Packing(src_lengths, src.size(1), src.device)
        dropout = self._dropout(packing)
        rows = dropout("source", self.src_embedding(packing.pack(src)))
        states, last = self.encoder(rows, packing, dropout)
        mask = torch.arange(src.size(1), device=src.device) < src_lengths.to(src.device)[:, None]
        return self.decoder.memory(packing.pad(states), mask), self.decoder.first_state(
            self.bridge(last)
        )

    def decode(
        self, memory: Memory, state: DecoderState, tgt: Tensor, packing: Packing
    ) -> tuple[Tensor, Tensor | None]:
        """Teacher-forced: tgt (B, T) ids ending in eos -> attentional states (N, A) packed, weights
        (B, T, S).
        """
        dropout = self._dropout(packing)
        previous = F.pad(tgt[:, :-1], (1, 0), value=self.vocabulary.bos_id)
        rows = dropout("target", self.tgt_embedding(packing.pack(previous)))
        states, weights = self.decoder(rows, packing, state, memory, dropout)
        return states, weights

    def forward(
        self,
        src: Tensor,
        src_lengths: Tensor,
        tgt: Tensor,
        tgt_lengths: Tensor,
        smoothing: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Sums over target tokens, in nats: the loss with label smoothing, and the negative
        log-likelihood.

        src (B, S) and tgt (B, T) end in eos and are padded; the lengths count eos.
        """
        memory, state = self.encode(src, src_lengths)
        packing = Packing(tgt_lengths, tgt.size(1), tgt.device)
        states, _ = self.decode(memory, state, tgt, packing)
        return linear_cross_entropy(
            states, self.output.weight, self.output.bias, packing.pack(tgt), smoothing
        )

    def step(
        self, tokens: Tensor, state: DecoderState, memory: Memory
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """The next word: tokens (R,) -> log-probabilities (R, V), the next state, attention (R,
        S).
        """
        states, state, weights = self.decoder.step(self.tgt_embedding(tokens), state, memory)
        return torch.log_softmax(self.output(states).float(), dim=1), state, weights

    def attention(
        self, src: Tensor, src_lengths: Tensor, tgt: Tensor, tgt_lengths: Tensor
    ) -> Tensor | None:
        """Weights (B, T, S) of each target step over the source, teacher-forced."""
        memory, state = self.encode(src, src_lengths)
        return self.decode(memory, state, tgt, Packing(tgt_lengths, tgt.size(1), tgt.device))[1]


def count_parameters(modules: Sequence[nn.Module]) -> int:
    """Trainable numbers, shared ones once."""
    return sum(
        p.numel()
        for p in {id(p): p for m in modules for p in m.parameters() if p.requires_grad}.values()
    )
