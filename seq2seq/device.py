"""The device to compute on, its name, threads, and precision."""

import logging
import os
import platform
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

from .config import Device, Precision

LOG = logging.getLogger(__name__)
CPU_INFO = Path("/proc/cpuinfo")
"""Linux' description of the CPU; on other systems Python knows the name."""


def choose_device(device: Device, asked: str = "trainer.device=") -> torch.device:
    """Return the configured device; auto is CUDA if there is one.

    Each process of torchrun gets the GPU of its local rank. Raises ValueError for cuda without a
    CUDA device; `asked` is what the device was asked for by.
    """
    available = torch.cuda.is_available()
    if device is Device.cuda and not available:
        raise ValueError(f"{asked}cuda: torch finds no CUDA device here; expected auto or cpu")
    if not available or device is Device.cpu:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def processor(device: torch.device) -> str:
    """Return the name of the GPU, or the name of the CPU with its vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = CPU_INFO.read_text(encoding="utf-8", errors="replace") if CPU_INFO.is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE)
    name = named[1] if named else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def is_read_freely(device: torch.device) -> bool:
    """Return whether numbers on a device are read without waiting, as for a GPU's work."""
    return device.type == "cpu"


def set_threads(threads: int | None) -> None:
    """Set the number of CPU threads; None leaves torch's choice. ValueError below 1."""
    if threads is None:
        return
    if threads < 1:
        raise ValueError(f"threads={threads}: expected at least 1")
    torch.set_num_threads(threads)


def divide_threads(processes: int) -> None:
    """Leave this process its share of its CPU threads, at least one."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context in which matrix products are in bfloat16, or one that does nothing.

    Warns once if this CPU has no such products.
    """
    if precision is Precision.fp32:
        return nullcontext()
    if device.type == "cpu" and not multiplies_bfloat16():
        _warn_of_emulation()
    return torch.autocast(device.type, torch.bfloat16)


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has fast products of bfloat16, as far as PyTorch knows."""
    onednn = torch.backends.mkldnn
    return not onednn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def _warn_of_emulation() -> None:
    LOG.warning(
        "precision=bf16: this CPU has no bfloat16 products, so that fp32 is at least as fast;"
        " with backend=reference it is many times faster"
    )


def is_end_of_memory(error: BaseException) -> bool:
    """Return whether an error says that no memory is left; torch's has no type on a CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
