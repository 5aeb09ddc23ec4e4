"""The loops over time on a GPU that all cells and norms share, as in cpu/steps.h.

Rows are packed: step t is the next batch_sizes[t] rows. There are N rows in all and B in the first
step; H hidden features, G gates. Products are written with out= into the tensors that are saved:
nothing is copied, and autocast does not act on them.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """One step of the loop."""

    t: int
    rows: int
    has_z: bool
    arguments: tuple[Tensor | int, ...]
    """The first arguments of the step's kernel."""


def offsets(batch_sizes: list[int]) -> list[int]:
    """Return where each step's rows begin, followed by N."""
    return [0, *accumulate(batch_sizes)]


def last_rows(packed: Tensor, batch_sizes: list[int]) -> Tensor:
    """Return the rows (B, F) of every sequence's last step, from packed (N, F)."""
    steps = zip(offsets(batch_sizes), batch_sizes, [*batch_sizes[1:], 0], strict=False)
    return torch.cat(
        [packed[start + longer : start + rows] for start, rows, longer in steps if rows > longer][
            ::-1
        ]
    )


def states_before(
    output: Tensor, h_0: Tensor | None, batch_sizes: list[int], dtype: torch.dtype
) -> Tensor:
    """Return h_{t-1} of every row, from packed output (N, H).

    It is (N, H) with h_0, else without the first step's rows.
    """
    steps = zip(offsets(batch_sizes), batch_sizes[1:], strict=False)
    parts = [
        output[:0] if h_0 is None else h_0,
        *(output[start : start + rows] for start, rows in steps),
    ]
    return torch.cat(parts).to(dtype)


def first_states(
    h_0: Tensor | None, c_0: Tensor | None, output: Tensor, rows: int, has_c: bool
) -> Tensor:
    """Return c_0 (B, H), or h_0 for cells without a cell state; zeros if there is none."""
    given = c_0 if has_c else h_0
    return output.new_zeros(rows, output.size(1)) if given is None else given.contiguous()


def float_or_zeros(given: Tensor | None, rows: int, output: Tensor) -> Tensor:
    """Return a copy of a gradient (rows, H) as float; zeros if there is none."""
    if given is None:
        return output.new_zeros(rows, output.size(1))
    return torch.empty_like(output[:rows]).copy_(given)


