"""The operators of cpu/ for GPUs: loops on the host, a product and a Triton kernel a step.

`recurrence`, `batch_norm_recurrence` and their backward passes take and return what the operators
of the same names in cpu/rows.cpp and cpu/columns.cpp do. Nothing waits for the device, no path
depends on values, and no sum depends on the order of threads: calls can be captured in a CUDA
graph, and the same input gives the same bits.
"""

import functools

import torch

from .column_operators import batch_norm_recurrence, batch_norm_recurrence_backward
from .row_operators import recurrence, recurrence_backward

OPERATORS = (
    recurrence,
    recurrence_backward,
    batch_norm_recurrence,
    batch_norm_recurrence_backward,
)


@functools.cache
def register() -> torch.library.Library:
    """Register the operators for CUDA tensors, once their schemas are defined.

    The cache keeps the library alive.
    """
    library = torch.library.Library("seq2seq", "IMPL")
    for operator in OPERATORS:
        library.impl(operator.__name__, operator, "CUDA")
    return library
