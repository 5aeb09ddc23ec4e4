"""GPUs: kernels in Triton, their self-check, and torch's own functions where there is no norm."""

import torch


def is_gpu(device: torch.device) -> bool:
    """Return whether layers on a device take the kernels and functions of this folder."""
    return device.type == "cuda"
