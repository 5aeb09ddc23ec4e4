"""The layers of torch.nn and ours, for programs that use either."""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from oracles import parts
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from seq2seq.rnn import GRU, LSTM, RNN
from seq2seq.rnn.cpu import build

OURS: dict[str, Callable[..., nn.Module]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}
NORMS = ["none", "layer", "rms", "batch"]
HAS_COMPILER = shutil.which(build.compiler()[0]) is not None
BACKENDS = ["reference", *(["fused"] if HAS_COMPILER else [])]
Make = Callable[..., Any]
"""A class of layers, or one with its norm and backend: called with torch's arguments."""


def torchs(cell: str) -> Make:
    """Return a class of torch.nn."""
    found: Make = getattr(nn, cell)
    return found


def ours(cell: str, norm: str = "layer", backend: str = "auto") -> Make:
    """Return our class with a norm and a backend."""
    return partial(OURS[cell], norm=norm, backend=backend)


def tensors_of(result: Any) -> list[Tensor]:
    """Return the output and the last states that a layer has returned."""
    output, last = result
    return [output.data if isinstance(output, PackedSequence) else output, *parts(last)]


def state_for(
    cell: str, *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Any:
    """Return zeros as hx: a tensor, or two of an LSTM."""
    zeros = torch.zeros(shape, dtype=dtype, device=device)
    return (zeros, zeros) if cell == "LSTM" else zeros


def same_weights(cell: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """Return torch's layer, and ours without a norm and with the same weights."""
    torch.manual_seed(0)
    theirs = torchs(cell)(*arguments, **options)
    mine = ours(cell, "none")(*arguments, **options)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, mine
