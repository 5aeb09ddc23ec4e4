"""The matrix products of a translator alone: the floor of training and search.

The same shapes, and as many rows as there are without padding. Attention's own products, less than
1% of all, are left out. N rows, E embedding, H hidden, V vocabulary.
"""

import time
from collections.abc import Iterable, Iterator
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import ModelConfig, Precision
from ..rnn import load_kernels, packed, packs
from .timing import Task

Product = tuple[int, int, int, bool]
"""Rows N, inner size K, columns M of x (N, K) W^T; whether W (M, K) stays for a whole update."""
TRIALS = 2


class Floor:
    """Products, each computed in the way that is fastest on this machine for shapes like it."""

    def __init__(self, precision: Precision = Precision.fp32) -> None:
        """Start without any shape."""
        self.dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float32
        self.fastest: dict[tuple[int, int, int, bool], int] = {}

    def task(self, products: Iterable[Product]) -> Task:
        """Return the task of all these products; the ways are chosen now."""
        made = [self.way(*product) for product in products]

        def task() -> None:
            for way in made:
                way()

        return task

    def way(self, rows: int, inner: int, columns: int, kept: bool) -> Task:
        """Return the task of one product; sizes of as many binary digits share their choice."""
        found = ways(rows, inner, columns, kept, self.dtype)
        like = (rows.bit_length(), inner.bit_length(), columns.bit_length(), kept)
        if like not in self.fastest:
            times = [shortest_time(way) for way in found]
            self.fastest[like] = times.index(min(times))
        return found[self.fastest[like]]


def ways(rows: int, inner: int, columns: int, kept: bool, dtype: torch.dtype) -> list[Task]:
    """Return the ways to compute x W^T, of x (rows, inner) and W (columns, inner) of a type.

    PyTorch's product, with either operand transposed; that of the kernels, with a packed W if W is
    kept.
    """
    x, weight = matrix("x", rows, inner, dtype), matrix("weight", columns, inner, dtype)
    out, turned = matrix("out", rows, columns, dtype), matrix("out", columns, rows, dtype)
    found: list[Task] = [
        partial(torch.mm, x, weight.t(), out=out),
        partial(torch.mm, x, matrix("weight", inner, columns, dtype), out=out),
        partial(torch.mm, weight, x.t(), out=turned),
    ]
    if load_kernels() and packs(dtype):
        own = torch.ops.seq2seq
        if kept:
            found.append(
                partial(
                    own.packed_projection, x, packed_weight(columns, inner, dtype), None, columns
                )
            )
        else:
            found.append(partial(own.weight_gradient, x.t(), weight.t()))
    return found


def matrix(role: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return a matrix of this shape; those of one role share their memory."""
    size = rows * columns
    return numbers(role, (size - 1).bit_length(), dtype)[:size].view(rows, columns)


@cache
def numbers(role: str, bits: int, dtype: torch.dtype) -> Tensor:
    """Return 2 ** bits random numbers."""
    return torch.randn(1 << bits).to(dtype)


@cache
def packed_weight(columns: int, inner: int, dtype: torch.dtype) -> Tensor:
    """Return W (columns, inner), packed."""
    return packed(torch.randn(columns, inner).to(dtype))


def shortest_time(task: Task) -> float:
    """Return the shortest time of some trials, after one that is not timed."""
    task()
    times = []
    for _ in range(TRIALS):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def alive(lengths: NDArray[np.integer]) -> list[int]:
    """Return the number of sentences that are longer than t, for each step t."""
    return [int((lengths > t).sum()) for t in range(int(lengths.max()))]


def training_products(
    config: ModelConfig,
    vocabulary: int,
    src_lengths: NDArray[np.integer],
    tgt_lengths: NDArray[np.integer],
) -> Iterator[Product]:
    """Yield the products of an update: forward, and the gradients of input and weight.

    The lengths (B,) count eos. Input feeding needs the decoder's products step by step; without it
    all but W_hh h run over all steps at once.
    """
    embedding, hidden, sentences = config.embedding_size, config.hidden_size, len(src_lengths)
    src, tgt, words = int(src_lengths.sum()), [int(tgt_lengths.sum())], alive(tgt_lengths)
    for _ in range(2):
        yield from trained([src], embedding, 2 * hidden)
        yield from trained(alive(src_lengths), hidden // 2, 2 * hidden)
        yield from trained([sentences], hidden, hidden)  # the bridge, h and c
    yield from trained([src], hidden, hidden)  # keys
    fed = config.input_feeding
    yield from trained(words if fed else tgt, embedding + fed * hidden, 4 * hidden)
    yield from trained(words, hidden, 4 * hidden)
    yield from trained(words if fed else tgt, 2 * hidden, hidden)
    yield from trained(tgt, hidden, vocabulary)


def trained(steps: list[int], inner: int, columns: int) -> Iterator[Product]:
    """Yield x W^T and the gradient dy W of x, at steps of so many rows; then that of W at once."""
    for rows in steps:
        yield rows, inner, columns, True
        yield rows, columns, inner, True
    yield columns, sum(steps), inner, False


def search_products(
    config: ModelConfig, vocabulary: int, src_lengths: NDArray[np.integer], rows: list[int]
) -> Iterator[Product]:
    """Yield the products of translating a batch, with so many rows at each step.

    The lengths (B,) of the source count eos.
    """
    embedding, hidden, sentences = config.embedding_size, config.hidden_size, len(src_lengths)
    src = int(src_lengths.sum())
    for _ in range(2):
        yield src, embedding, 2 * hidden, True
        yield from ((count, hidden // 2, 2 * hidden, True) for count in alive(src_lengths))
        yield sentences, hidden, hidden, True
    yield src, hidden, hidden, True
    for count in rows:
        yield count, embedding + config.input_feeding * hidden, 4 * hidden, True
        yield count, hidden, 4 * hidden, True
        yield count, 2 * hidden, hidden, True
        yield count, hidden, vocabulary, True
