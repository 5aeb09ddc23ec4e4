"""The decoder: recurrent layers over the target, attention, and the attentional state.

B sentences, R hypotheses, T target and S source steps, N packed rows, E embedding, H hidden, A
attentional state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Attention, CellConfig, ModelConfig, Tying
from ..rnn import NormConfig, State, as_hx, as_state, stepwise
from .attention import AttentionLayer
from .dropout import NO_DROPOUT, Dropout
from .encoder import recurrent_layer
from .linear import Linear
from .memory import Memory, take
from .packing import Packing


@dataclass
class DecoderState:
    """What a decoder carries from step to step, for R hypotheses."""

    layers: list[State]  # of each layer, parts (R, H)
    feed: Tensor | None  # (R, A): the last attentional state, with input feeding
    step: int | Tensor = 0  # of the next word; (R,) where hypotheses began at different times

    def select(self, rows: Tensor | slice) -> "DecoderState":
        """Return the state of these hypotheses (R',), in this order."""
        layers = [tuple(take(part, rows) for part in state) for state in self.layers]
        feed = None if self.feed is None else take(self.feed, rows)
        step = take(self.step, rows) if isinstance(self.step, Tensor) else self.step
        return DecoderState(layers, feed, step)

    def steps(self) -> Tensor:
        """Return the step of each hypothesis (R,)."""
        if isinstance(self.step, Tensor):
            return self.step
        h = self.layers[0][0]
        return torch.full((h.size(0),), self.step, device=h.device)

    def with_rows(self, other: "DecoderState") -> "DecoderState":
        """Return the state with the hypotheses of another one behind its own."""
        layers = [
            tuple(torch.cat(parts) for parts in zip(*states, strict=True))
            for states in zip(self.layers, other.layers, strict=True)
        ]
        feed = None
        if self.feed is not None and other.feed is not None:
            feed = torch.cat([self.feed, other.feed])
        return DecoderState(layers, feed, torch.cat([self.steps(), other.steps()]))


class Decoder(nn.Module):
    """A decoder with global attention (Luong et al. 2015).

    With h_t = RNN(x_t, h_{t-1}) and the context c_t by attention, the attentional state is

        h~_t = tanh(W [c_t; h_t])    (eq. 5)

    x_t is the embedding of the previous word; with input feeding [embedding; h~_{t-1}] (section
    3.3). Without attention h~_t = tanh(W h_t). With `residual` the layers are those of `Encoder`.
    """

    def __init__(
        self, config: ModelConfig, norm: NormConfig, cell: CellConfig, backend: str
    ) -> None:
        """Make `decoder_layers` layers, attention if there is any, and W of equation 5."""
        super().__init__()
        hidden = config.hidden_size
        self.size = hidden if config.tying is Tying.none else config.embedding_size
        self.input_feeding, self.residual = config.input_feeding, config.residual
        inputs = config.embedding_size + (self.size if config.input_feeding else 0)
        sizes = [inputs] + [hidden] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(
            recurrent_layer(cell, norm, backend, size, hidden) for size in sizes
        )
        attends = config.attention is not Attention.none
        self.attention = AttentionLayer(config.attention, hidden, backend) if attends else None
        combined = 2 * hidden if attends else hidden
        self.combine = Linear(combined, self.size, True, backend)

    def memory(self, rows: Tensor, packing: Packing, mask: Tensor) -> Memory:
        """Return packed encoder states (N, H) as attention reads them; mask (B, S) of words."""
        states, keys = packing.pad(rows), rows
        if self.attention is not None:
            keys = self.attention.keys(rows)
        return Memory(states, states if keys is rows else packing.pad(keys), mask)

    def first_state(self, layers: list[State]) -> DecoderState:
        """Return the state before the first word, from the bridge's states."""
        h = layers[0][0]
        feed = h.new_zeros(h.size(0), self.size) if self.input_feeding else None
        return DecoderState(layers, feed)

    def forward(
        self,
        rows: Tensor,
        packing: Packing,
        state: DecoderState,
        memory: Memory,
        dropout: Dropout,
        keep_weights: bool = False,
        projected: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the attentional states (N, A), packed, and the attention weights to be kept.

        rows (N, E) are all steps' embeddings, packed; with `projected`, without input feeding, rows
        (N,) of the first layer's input terms. `state` is in the batch's order. Input feeding needs
        one step after the other; without it each layer is one recurrent call. The weights are
        (B, T, S); None if they are not to be kept, or without attention.
        """
        state = state.select(packing.sorted_indices)
        if self.input_feeding:
            return self._forward_by_step(rows, packing, state, memory, dropout, keep_weights)
        for i, layer in enumerate(self.layers):
            inputs = dropout(f"decoder{i}", rows) if i else rows
            hx = as_hx(tuple(s[None] for s in state.layers[i]))
            output, _ = layer(packing.sequence(inputs), hx, projected=None if i else projected)
            rows = output.data + rows if i and self.residual else output.data
        if self.attention is None:
            return self._attentional(rows, None, dropout), None
        context, weights = self.attention.over_rows(rows, packing, memory, keep_weights)
        return self._attentional(rows, context, dropout), weights

    def _forward_by_step(
        self,
        rows: Tensor,
        packing: Packing,
        state: DecoderState,
        memory: Memory,
        dropout: Dropout,
        keep_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        sizes = packing.batch_sizes.tolist()
        memory = memory.select(packing.sorted_indices)
        if self.attention is not None:
            memory = self.attention.stepwise(memory, sizes)
        outputs, weights = [], []
        with stepwise([*self.layers, self.combine], sizes):
            for embedded in rows.split(sizes):
                active = slice(embedded.size(0))  # sentences that are longer than t
                output, state, weight = self.step(
                    embedded, state.select(active), memory.select(active), dropout
                )
                outputs.append(output)
                if keep_weights and weight is not None:
                    weights.append(weight)
        return torch.cat(outputs), packing.pad(torch.cat(weights)) if weights else None

    def step(
        self,
        embedded: Tensor,
        state: DecoderState,
        memory: Memory,
        dropout: Dropout = NO_DROPOUT,
        projected: Tensor | None = None,
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Return attentional states (R, A), the next state and weights (R, S) of one step.

        embedded (R, E) is the previous word; `projected` as in `forward`. R is a multiple of the
        memory's B: R / B hypotheses in turn attend to each sentence.
        """
        x = embedded if state.feed is None else torch.cat([embedded, state.feed], dim=1)
        layers = []
        for i, layer in enumerate(self.layers):
            inputs = dropout(f"decoder{i}", x) if i else x
            hx = as_hx(tuple(s[None] for s in state.layers[i]))
            table = None if i else projected
            output, hx = layer(inputs[None], hx, first_step=state.step, projected=table)
            x = output[0] + x if i and self.residual else output[0]
            layers.append(tuple(s[0] for s in as_state(hx)))
        context = weights = None
        if self.attention is not None:
            context, weights = self.attention(x.view(memory.mask.size(0), -1, x.size(1)), memory)
            context, weights = context.flatten(0, 1), weights.flatten(0, 1)
        output = self._attentional(x, context, dropout)
        feed = output if self.input_feeding else None
        return output, DecoderState(layers, feed, state.step + 1), weights

    def _attentional(self, h: Tensor, context: Tensor | None, dropout: Dropout) -> Tensor:
        """Return tanh(W [c; h]) after dropout, in the type of h even under autocast."""
        both = h if context is None else torch.cat([context.to(h.dtype), h], dim=1)
        return dropout("output", torch.tanh(self.combine(both)).to(h.dtype))
