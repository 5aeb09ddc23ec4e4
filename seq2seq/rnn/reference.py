"""The equations of the recurrent cells in plain torch: one step of each, and the loop over time.

Symbols are those of Ba, Kiros & Hinton 2016 (arXiv:1607.06450), with gain and bias for its alpha
and beta, and torch's names of weights and gates:

    u = W_ih x_t                        the input's part of the gates' summed inputs
    z = W_hh h_{t-1}                    the recurrent part; 0 at the first step without h_0
    y_ih = gain_ih * N(u) + bias_ih
    y_hh = gain_hh * N(z) + bias_hh     N(0) = 0

Their sum enters the gates (separate terms), or gain_ih * N(u + z) + bias_ih + bias_hh does (joint
terms). N is in `normalization.py`; without a norm, gain * N(v) is v.

Sequences are packed as in `torch.nn.utils.rnn.PackedSequence`: sorted by falling length, step t is
the next layout.batch_sizes[t] rows. There are N rows in all and B in the first step; I input
features, H hidden features and G gates.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .normalization import Term
from .packing import Layout, Steps, time_steps
from .precision import product
from .statistics import BatchStatistics

State = tuple[Tensor, ...]
"""(h, c) of the LSTM, (h,) of the other cells; each (rows, H)."""
Sums = tuple[Tensor, ...]
"""The gates' pre-activations, in the order of the gates: parts of (rows, G * H)."""


def as_state(hx: Tensor | State) -> State:
    """Return a state as a tuple, from what torch.nn has: (h, c) of the LSTM, else h."""
    return (hx,) if isinstance(hx, Tensor) else tuple(hx)


def as_hx(state: State) -> Any:
    """Return a state as torch.nn has it: (h, c) of the LSTM, else h."""
    return state[0] if len(state) == 1 else state


@dataclass
class CellParameters:
    """Parameters of one layer and direction, with G = 4 (i f g o), 3 (r z n) or 1 gates."""

    cell: str
    """lstm, gru or rnn"""
    weight_ih: Tensor
    """(G * H, I)"""
    weight_hh: Tensor
    """(G * H, H)"""
    bias_hh: Tensor | float
    """(G * H,), or 0; read where terms are joint."""
    ih: Term
    """v -> gain_ih * N(v) + bias_ih"""
    hh: Term
    """v -> gain_hh * N(v) + bias_hh; with joint terms only for the GRU's n part."""
    c: Term
    """v -> gain_c * N(v) + bias_c; v itself where the LSTM's cell state is not normalised."""
    joint: bool = False
    joint_all: bool = False
    """Joint terms include the GRU's n part."""
    carried: bool = False
    """The normalised cell state is carried to the next step."""
    carried_only: bool = False
    """It is, and h_t is computed from the cell state before the norm."""
    activation: Callable[[Tensor], Tensor] = torch.tanh
    """f of the vanilla cell."""
    steps: Any = None
    """The products of a loop over steps (cpu/one_step.py), where there is one."""
    kept: dict[torch.dtype, Any] | None = None
    """What a backend keeps from call to call, by the type of products; None: nothing."""
    table: Tensor | None = None
    """Input terms (V, G * H) by row; inputs (..., 1) are then the numbers of its rows."""

    def u(self, x: Tensor) -> Tensor:
        """Return W_ih x (..., G * H), or the rows x of the table."""
        if self.table is None:
            return product(x, self.weight_ih)
        return F.embedding(x.squeeze(-1), self.table)

    def z(self, h: Tensor | float) -> Tensor | float:
        """Return W_hh h (rows, G * H); 0 where there is no h."""
        return h if isinstance(h, float) else product(h, self.weight_hh)

    @property
    def is_synchronized(self) -> bool:
        """Whether batch norm's statistics are over the rows of several processes."""
        return self.ih.statistics is not None and self.ih.statistics.all_rows is not None

    @property
    def whole_sequence(self) -> bool:
        """Whether batch norm normalises the input term over the rows of all steps at once."""
        return self.ih.statistics is not None and self.ih.statistics.whole_sequence

    def statistics(self) -> list[BatchStatistics]:
        """Return batch norm's statistics of the input term, the recurrent term and the cell."""
        return [t.statistics for t in (self.ih, self.hh, self.c) if t.statistics is not None]


def lstm_step(p: CellParameters, y_ih: Tensor, state: State | None, t: Steps) -> tuple[Sums, State]:
    """Return the pre-activations, and h_t and c_t of an LSTM.

    Ba et al. 2016, eqs. 20 to 22, with their two betas as bias_ih and bias_hh:

        (i f g o) = gain_ih * N(u) + bias_ih + gain_hh * N(z) + bias_hh
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(gain_c * N(c_t) + bias_c)

    y_ih (rows, 4H) is u where terms are joint.
    """
    h, c = (0.0, 0.0) if state is None else state
    z = p.z(h)
    sums = p.ih(y_ih + z, t) + p.bias_hh if p.joint else y_ih + p.hh(z, t)
    i, f, g, o = sums.chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c + i * g
    normalised = p.c(c, t)
    h = o * torch.tanh(c if p.carried_only else normalised)
    return (sums,), (h, normalised if p.carried else c)


