"""The equations of the recurrent cells, one step each, and the loop over time. Plain torch.

Sequences are packed as in `torch.nn.utils.rnn.PackedSequence`: sorted by falling length, step t is
the next batch_sizes[t] rows. N rows in all, B of them in the first step, I input features, H hidden
ones.

    u = W_ih x_t        z = W_hh h_{t-1}        y_ih = gain_ih * N(u) + bias_ih        y_hh =
    gain_hh * N(z) + bias_hh

With joint terms y_ih + y_hh is gain_ih * N(u + z) + bias_ih + bias_hh instead. Where there is no
h_{t-1}, N(z) = 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .normalization import Term

State = tuple[Tensor, ...]
"""(h, c) of the LSTM, (h,) of the others; each (rows, H)."""
Sums = tuple[Tensor, ...]
"""What the gates' nonlinearities get, gate by gate; each (rows, H)."""


@dataclass
class CellParameters:
    """One layer and direction. G is the number of gates: 4 (i f g o), 3 (r z n) or 1."""

    weight_ih: Tensor
    """(G * H, I)"""
    weight_hh: Tensor
    """(G * H, H)"""
    bias_hh: Tensor | None
    """(G * H,), used where terms are joint."""
    ih: Term
    hh: Term
    """With joint terms only the GRU has it, for its n part."""
    c: Term | None = None
    """Of the LSTM's cell state; None where that is not normalised."""
    joint: bool = False
    carried: bool = False
    """The normalised cell state is the one carried on."""
    activation: Callable[[Tensor], Tensor] = torch.tanh
    """Of the vanilla cell."""
    kept: dict[torch.dtype, Any] | None = None
    """Where a backend may keep, from call to call, what it makes of the parameters; by the
    products' type.
    """


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T, by autocast's type where that is on, returned in the weight's: norms and states stay
    in it.
    """
    return F.linear(x, weight).to(weight.dtype)


def add(a: Tensor, b: Tensor | None) -> Tensor:
    """a + b, where b may be absent."""
    return a if b is None else a + b


def summed_inputs(p: CellParameters, y: Tensor, h: Tensor | None, step: int) -> Tensor:
    """All gates' summed inputs (rows, G * H); y is y_ih, or u where terms are joint."""
    if p.joint:
        v = y if h is None else y + product(h, p.weight_hh)
        return add(p.ih(v, step), p.bias_hh)
    return add(y, p.hh.at_zero()) if h is None else y + p.hh(product(h, p.weight_hh), step)


def lstm_sums(p: CellParameters, y: Tensor, h: Tensor | None, step: int) -> Sums:
    """i, f, g and o before their nonlinearities."""
    return summed_inputs(p, y, h, step).chunk(4, dim=1)


def lstm_step(p: CellParameters, sums: Sums, state: State | None, step: int) -> State:
    """Ba et al. 2016, eqs. 20 to 22, with their betas as the two biases:

    (i f g o) = y_ih + y_hh
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(gain_c * N(c_t) + bias_c)
    """
    i, f, g, o = sums
    written = torch.sigmoid(i) * torch.tanh(g)
    c = written if state is None else torch.sigmoid(f) * state[1] + written
    normalised = c if p.c is None else p.c(c, step)
    h = torch.sigmoid(o) * torch.tanh(normalised)
    return h, normalised if p.carried else c


def gru_sums(p: CellParameters, y: Tensor, h: Tensor | None, step: int) -> Sums:
    """r, z and n before their nonlinearities, n with its reset gate in: y_ih + r * y_hh."""
    size = y.size(1) // 3
    z_sum = None if h is None else product(h, p.weight_hh)
    if p.joint:
        v = y if z_sum is None else y + F.pad(z_sum[:, : 2 * size], (0, size))
        y = p.ih(v, step)
        rz_bias = None if p.bias_hh is None else p.bias_hh[: 2 * size]
        rz = add(y[:, : 2 * size], rz_bias)
        n_hh = p.hh.at_zero() if z_sum is None else p.hh(z_sum[:, 2 * size :], step)
    else:
        y_hh = p.hh.at_zero() if z_sum is None else p.hh(z_sum, step)
        rz = add(y[:, : 2 * size], None if y_hh is None else y_hh[..., : 2 * size])
        n_hh = None if y_hh is None else y_hh[..., 2 * size :]
    r, z = rz.chunk(2, dim=1)
    return r, z, add(y[:, 2 * size :], None if n_hh is None else torch.sigmoid(r) * n_hh)


