"""Which cases the fused kernels support; `cpu/launch.py` calls them.

The kernels of cpu/ run on the CPU and those of gpu/ on NVIDIA GPUs. They support every cell with
its default placements and terms of the norm, the LSTM with norm.cell=none, and batch norm of the
vanilla cell with separate terms.
"""

import torch
from torch.autograd import forward_ad

from .precision import product_dtype
from .reference import CellParameters

DEVICES = ("cpu", "cuda")
SEGMENTS = {"lstm": 1, "gru": 2, "rnn": 1}
"""Separately normalised parts of the input term with norm.group=vector."""


def unsupported(p: CellParameters, by_row: bool = False) -> str | None:
    """Return what the kernels do not support in a case; None if they support it.

    by_row: first_step is (B,).
    """
    device, dtype, normalised = p.weight_hh.device, p.weight_hh.dtype, p.ih.kind != "none"
    products = product_dtype(p.weight_hh)
    separate_rnn = normalised and not p.joint and p.cell == "rnn" and p.ih.kind != "batch"
    cases = {  # formatted only where one holds, since every call comes here
        "norm.terms=joint_all": p.joint_all,
        "norm.terms=joint": p.joint and p.cell != "rnn",
        "norm.terms=separate": separate_rnn,
        "norm.cell=carried_only": p.carried_only,  # the narrower case comes first
        "norm.cell=carried": p.carried,
        "norm.group=gate": len(p.ih.segments) > SEGMENTS[p.cell],
        "norm.sync in several processes": p.is_synchronized,
        "device {device}": device.type not in DEVICES,
        "parameters of {dtype}": dtype != torch.float32,
        "a first_step of each row on a GPU": by_row and device.type == "cuda",
        "a first_step of each row with gradients": by_row and torch.is_grad_enabled(),
        "functions of torch.func": torch._C._are_functorch_transforms_active(),
        "forward-mode derivatives": forward_ad._current_level >= 0,
        "autocast to {products}": products not in (torch.float32, torch.bfloat16),
    }
    found = next((case for case, holds in cases.items() if holds), None)
    return found and found.format(device=device, dtype=dtype, products=products)
