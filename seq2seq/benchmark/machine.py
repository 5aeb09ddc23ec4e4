"""Where numbers were measured: versions, processor, threads, the commit, and other work."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from ..device import processor
from ..training.commit import code_commit


def machine() -> dict[str, Any]:
    """Return what numbers have to be compared with: they depend on all of it."""
    return {
        "commit": code_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "processor": processor(torch.device("cpu")),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load(),
    }


def load() -> float | None:
    """Return the processes that wanted a core, averaged over the last minute; None if unknown."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
