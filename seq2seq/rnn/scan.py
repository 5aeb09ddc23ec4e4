"""The loop over time as one operation, which torch.export and ONNX keep as a loop.

The equations are those of `reference.py`. A program that was exported with `reference.recurrence`
would have as many steps as the input that it was exported with. Here it has torch's `scan`, whose
length is that of the input; ONNX has an operator of the same name.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._higher_order_ops import scan

from .normalization import Term
from .packing import Layout, Steps
from .reference import STEP_OF_CELL, CellParameters, State


@dataclass
class LaterTerm(Term):
    """A recurrent term whose N(v) is 0 at the first step, where v is W_hh 0."""

    first_step: Steps = 0

    def __call__(self, v: Tensor, step: Steps) -> Tensor:  # type: ignore[override]
        """Return the term at the time steps (rows,)."""
        bias = v.new_zeros(v.size(1)) if self.bias is None else self.bias
        is_first = torch.as_tensor(step == self.first_step).unsqueeze(-1)
        return torch.where(is_first, bias, super().__call__(v, step))


def recurrence(
    x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps = 0
) -> tuple[Tensor, State]:
    """Return what `reference.recurrence` returns, in eval mode.

    x is (T, B, I) and the output (T, B, H): a program with a view of T * B rows and one back would
    only run with the number of sequences that it was exported with. After the end of a sequence the
    output is any finite one.

    Raises ValueError where batch norm normalises by the statistics of the batch.
    """
    if any(s.use_batch for s in p.statistics()):
        raise ValueError("batch norm cannot be exported in training mode: call eval() first")
    count, hidden = layout.sequences, p.weight_hh.size(1)
    times = layout.equal_time_steps(first_step, x.device)
    before = p.ih.statistics is None and not p.joint  # the input term needs no time step
    u = p.u(x)
    y_ih = p.ih(u, 0) if before else u
    if state is None:
        zeros = u.new_zeros(count, hidden)
        state = (zeros, zeros) if p.cell == "lstm" else (zeros,)
        if p.hh.statistics is not None:  # the other norms of 0 are 0
            p = replace(p, hh=LaterTerm(**vars(p.hh), first_step=first_step))

    def step(carried: list[Tensor], inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        rows, t, *active = inputs
        _, after = STEP_OF_CELL[p.cell](
            p, rows if before or p.joint else p.ih(rows, t), tuple(carried), t
        )
        for goes_on in active:
            pairs = zip(after, carried, strict=True)
            after = tuple(torch.where(goes_on, new, old) for new, old in pairs)
        # count comes from outside: an input of the loop, by which a compiler sizes the output.
        return list(after), [after[0].view(count, hidden).clone()]

    inputs = [y_ih, times]
    if layout.lengths is not None:
        inputs.append((times < layout.lengths).unsqueeze(2))
    if isinstance(layout.steps, int) and layout.steps == 1:  # a single step needs no loop
        after, [output] = step(list(state), [x[0] for x in inputs])
        return output.unsqueeze(0), tuple(after)
    # Copies, since torch looks at the whole tensor of which a state is a part.
    last, [output] = scan(step, [s.clone() for s in state], inputs)
    return output, tuple(last)
