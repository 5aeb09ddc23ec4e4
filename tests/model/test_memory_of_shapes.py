"""Memory stays where it is when batches have ever new numbers of rows.

oneDNN compiles code for each shape of a product, and keeps half a megabyte of it for ever.
"""

import ctypes
import ctypes.util
from collections.abc import Callable

import pytest
import torch
from kernel_cases import needs_compiler
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from seq2seq.model.linear import Linear
from seq2seq.model.loss import linear_cross_entropy
from seq2seq.rnn import LSTM, frozen, packs

FIELDS = [
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
]
FIRST, SHAPES = range(500, 512), range(512, 572)
LIMIT = 10
"""Mebibytes; 60 shapes of a single product would take 30."""


class Allocated(ctypes.Structure):
    """What mallinfo2 of glibc returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


LIBRARY = ctypes.CDLL(ctypes.util.find_library("c"))
pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not hasattr(LIBRARY, "mallinfo2"), reason="the C library is not glibc"),
]


def used() -> float:
    """Return the mebibytes that malloc has given out."""
    LIBRARY.mallinfo2.restype = Allocated
    found: int = LIBRARY.mallinfo2().uordblks
    return found / 2**20


def layer_step(rows: int) -> None:
    """Train on a packed batch of so many rows in all."""
    torch.manual_seed(0)
    layer = LSTM(24, 32, norm="layer", backend="fused")
    steps = [rows // 10 + (i < rows % 10) for i in range(10)]
    packed = pack_sequence([torch.randn(n, 24) for n in steps])
    packed.data.requires_grad_()
    layer(packed)[0].data.sum().backward()


def linear_step(rows: int) -> None:
    """Train a linear layer on so many rows."""
    layer = Linear(24, 50)
    layer(torch.randn(rows, 24, requires_grad=True)).sum().backward()


@torch.no_grad()
def search_step(rows: int) -> None:
    """Multiply so many rows by a packed weight."""
    layer = Linear(24, 50).eval()
    with frozen(layer):
        layer(torch.randn(rows, 24))


def loss_step(rows: int) -> None:
    """Compute the loss of so many rows, and its gradients."""
    parts: list[Tensor] = [
        nn.Parameter(x) for x in (torch.randn(rows, 24), torch.randn(90, 24), torch.randn(90))
    ]
    linear_cross_entropy(parts[0], parts[1], parts[2], torch.randint(90, (rows,)))[0].backward()


@pytest.mark.parametrize("step", [layer_step, linear_step, search_step, loss_step])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_new_numbers_of_rows_need_no_more_memory(
    step: Callable[[int], None], precision: str
) -> None:
    narrow = precision == "bf16"
    if narrow and not packs(torch.bfloat16):
        pytest.skip("this CPU has no bfloat16 products")
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        for rows in FIRST:
            step(rows)
        before = used()
        for rows in SHAPES:
            step(rows)
    assert used() - before < LIMIT
