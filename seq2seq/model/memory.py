"""The encoded source, as attention reads it.

B sentences, R of them at a step, T target steps or queries, N rows of all steps, S source steps, H
hidden.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .kernels import attend


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

    def attend(self, query: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        """Return context (B, T, H) and weights (B, T, S) of queries (B, T, H) by dot products."""
        return attend(query, self.keys, self.states, self.mask, backend)

    def first(self, sentences: int, steps: int) -> "Memory":
        """Return the first sentences and source steps, as a view."""
        return Memory(*(part[:sentences, :steps] for part in self.parts()))


def query_gradients(
    d_context: Tensor | None,
    d_weights: Tensor | None,
    memory: Memory,
    weights: Tensor,
    index: Tensor,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries (N, H), scores (N, S) and contexts (N, H); None counts as 0.

    weights (N, S); index (N,) is b * steps + t of each row.
    """
    if d_context is None:
        d_context = memory.states.new_zeros(len(index), memory.states.size(2))
    found = torch.ops.seq2seq.attention_query_backward(
        d_context, d_weights, memory.keys, memory.states, weights, memory.mask, index, steps
    )
    return *found, d_context


class StepGradients:
    """What the gradient of a memory needs of the steps of a loop; it must not hold its graph.

    At each step keys k and states m are constants, and zeros are added to scores and contexts:

        e = h . k + s    a = softmax(e)    c = sum_s a_s m_s + r    s = r = 0

    From the gradients of s (N, S) and r (N, H) of all steps follow those of k and m, as in
    cpu/attention_rows.cpp.
    """

    def __init__(self, mask: Tensor, batch_sizes: list[int]) -> None:
        """Prepare steps with the memory's first batch_sizes[t] sentences each."""
        self.queries: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.mask, self.batch_sizes = mask, batch_sizes

    def index(self) -> Tensor:
        """Return the place b * T + t (N,) of each row, of sentence b at step t."""
        steps = len(self.batch_sizes)
        rows = torch.arange(self.batch_sizes[0]) * steps
        return torch.cat([rows[:size] + t for t, size in enumerate(self.batch_sizes)])


class _Zeros(torch.autograd.Function):
    """Zeros (N, S) and (N, H) whose gradients become those of a memory."""

    @staticmethod
    def forward(
        ctx: Any, keys: Tensor, states: Tensor, step_gradients: StepGradients
    ) -> tuple[Tensor, Tensor]:
        ctx.step_gradients, rows = step_gradients, sum(step_gradients.batch_sizes)
        zero = states.new_zeros(())
        return zero.expand(rows, states.size(1)), zero.clone().expand(rows, states.size(2))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_scores: Tensor, d_contexts: Tensor) -> tuple[Tensor | None, ...]:
        step_gradients: StepGradients = ctx.step_gradients
        queries, weights = torch.cat(step_gradients.queries), torch.cat(step_gradients.weights)
        keys, states = torch.ops.seq2seq.attention_memory_backward(
            d_scores, d_contexts, queries, weights, step_gradients.mask, step_gradients.index(),
            len(step_gradients.batch_sizes),
        )  # fmt: skip
        return keys, states, None


class _Attend(torch.autograd.Function):
    """One step of attention over a constant memory."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, scores: Tensor, contexts: Tensor, memory: "StepwiseMemory"
    ) -> tuple[Tensor, Tensor]:
        index = torch.arange(len(query))
        context, weights = torch.ops.seq2seq.attention(
            query, memory.keys, memory.states, memory.mask, index, 1
        )
        ctx.memory, ctx.index, ctx.weights = Memory(*memory.parts()), index, weights.detach()
        memory.step_gradients.queries.append(query.detach())
        memory.step_gradients.weights.append(ctx.weights)
        ctx.set_materialize_grads(False)
        return context, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, d_context: Tensor | None, d_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        memory: Memory = ctx.memory
        by_query, by_scores, by_context = query_gradients(
            d_context, d_weights, memory, ctx.weights, ctx.index, 1
        )
        return by_query, by_scores, by_context, None


@dataclass
class StepwiseMemory(Memory):
    """A memory in a loop over steps, whose gradient is computed once, after the last step."""

    step_gradients: StepGradients
    zeros: Iterator[tuple[Tensor, Tensor]]  # of scores and contexts, for each step

    @classmethod
    def of(cls, memory: Memory, batch_sizes: list[int]) -> "StepwiseMemory":
        """Return a memory for one call at each step, with its first batch_sizes[t] sentences."""
        keys, states = (x.float().contiguous() for x in (memory.keys, memory.states))
        step_gradients = StepGradients(memory.mask, batch_sizes)
        found = _Zeros.apply(keys, states, step_gradients)  # type: ignore[no-untyped-call]
        zeros = zip(*(part.split(batch_sizes) for part in found), strict=True)
        return cls(states.detach(), keys.detach(), memory.mask, step_gradients, zeros)

    def select(self, sentences: Tensor | slice) -> "StepwiseMemory":
        """Return the memory of these first sentences."""
        states, keys, mask = (take(x, sentences) for x in self.parts())
        return StepwiseMemory(states, keys, mask, self.step_gradients, self.zeros)

    def attend(self, query: Tensor, backend: str) -> tuple[Tensor, Tensor]:
        """Return context (R, 1, H) and weights (R, 1, S) of the next step's queries (R, 1, H)."""
        zeros = next(self.zeros)
        context, weights = _Attend.apply(  # type: ignore[no-untyped-call]
            query.flatten(0, 1).contiguous(), *zeros, self
        )
        return context[:, None], weights[:, None]
