"""Gradients of the fused operators by plain torch: differentiable, or of many backward passes.

Autograd asks for them with create_graph=True or is_grads_batched=True. The recurrence is then
computed again from the operator's arguments, by the loop of `reference.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import NormConfig, NormKind
from ..normalization import Term
from ..packing import Layout
from ..reference import CellParameters, collected, unroll_inputs
from ..statistics import BatchStatistics
from .vectors import LENGTHS, cell_of


def gradients(
    upstream: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    layout: Layout,
    cell: str,
    norm: str,
    eps: float,
    statistics: tuple[Tensor, Tensor, int, bool] | None = None,
) -> list[Tensor | None]:
    """Return the gradients of u, weight_hh, h_0, c_0 and vectors, from those of the results.

    upstream are the gradients of output, h_n and c_n. With batch norm `statistics` are the running
    means and variances (T, F), the number of steps with statistics of their own, and whether the
    input term is normalised here. The gradients have a graph where gradients are enabled.
    """
    u, weight_hh, h_0, c_0, vectors = tensors
    assert u is not None
    assert weight_hh is not None
    assert vectors is not None
    narrow = torch.bfloat16 in (u.dtype, weight_hh.dtype)
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(u.device.type, torch.bfloat16, enabled=narrow):
        p = _parameters(weight_hh.float(), vectors, layout, cell, norm, eps, statistics)
        state = tuple(s for s in (h_0, c_0) if s is not None) or None
        output, last = collected(unroll_inputs(u.float(), layout, state, p), layout)
    pairs = [(r, d) for r, d in zip((output, *last), upstream, strict=False) if d is not None]
    wanted = [t for t in tensors if t is not None and t.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    found = iter(
        torch.autograd.grad(outputs, wanted, weights, create_graph=create_graph, allow_unused=True)
    )
    return [next(found) if t is not None and t.requires_grad else None for t in tensors]


def _parameters(
    weight_hh: Tensor,
    vectors: Tensor,
    layout: Layout,
    cell: str,
    norm: str,
    eps: float,
    statistics: tuple[Tensor, Tensor, int, bool] | None,
) -> CellParameters:
    """Return the parameters of a cell as the equations take them."""
    name, hidden = cell_of(cell), weight_hh.size(1)
    parts = list(vectors.split([n * hidden for n in LENGTHS[name]]))
    gain_ih, gain_hh = parts[0], None if name == "rnn" else parts[1]
    biases = parts[2:] if name == "gru" else [parts[1 if name == "rnn" else 2], None]
    gates = weight_hh.size(0)
    segments = [2 * hidden, hidden] if name == "gru" else [gates]
    normalises_input = statistics is None or statistics[3]
    terms = [
        (gain_ih if normalises_input else None, biases[0], segments),
        (gain_hh, biases[1], segments),
        (parts[3], parts[4], [hidden]) if cell == "lstm" else (None, None, [hidden]),
    ]
    made, place = [], 0
    for gain, bias, lengths in terms:
        columns, found = slice(place, place + sum(lengths)), None
        place = columns.stop
        if statistics is not None and gain is not None:
            found = _statistics(statistics, columns, layout, eps)
        plain = norm == "none" or gain is None
        made.append(Term(bias=bias) if plain else Term(norm, gain, bias, eps, lengths, found))
    ih, hh, c = made
    return CellParameters(
        name.removeprefix("separate_"),
        weight_ih=vectors,  # not read: u is given
        weight_hh=weight_hh,
        bias_hh=0.0,
        ih=ih,
        hh=hh,
        c=c,
        joint=name == "rnn" and norm != "none",
        activation=torch.relu if cell.endswith("_relu") else torch.tanh,
    )


def _statistics(
    statistics: tuple[Tensor, Tensor, int, bool],
    columns: slice,
    layout: Layout,
    eps: float,
) -> BatchStatistics:
    """Return the statistics of a term, whose columns lie between those of others."""
    mean, var, batch_steps, _ = statistics
    count = torch.zeros(mean.size(0), dtype=torch.long, device=mean.device)
    rows = layout.sizes()[batch_steps - 1] if batch_steps else 2
    return BatchStatistics(
        mean.detach()[:, columns],
        var.detach()[:, columns],
        count,
        count[0],
        last=mean.size(0) - 1,
        norm=NormConfig(NormKind.batch, eps=eps, min_rows=rows),
        use_batch=batch_steps > 0,
        update=False,
        whole_sequence=False,
        pool=None,
    )