def gru_step(p: CellParameters, y_ih: Tensor, state: State | None, t: Steps) -> tuple[Sums, State]:
    """Return the pre-activations and h_t of a GRU.

    torch.nn.GRU's cell, its (r z) and n parts normalised separately (Ba et al. 2016, supplement):

        (r z) = sigmoid(y_ih + y_hh)
        n = tanh(y_ih + r * y_hh)
        h_t = (1 - z) * n + z * h_{t-1}

    z is the update gate here; the recurrent part of the sums is `recurrent`. y_ih (rows, 3H) is u
    where terms are joint; the n part's terms are separate all the same. With
    joint_all they are joint too, and r acts on their normalised sum y (Hafner et al. 2021,
    arXiv:2010.02193, their code): n = tanh(r * y).
    """
    [h] = (0.0,) if state is None else state
    recurrent = p.z(h)
    y_rz, y_n = _split(y_ih)
    if p.joint_all:
        y_rz, hh_n = _split(p.ih(y_ih + recurrent, t) + p.bias_hh)
        hh_rz = y_n = 0.0
    elif p.joint:
        recurrent_rz, recurrent_n = _split(recurrent)
        y_rz, y_n = _split(p.ih(torch.cat([y_rz + recurrent_rz, y_n], dim=1), t))
        hh_rz, hh_n = _split(p.bias_hh)[0], p.hh(recurrent_n, t)
    else:
        hh_rz, hh_n = _split(p.hh(recurrent, t))
    sums_rz = y_rz + hh_rz
    r, z = sums_rz.chunk(2, dim=1)
    r, z = torch.sigmoid(r), torch.sigmoid(z)
    sums_n = y_n + r * hh_n
    n = torch.tanh(sums_n)
    return (sums_rz, sums_n), ((1 - z) * n + z * h,)


def rnn_step(p: CellParameters, y_ih: Tensor, state: State | None, t: Steps) -> tuple[Sums, State]:
    """Return the pre-activations and h_t of a vanilla RNN (Ba et al. 2016, eq. 4).

        h_t = f(gain_ih * N(u + z) + bias_ih + bias_hh)

    y_ih (rows, H) is u where terms are joint, as they are by default.
    """
    [h] = (0.0,) if state is None else state
    z = p.z(h)
    sums = p.ih(y_ih + z, t) + p.bias_hh if p.joint else y_ih + p.hh(z, t)
    return (sums,), (p.activation(sums),)


STEP_OF_CELL = {"lstm": lstm_step, "gru": gru_step, "rnn": rnn_step}


def unroll(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> Iterator[tuple[Sums, State]]:
    """Yield what each step returns for its active rows.

    Arguments are those of `recurrence`.
    """
    return unroll_inputs(p.u(x), layout, state, p, first_step)


def unroll_inputs(
    u: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> Iterator[tuple[Sums, State]]:
    """Yield what `unroll` does, from u = W_ih x (N, G * H): the loop over time."""
    if state is None and len(layout.sizes()) == 1:  # W_hh is not read
        u = u + nothing_of(p.weight_hh, p.hh.gain)
    y_ih = u if p.joint else p.ih.over_sequence(u, layout, first_step)
    for t, rows in enumerate(y_ih.split(layout.sizes())):
        if state is not None and rows.size(0) < state[0].size(0):
            state = tuple(s[: rows.size(0)] for s in state)
        sums, state = STEP_OF_CELL[p.cell](p, rows, state, time_steps(first_step, t, rows.size(0)))
        yield sums, state


def nothing_of(*unread: Tensor | None) -> Tensor | float:
    """Return 0, whose gradients of what is not read are zeros, as torch.nn's are, and not None."""
    return sum((0 * p.flatten()[0] for p in unread if p is not None and p.requires_grad), 0.0)


def recurrence(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> tuple[Tensor, State]:
    """Return the output (N, H) of one layer in one direction, and the last states, each (B, H).

    x (N, I) and the output are packed. The initial state is (B, H) each, or None. first_step is the
    time step of the first rows, or (B,) one for each of them.
    """
    return collected(unroll(x, layout, state, p, first_step), layout)


def collected(steps: Iterator[tuple[Sums, State]], layout: Layout) -> tuple[Tensor, State]:
    """Return the output (N, H) of unrolled steps, and the last states, each (B, H)."""
    outputs: list[Tensor] = []
    finished: list[State] = []
    active = [*layout.sizes()[1:], 0]
    for following, (_, after) in zip(active, steps, strict=True):
        outputs.append(after[0])
        if following < after[0].size(0):
            finished.append(tuple(s[following:] for s in after))
    last = zip(*reversed(finished), strict=True)
    return torch.cat(outputs), tuple(torch.cat(parts) for parts in last)


def _split(v: Any) -> tuple[Any, Any]:
    """Return the (r z) and the n part of v (..., 3H); both parts of 0 are 0."""
    if isinstance(v, float):
        return v, v
    size = v.size(-1) // 3
    return v[..., : 2 * size], v[..., 2 * size :]