class Forward:
    """A forward pass.

    output (N, H); z (N, G * H) of the products' type; c (N, H), without rows for cells without a
    cell state; low (B, H), h_{t-1} in the products' type where that is not float. z and c have B
    rows where nothing is saved.
    """

    def __init__(
        self,
        u: Tensor,
        weight_hh: Tensor,
        h_0: Tensor | None,
        c_0: Tensor | None,
        batch_sizes: list[int],
        has_c: bool,
        save: bool,
    ) -> None:
        self.u, self.weight_hh, self.h_0, self.c_0 = u, weight_hh, h_0, c_0
        self.batch_sizes, self.has_c, self.save = batch_sizes, has_c, save
        self.is_low = weight_hh.dtype != torch.float32
        rows, first, hidden = u.size(0), batch_sizes[0], weight_hh.size(1)
        kept = rows if save else first
        self.output = u.new_empty(rows, hidden, dtype=torch.float32)
        self.z = weight_hh.new_empty(kept, u.size(1))
        self.c = self.output.new_empty(kept if has_c else 0, hidden)
        self.low = weight_hh.new_empty(first, hidden) if self.is_low else self.output

    def steps(self) -> Iterator[Step]:
        """Yield the steps in order, each after its product."""
        first, weight, before_start = self.batch_sizes[0], self.weight_hh.t(), 0
        before = first_states(self.h_0, self.c_0, self.output, first, self.has_c)
        h = self.h_0
        if h is None:
            self.z[:first].zero_()
        elif self.is_low:
            h = self.low.copy_(h)
        for t, (start, rows) in enumerate(
            zip(offsets(self.batch_sizes), self.batch_sizes, strict=False)
        ):
            place = start if self.save else 0
            if h is not None:
                torch.mm(h[:rows], weight, out=self.z[place : place + rows])
            arrays = (self.u, self.z, before, self.output, self.c, self.low)
            yield Step(t, rows, h is not None, (*arrays, start, place, before_start))
            h = self.low if self.is_low else self.output[start : start + rows]
            before, before_start = (self.c, place) if self.has_c else (self.output, start)

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return output, h_n, c_n, z and c, the last two without rows where nothing is saved."""
        h_n, no_c = (
            last_rows(self.output, self.batch_sizes),
            self.output.new_empty(0, self.output.size(1)),
        )
        if not self.save:
            return self.output, h_n, self.c, self.z.new_empty(0, self.z.size(1)), no_c
        return (
            self.output,
            h_n,
            last_rows(self.c, self.batch_sizes) if self.has_c else no_c,
            self.z,
            self.c,
        )


class Backward:
    """A backward pass.

    Gradients: d_output (N, H) and d_h_n (B, H); `carried` (B, H), which does not pass through W_hh,
    of c_t or of the GRU's h_{t-1}; `after` (B, H), of h_t through the product of the step after. da
    is for the kernels; du and dz (N, G * H) are one tensor with same_terms.
    """

    def __init__(
        self,
        d_output: Tensor | None,
        d_h_n: Tensor | None,
        d_c_n: Tensor | None,
        u: Tensor,
        weight_hh: Tensor,
        h_0: Tensor | None,
        c_0: Tensor | None,
        output: Tensor,
        z: Tensor,
        c: Tensor,
        da: Tensor,
        batch_sizes: list[int],
        has_c: bool,
        same_terms: bool,
    ) -> None:
        if z.size(0) != u.size(0):
            raise RuntimeError(
                "no backward pass can follow a forward pass that ran with save=false, as in"
                " inference"
            )
        self.u, self.weight_hh, self.h_0, self.c_0 = u, weight_hh, h_0, c_0
        self.output, self.z, self.c, self.da = output, z, c, da
        self.batch_sizes, self.has_c = batch_sizes, has_c
        self.d_output = float_or_zeros(d_output, u.size(0), output)
        self.d_h_n, self.carried = (
            float_or_zeros(d, batch_sizes[0], output) for d in (d_h_n, d_c_n if has_c else None)
        )
        self.after = weight_hh.new_empty(batch_sizes[0], weight_hh.size(1))
        self.du = torch.empty_like(u)
        self.dz = self.du if same_terms else torch.empty_like(z)

    def steps(self) -> Iterator[Step]:
        """Yield the steps from the last to the first, each before its product."""
        first = first_states(self.h_0, self.c_0, self.output, self.batch_sizes[0], self.has_c)
        starts, rows_after = offsets(self.batch_sizes), 0
        state = self.c if self.has_c else self.output
        for t in reversed(range(len(self.batch_sizes))):
            start, rows, has_z = starts[t], self.batch_sizes[t], t > 0 or self.h_0 is not None
            before, before_start = (state, starts[t - 1]) if t > 0 else (first, 0)
            gradients = (self.d_output, self.after, self.d_h_n, self.carried)
            arrays = (self.u, self.z, before, state, self.da, self.dz)
            yield Step(t, rows, has_z, (*gradients, *arrays, start, before_start, rows_after))
            if has_z:
                torch.mm(self.dz[start : start + rows], self.weight_hh, out=self.after[:rows])
                rows_after = rows

    def weight(self, wanted: bool) -> Tensor:
        """Return the gradient of weight_hh, one product over all rows; empty if not wanted."""
        if not wanted:
            return self.weight_hh.new_empty(0)
        dz = self.dz if self.h_0 is not None else self.dz[self.batch_sizes[0] :]
        states = states_before(self.output, self.h_0, self.batch_sizes, dz.dtype)
        return torch.mm(
            dz.t(),
            states,
            out=torch.empty_like(self.weight_hh, memory_format=torch.contiguous_format),
        )

    def states(self) -> tuple[Tensor, Tensor]:
        """Return the gradients of h_0 and c_0, the latter without rows for cells without c."""
        dh_0 = torch.zeros_like(self.d_h_n) if self.h_0 is None else self.after.float()
        return (
            (dh_0, self.carried)
            if self.has_c
            else (dh_0 + self.carried, self.carried.new_empty(0, dh_0.size(1)))
        )


def blocks(count: int, size: int) -> int:
    """Return how many blocks of a size hold so many things."""
    return -(-count // size)