def gru_step(p: CellParameters, sums: Sums, state: State | None, step: int) -> State:
    """torch.nn.GRU's cell, its (r z) and n parts normalised apart (Ba et al. 2016, supplement):

    (r z) = sigmoid(y_ih + y_hh)
    n = tanh(y_ih + r * y_hh)
    h_t = (1 - z) * n + z * h_{t-1}
    """
    z, n = torch.sigmoid(sums[1]), torch.tanh(sums[2])
    return ((1 - z) * n if state is None else (1 - z) * n + z * state[0],)


def rnn_sums(p: CellParameters, y: Tensor, h: Tensor | None, step: int) -> Sums:
    """The one gate before its nonlinearity."""
    return (summed_inputs(p, y, h, step),)


def rnn_step(p: CellParameters, sums: Sums, state: State | None, step: int) -> State:
    """Ba et al. 2016, eq. 4: h_t = f(y_ih + y_hh)."""
    return (p.activation(sums[0]),)


SUMS = {"lstm": lstm_sums, "gru": gru_sums, "rnn": rnn_sums}
STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}


def recurrence(
    cell: str,
    x: Tensor,
    batch_sizes: list[int],
    state: State | None,
    p: CellParameters,
    first_step: int = 0,
) -> tuple[Tensor, State]:
    """Run one layer in one direction.

    x (N, I) packed; state, each (B, H), or None; first_step is the time step of the first rows.
    Returns the output (N, H) packed, and the last state of every sequence, each (B, H).
    """
    u = product(x, p.weight_ih)
    y = u if p.joint else p.ih.over_sequence(u, batch_sizes, first_step)
    sums, step = SUMS[cell], STEPS[cell]
    outputs: list[Tensor] = []
    finished: list[State] = []
    for t, rows in enumerate(y.split(batch_sizes)):
        alive = rows.size(0)
        if state is not None and alive < state[0].size(0):
            finished.append(tuple(s[alive:] for s in state))
            state = tuple(s[:alive] for s in state)
        summed = sums(p, rows, None if state is None else state[0], first_step + t)
        state = step(p, summed, state, first_step + t)
        outputs.append(state[0])
    assert state is not None
    last = [state, *reversed(finished)]
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in zip(*last, strict=True))


@dataclass
class Step:
    """What one step computes on its way, for the rows still alive."""

    raw: Tensor
    """u + z (rows, G * H): the summed inputs before any norm."""
    summed: Tensor
    """The gates' summed inputs (rows, G * H), as their nonlinearities get them."""
    state: State


def steps(
    cell: str,
    x: Tensor,
    batch_sizes: list[int],
    p: CellParameters,
    state: State | None = None,
    first_step: int = 0,
) -> Iterator[Step]:
    """`recurrence`, step by step, to be looked at. `state`, each (B, H), or None."""
    u = product(x, p.weight_ih)
    y = u if p.joint else p.ih.over_sequence(u, batch_sizes, first_step)
    for t, (raw, rows) in enumerate(zip(u.split(batch_sizes), y.split(batch_sizes), strict=True)):
        if state is not None:
            state = tuple(s[: rows.size(0)] for s in state)
            raw = raw + product(state[0], p.weight_hh)
        summed = SUMS[cell](p, rows, None if state is None else state[0], first_step + t)
        state = STEPS[cell](p, summed, state, first_step + t)
        yield Step(raw, torch.cat(summed, dim=1), state)
