"""The matrix products of recurrent layers alone, without gates: their floor.

T steps, B rows, I inputs, H hidden, G gates of a cell.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from ..rnn import load_kernels, packed, packs
from .floor import shortest_time
from .timing import Task

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""G, by cell."""
Size = tuple[int, int, int, int]
"""T, B, I, H"""


def products(
    size: Size, backward: bool, cell: str = "LSTM", layers: int = 1, directions: int = 1
) -> Task:
    """Return the task of the products of layers above each other over a sequence.

    The directions of a layer run one after the other, or each on a thread of its own: as is faster.
    """
    steps, batch, inputs, hidden = size
    widths = [inputs] + [directions * hidden] * (layers - 1)
    sizes: list[Size] = [(steps, batch, width, hidden) for width in widths]
    made = [[direction(GATES[cell], s, backward) for _ in range(directions)] for s in sizes]
    found = partial(in_turn, made)
    if directions == 1 or torch.get_num_threads() == 1:
        return found
    return min((found, partial(at_once, made, threads(directions))), key=shortest_time)


def threads(number: int) -> ThreadPoolExecutor:
    """Return so many threads that run operators, each on itself alone."""
    return ThreadPoolExecutor(number, initializer=partial(torch.set_num_threads, 1))


def in_turn(layers: list[list[Task]]) -> None:
    """Run one direction of a layer after the other."""
    for task in chain.from_iterable(layers):
        task()


def at_once(layers: list[list[Task]], pool: ThreadPoolExecutor) -> None:
    """Run the directions of a layer at once."""
    for directions in layers:
        for done in [pool.submit(task) for task in directions]:
            done.result()


def direction(gates: int, size: Size, backward: bool) -> Task:
    """Return the task of the products of one layer and direction.

    Each product is computed in the fastest way that this PyTorch has.
    """
    steps, batch, inputs, hidden = size
    x, h = torch.randn(steps * batch, inputs), torch.randn(batch, hidden)
    weight_ih, weight_hh = torch.randn(gates * hidden, inputs), torch.randn(gates * hidden, hidden)
    output, d, d_step = (
        torch.randn(*shape)
        for shape in (
            (steps * batch, hidden),
            (steps * batch, gates * hidden),
            (batch, gates * hidden),
        )
    )

    own = load_kernels() and packs(torch.float32)

    def task() -> None:
        all_steps(x, weight_ih, own)
        each_step(h, weight_hh, steps, own)
        if backward:
            each_step(d_step, weight_hh.t().contiguous(), steps, own)
            gradient(d, output, own), gradient(d, x, own), all_steps(d, weight_ih.t(), own)

    return task


def all_steps(x: Tensor, weight: Tensor, own: bool) -> Tensor:
    """Return x W^T of the rows of all steps, by the kernels' `own` products or by PyTorch's."""
    y: Tensor = torch.ops.seq2seq.projection(x, weight) if own else F.linear(x, weight)
    return y


def each_step(x: Tensor, weight: Tensor, steps: int, own: bool) -> None:
    """Compute x W^T of a step's rows, so many times; `own` as in `all_steps`."""
    if own:
        kept, columns = packed(weight), len(weight)
        product = partial(torch.ops.seq2seq.packed_projection, x, kept, None, columns)
    else:
        product = partial(F.linear, x, weight)
    for _ in range(steps):
        product()


def gradient(d: Tensor, x: Tensor, own: bool) -> Tensor:
    """Return the gradient d^T x of a weight; `own` as in `all_steps`."""
    return torch.ops.seq2seq.weight_gradient(d, x) if own else torch.mm(d.t(), x)
