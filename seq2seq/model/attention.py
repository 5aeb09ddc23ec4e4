"""Attention: weights over the source, and the context that they average.

B sentences, T target and S source steps, H hidden.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import Attention
from . import kernels
from .kernels import masked_softmax
from .linear import Linear
from .memory import Memory, StepwiseMemory, query_gradients
from .packing import Packing

BLOCK = 1 << 24
"""Number of values of the largest tensor of scores where no weights are kept: 64 MiB."""


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

    def keys(self, states: Tensor) -> Tensor:
        """Return W m (..., H) of encoder states m (..., H), computed once for all steps."""
        return states if self.kind is Attention.dot else self.memory_projection(states)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return context (B, T, H) and weights (B, T, S) of queries (B, T, H); 0 on padding."""
        if self.kind is not Attention.additive:
            return memory.attend(query, self.backend)
        hidden = torch.tanh(self.query_projection(query)[:, :, None] + memory.keys[:, None])
        scores = self.score(hidden).squeeze(3)  # (B, T, S, H) -> (B, T, S)
        weights = masked_softmax(scores, memory.mask).to(query.dtype)
        return torch.bmm(weights, memory.states), weights

    def stepwise(self, memory: Memory, batch_sizes: list[int]) -> Memory:
        """Return the memory for one call at each step of a loop, with one gradient for all.

        Step t has queries (R, 1, H) of the memory's first batch_sizes[t] sentences.
        """
        if (
            self.kind is Attention.additive
            or not torch.is_grad_enabled()
            or not kernels.serves(self.backend, memory.keys.detach(), memory.states.detach())
        ):
            return memory
        return StepwiseMemory.of(memory, batch_sizes)

    def over_rows(
        self, rows: Tensor, packing: Packing, memory: Memory, keep_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return context (N, H), packed, of the queries of all steps (N, H), and their weights.

        The weights are (B, T, S); None if they are not to be kept. Without them and without
        gradients it works in blocks of steps: the T * S weights of two very long lines are never in
        memory together.
        """
        if keep_weights or torch.is_grad_enabled():
            context, weights = self._at_once(rows, packing, memory)
            return context, weights if keep_weights else None
        each = memory.mask.numel() * (rows.size(1) if self.kind is Attention.additive else 1)
        parts = packing.by_steps(max(1, BLOCK // each))
        blocks = zip(rows.split([len(part.index) for part in parts]), parts, strict=True)
        return torch.cat([self._at_once(block, part, memory)[0] for block, part in blocks]), None

    def _at_once(self, rows: Tensor, packing: Packing, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return what `over_rows` does, with weights. The kernels do no work on padding."""
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
    """The kernels of cpu/attention_rows.cpp, which have the equations.

    query (N, H), keys and states (B, S, H), mask (B, S), index (N,) as in `query_gradients`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        states: Tensor,
        mask: Tensor,
        index: Tensor,
        steps: int,
    ) -> tuple[Tensor, Tensor]:
        context, weights = torch.ops.seq2seq.attention(query, keys, states, mask, index, steps)
        ctx.steps = steps
        ctx.save_for_backward(query, keys, states, weights, mask, index)
        ctx.set_materialize_grads(False)
        return context, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, d_context: Tensor | None, d_weights: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        query, keys, states, weights, mask, index = ctx.saved_tensors
        by_query, by_scores, by_context = query_gradients(
            d_context, d_weights, Memory(states, keys, mask), weights, index, ctx.steps
        )
        by_memory = torch.ops.seq2seq.attention_memory_backward(
            by_scores, by_context, query, weights, mask, index, ctx.steps
        )
        return by_query, *by_memory, None, None, None
