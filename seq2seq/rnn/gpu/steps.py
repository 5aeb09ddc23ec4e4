"""The loops over time on a GPU that all cells and norms share: products, states, what is kept. As
cpu/steps.h.

Rows are packed: step t is the next batch_sizes[t] rows of N in all, B of them in the first step; H
hidden features, G gates. Products are made with out= into what is kept of them: nothing is copied,
and autocast leaves them alone.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """One step. Its rows begin at `start`; in z and c at `place`, since these hold one step alone
    where nothing is saved. Those of the states before begin at before_start of `before`: of c, or
    of h for cells without one.
    """

    t: int
    rows: int
    start: int
    place: int
    before: Tensor
    before_start: int
    has_z: bool
    rows_after: int = 0


def offsets(batch_sizes: list[int]) -> list[int]:
    """Where each step's rows begin, and after them N."""
    return [0, *accumulate(batch_sizes)]


def last_rows(packed: Tensor, batch_sizes: list[int]) -> Tensor:
    """Of packed (N, F), the row of every sequence's last step: (B, F)."""
    steps = zip(offsets(batch_sizes), batch_sizes, [*batch_sizes[1:], 0], strict=False)
    return torch.cat(
        [packed[start + longer : start + rows] for start, rows, longer in steps if rows > longer][
            ::-1
        ]
    )


def states_before(
    output: Tensor, h_0: Tensor | None, batch_sizes: list[int], dtype: torch.dtype
) -> Tensor:
    """Of packed output (N, H), h_{t-1} of every row: (N, H) with h_0, else without the first step's
    rows.
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
    """(B, H): c_0, or h_0 for cells without a cell state; zeros where it is not given."""
    given = c_0 if has_c else h_0
    return output.new_zeros(rows, output.size(1)) if given is None else given.contiguous()


def float_or_zeros(given: Tensor | None, rows: int, output: Tensor) -> Tensor:
    """A gradient (rows, H) as float, zero where it did not come; never the tensor that came
    itself.
    """
    if given is None:
        return output.new_zeros(rows, output.size(1))
    return torch.empty_like(output[:rows]).copy_(given)


class Forward:
    """A forward pass: output (N, H); z (N, G * H) of the products' type; c (N, H), without rows for
    cells that have none; low (B, H), h_{t-1} in the products' type where that is not float. z and c
    have B rows where nothing is saved.
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
        self.weight_hh, self.h_0, self.c_0, self.batch_sizes = weight_hh, h_0, c_0, batch_sizes
        self.has_c, self.save, self.is_low = has_c, save, weight_hh.dtype != torch.float32
        rows, first, hidden = u.size(0), batch_sizes[0], weight_hh.size(1)
        kept = rows if save else first
        self.output = u.new_empty(rows, hidden, dtype=torch.float32)
        self.z = weight_hh.new_empty(kept, u.size(1))
        self.c = self.output.new_empty(kept if has_c else 0, hidden)
        self.low = weight_hh.new_empty(first, hidden) if self.is_low else self.output

    def steps(self) -> Iterator[Step]:
        """The steps in order, each with its product made."""
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
            yield Step(t, rows, start, place, before, before_start, h is not None)
            h = self.low if self.is_low else self.output[start : start + rows]
            before, before_start = (self.c, place) if self.has_c else (self.output, start)

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """output, h_n, c_n, z and c; the last two without rows where nothing is saved."""
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
    """A backward pass: gradients d_output (N, H), d_h_n (B, H); `carried` (B, H), which goes from
    step to step without passing through W_hh: of c_t, or of the GRU's h_{t-1}; `after` (B, H), of
    h_t through the product of the step after. du and dz (N, G * H) are one tensor where same_terms.
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
        batch_sizes: list[int],
        has_c: bool,
        same_terms: bool,
    ) -> None:
        if z.size(0) != u.size(0):
            raise RuntimeError(
                "there is no way back from a forward pass that ran with save=false, as an inference"
                " does"
            )
        self.weight_hh, self.h_0, self.c_0, self.output, self.c = weight_hh, h_0, c_0, output, c
        self.batch_sizes, self.has_c = batch_sizes, has_c
        self.d_output = float_or_zeros(d_output, u.size(0), output)
        self.d_h_n, self.carried = (
            float_or_zeros(d, batch_sizes[0], output) for d in (d_h_n, d_c_n)
        )
        self.after = weight_hh.new_empty(batch_sizes[0], weight_hh.size(1))
        self.du = torch.empty_like(u)
        self.dz = self.du if same_terms else torch.empty_like(z)

    def steps(self) -> Iterator[Step]:
        """The steps from the last to the first; after each its product is made."""
        first = first_states(self.h_0, self.c_0, self.output, self.batch_sizes[0], self.has_c)
        starts, rows_after = offsets(self.batch_sizes), 0
        for t in reversed(range(len(self.batch_sizes))):
            start, rows, has_z = starts[t], self.batch_sizes[t], t > 0 or self.h_0 is not None
            before, before_start = (
                (self.c if self.has_c else self.output, starts[t - 1]) if t > 0 else (first, 0)
            )
            yield Step(t, rows, start, start, before, before_start, has_z, rows_after)
            if has_z:
                torch.mm(self.dz[start : start + rows], self.weight_hh, out=self.after[:rows])
                rows_after = rows

    def weight(self, wanted: bool) -> Tensor:
        """The gradient of weight_hh, one product over all rows; empty where it is not wanted."""
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
        """The gradients of h_0 and of c_0, which has no rows for cells without one."""
        dh_0 = torch.zeros_like(self.d_h_n) if self.h_0 is None else self.after.float()
        return (
            (dh_0, self.carried)
            if self.has_c
            else (dh_0 + self.carried, self.carried.new_empty(0, dh_0.size(1)))
        )


def blocks(count: int, size: int) -> int:
    """Return how many blocks of a size hold so many things."""
    return -(-count // size)
