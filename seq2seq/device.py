"""Where and in which precision to compute."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from .config import Device, Precision


def choose_device(device: Device) -> torch.device:
    """The device by name; auto is CUDA where there is one. Of several processes each has the GPU of its number."""
    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise ValueError("device=cuda: torch finds no CUDA device here; expected auto or cpu")
    if not available or device is Device.cpu:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def set_threads(threads: int | None) -> None:
    """Use so many CPU threads; None leaves torch's choice."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads={threads}: expected at least 1")
    torch.set_num_threads(threads)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Products in bfloat16 inside, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision is Precision.bf16 else nullcontext()
