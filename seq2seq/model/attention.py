"""Attention: weights over the source, and the context that they average.

B sentences, T target and S source steps, H hidden.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Attention


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
        return Memory(*(take(x, sentences) for x in (self.states, self.keys, self.mask)))


class AttentionLayer(nn.Module):
    """Attention of decoder states h over encoder states m.

    With a_s = softmax_s(score(h, m_s)), the context is sum_s a_s m_s. The score is

    - dot: h . m_s (Luong et al. 2015, eq. 8)
    - general: h . (W m_s) (Luong et al. 2015, eq. 8)
    - additive: v . tanh(W_h h + W_m m_s) (Bahdanau et al. 2015, appendix A.1.2)
    """

    def __init__(self, kind: Attention, size: int) -> None:
        """Make the projections that `kind` needs, for states of `size` features."""
        super().__init__()
        self.kind = kind
        if kind is not Attention.dot:
            self.memory_projection = nn.Linear(size, size, bias=False)
        if kind is Attention.additive:
            self.query_projection = nn.Linear(size, size)
            self.score = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """Return W m (B, S, H) of encoder states (B, S, H), computed once for all steps."""
        return memory if self.kind is Attention.dot else self.memory_projection(memory)

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return context (B, T, H) and weights (B, T, S) of queries (B, T, H); 0 on padding."""
        if self.kind is Attention.additive:
            hidden = torch.tanh(self.query_projection(query)[:, :, None] + memory.keys[:, None])
            scores = self.score(hidden).squeeze(3)  # (B, T, S, H) -> (B, T, S)
        else:
            scores = torch.bmm(query, memory.keys.transpose(1, 2))
        scores = scores.float().masked_fill(~memory.mask[:, None], float("-inf"))
        weights = torch.softmax(scores, dim=2).to(query.dtype)
        return torch.bmm(weights, memory.states), weights
