"""Attention: weights over the source, and the context that they average.

B sentences, T target and S source steps, H hidden.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Attention
from . import kernels
from .kernels import attend, masked_softmax
from .linear import Linear
from .packing import Packing


def take(x: Tensor, rows: Tensor | slice) -> Tensor:
    """Return these rows of x (R, ...); a slice is a view."""
    return x[rows] if isinstance(rows, slice) else x.index_select(0, rows)


@dataclass
class Memory:
    """The encoded source, as attention reads it."""

    states: Tensor  # (B, S, H) encoder states, m in the equations
    keys: Tensor  # (B, S, H) what queries are compared with
    mask: Tensor  # (B, S), true on words, false on padding

    def select(self, sentences: Tensor | slice) -> "Memory":
        """Return the memory of these sentences (R,), in this order."""
        return Memory(*(take(x, sentences) for x in self.parts()))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return states, keys and mask."""
        return self.states, self.keys, self.mask

    def empty(self, capacity: int) -> "Memory":
        """Return a memory of `capacity` sentences to be `put` there, none longer than these."""
        states = self.states.new_zeros(capacity, *self.states.shape[1:])
        keys = states if self.keys is self.states else torch.zeros_like(states)
        return Memory(states, keys, self.mask.new_zeros(capacity, self.mask.size(1)))

    def put(self, other: "Memory", taken: slice, place: int) -> None:
        """Copy sentences of another memory to the places from `place` on."""
        places = slice(place, place + taken.stop - taken.start)
        self.mask[places] = False
        for part, new in zip(self.parts(), other.parts(), strict=True):
            part[places, : new.size(1)] = new[taken]

    def move(self, sources: Tensor, places: Tensor) -> None:
        """Copy the sentences in places `sources` to others."""
        for part in self.parts():
            part.index_copy_(0, places, part.index_select(0, sources))

    def first(self, sentences: int, steps: int) -> "Memory":
        """Return the first sentences and source steps, as a view."""
        return Memory(*(part[:sentences, :steps] for part in self.parts()))


class AttentionLayer(nn.Module):
    """Attention of decoder states h over encoder states m.

    With a_s = softmax_s(score(h, m_s)), the context is sum_s a_s m_s. The score is

    - dot: h . m_s (Luong et al. 2015, eq. 8)
    - general: h . (W m_s) (Luong et al. 2015, eq. 8)
    - additive: v . tanh(W_h h + W_m m_s) (Bahdanau et al. 2015, appendix A.1.2)
    """

    def __init__(self, kind: Attention, size: int, backend: str = "auto") -> None:
        """Make the projections that `kind` needs, for states of `size` features."""
        super().__init__()
        self.kind, self.backend = kind, backend
        if kind is not Attention.dot:
            self.memory_projection = Linear(size, size, False, backend)
        if kind is Attention.additive:
            self.query_projection = Linear(size, size, True, backend)
            self.score = Linear(size, 1, False, backend)

    def keys(self, memory: Tensor) -> Tensor:
        """Return W m (..., H) of encoder states m (..., H), computed once for all steps."""
        return memory if self.kind is Attention.dot else self.memory_projection(memory)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return context (B, T, H) and weights (B, T, S) of queries (B, T, H); 0 on padding."""
        if self.kind is Attention.additive:
            hidden = torch.tanh(self.query_projection(query)[:, :, None] + memory.keys[:, None])
            scores = self.score(hidden).squeeze(3)  # (B, T, S, H) -> (B, T, S)
        else:
            return attend(query, memory.keys, memory.states, memory.mask, self.backend)
        weights = masked_softmax(scores, memory.mask).to(query.dtype)
        return torch.bmm(weights, memory.states), weights

    def over_rows(self, rows: Tensor, packing: Packing, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return context (N, H), packed, and weights (B, T, S) of the queries of all steps (N, H).

        The kernels do no work on padding.
        """
        serves = kernels.serves(self.backend, rows.detach(), memory.states.detach())
        if self.kind is Attention.additive or not serves:
            context, weights = self(packing.pad(rows), memory)
            return packing.pack(context), weights
        parts = [x.float().contiguous() for x in (rows, memory.keys, memory.states)]
        context, weights = _AttentionOverRows.apply(  # type: ignore[no-untyped-call]
            *parts, memory.mask, packing.index, packing.shape[1]
        )
        return context, packing.pad(weights)


class _AttentionOverRows(torch.autograd.Function):
    """The kernels of cpu/attention_rows.cpp, which have the equations."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        context, weights = torch.ops.seq2seq.attention(query, *others)
        *tensors, ctx.steps = others
        ctx.save_for_backward(query, *tensors[:2], weights, *tensors[2:])
        ctx.set_materialize_grads(False)
        return context, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, d_context: Tensor | None, d_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if d_context is None:
            d_context = torch.zeros_like(ctx.saved_tensors[0])
        found = torch.ops.seq2seq.attention_backward(
            d_context, d_weights, *ctx.saved_tensors, ctx.steps
        )
        return *found, None, None, None
