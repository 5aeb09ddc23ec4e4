"""The norms N(v), and a normalised term gain * N(v) + bias.

    layer   N(v) = (v - mean) / sqrt(var + eps)    over the features of a row
            Ba, Kiros & Hinton 2016 (arXiv:1607.06450), eq. 3
    rms     N(v) = v / sqrt(mean(v^2) + eps)       over the features of a row
            Zhang & Sennrich 2019 (arXiv:1910.07467), eq. 4
    batch   N(v) = (v - mean) / sqrt(var + eps)    over the rows of a time step
            Cooijmans et al. 2016 (arXiv:1603.09025), eq. 5

The variance is the biased one. In eval mode batch norm takes the stored, unbiased one, as
torch.nn.BatchNorm1d does.
"""

from dataclasses import dataclass, field
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import Layout, Steps, time_steps
from .statistics import BatchStatistics


@dataclass
class Term:
    """One term of a cell's equations: v (rows, F) -> gain * N(v) + bias."""

    kind: str = "none"
    """none, batch, layer or rms; with none N(v) is v, and there is no gain."""
    gain: Tensor | None = None
    """(F,)"""
    bias: Tensor | None = None
    """(F,)"""
    eps: float = 0.0
    segments: list[int] = field(default_factory=list)
    """Lengths of the parts of a row that layer and rms norm normalise separately."""
    statistics: BatchStatistics | None = None
    """Of batch norm."""

    @overload
    def __call__(self, v: Tensor, step: Steps) -> Tensor: ...
    @overload
    def __call__(self, v: Tensor | float, step: Steps) -> Tensor | float: ...
    def __call__(self, v: Tensor | float, step: Steps) -> Tensor | float:
        """Return gain * N(v) + bias of v (rows, F); `step` is that of all rows, or (rows,).

        For v = 0.0, where a cell has no earlier state, N(v) is 0 and no statistic changes.
        """
        if isinstance(v, float):
            return 0.0 if self.bias is None else self.bias
        if self.gain is None:
            return v if self.bias is None else v + self.bias
        if self.statistics is not None:
            return self.statistics.normalise(v, self.gain, self.bias, step)
        parts = v.split(self.segments, dim=-1)
        gains = self.gain.split(self.segments)
        biases = [None] * len(parts) if self.bias is None else self.bias.split(self.segments)
        ys = [self._normalise_rows(*part) for part in zip(parts, gains, biases, strict=True)]
        return ys[0] if len(ys) == 1 else torch.cat(ys, dim=-1)

    def _normalise_rows(self, v: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(v, gain.shape, gain, bias, self.eps)
        if self.kind != "rms":
            raise NotImplementedError(f"no equation of the norm {self.kind}")
        y = F.rms_norm(v, gain.shape, gain, self.eps)
        return y if bias is None else y + bias

    def over_sequence(self, v: Tensor, layout: Layout, first_step: Steps) -> Tensor:
        """Return the term for the packed rows v (N, F) of all time steps."""
        if self.statistics is None or self.statistics.whole_sequence:
            return self(v, 0)
        parts = enumerate(v.split(layout.sizes()))
        return torch.cat([self(p, time_steps(first_step, t, p.size(0))) for t, p in parts])
