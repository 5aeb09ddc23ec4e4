"""Cases for the tests of single-step cells: ours, torch's, and our layers with the same weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from oracles import CELLS, config
from torch import Tensor, nn

from seq2seq.rnn import (
    GRUCell,
    LSTMCell,
    NormConfig,
    NormKind,
    RecurrentCell,
    RecurrentLayers,
    RNNCell,
)

INPUT, HIDDEN, ROWS = 6, 10, 5
STEP_CELLS: dict[str, Callable[..., RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "rnn_tanh": RNNCell,
    "rnn_relu": partial(RNNCell, nonlinearity="relu"),
}
TORCH_STEP_CELLS: dict[str, Callable[..., nn.RNNCellBase]] = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "rnn_tanh": nn.RNNCell,
    "rnn_relu": partial(nn.RNNCell, nonlinearity="relu"),
}
NORMS: dict[str, NormConfig] = {
    "none": config("none"),
    "layer": config("layer"),
    "rms": config("rms"),
    "batch": config("batch", max_steps=8),
    "batch shared": config("batch", statistics="shared"),
    "batch of the input": config("batch", statistics="sequence_input", max_steps=8),
}


def cell_of(cell: str, norm: str | NormConfig, **options: Any) -> RecurrentCell:
    """Return a cell with random parameters; those of the norm are of size one."""
    torch.manual_seed(3)
    found = STEP_CELLS[cell](INPUT, HIDDEN, norm=NORMS.get(str(norm), norm), **options)
    for name, parameter in found.named_parameters():
        if name.startswith(("gain", "bias_c")):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return found


def layer_like(cell: RecurrentCell, name: str) -> RecurrentLayers:
    """Return our layer with the parameters, statistics and mode of a cell of this name."""
    weight = cell.get_parameter("weight_ih")
    layer = CELLS[name](
        INPUT, HIDDEN, bias=cell.bias, dtype=weight.dtype, norm=cell.norm, backend=cell.backend
    )
    layer.load_state_dict({f"{key}_l0": value for key, value in cell.state_dict().items()})
    return layer.train(cell.training)


def state_of(cell: str, dtype: torch.dtype = torch.float32, rows: int | None = ROWS) -> Any:
    """Return a random state (rows, H), or (H,), as torch's cells take it."""
    generator = torch.Generator().manual_seed(4)
    shape = (2, HIDDEN) if rows is None else (2, rows, HIDDEN)
    h, c = torch.randn(shape, generator=generator, dtype=torch.double).to(dtype)
    return (h, c) if cell == "lstm" else h


def x_of(dtype: torch.dtype = torch.float32, *shape: int) -> Tensor:
    """Return a random input of this shape; (ROWS, INPUT) by default."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(shape or (ROWS, INPUT), generator=generator, dtype=torch.double).to(dtype)


def step_results(
    module: nn.Module, x: Tensor, state: Any, call: Callable[..., Any] | None = None
) -> dict[str, Tensor | None]:
    """Return the state after a step, and all gradients by the names of a cell.

    `call` calls the module, if that is no cell, as one.
    """
    module.zero_grad()
    x = x.clone().requires_grad_()
    given = () if state is None else state if isinstance(state, tuple) else (state,)
    hx = tuple(s.clone().requires_grad_() for s in given)
    after = (call or module)(x, (hx if len(hx) == 2 else hx[0]) if hx else None)
    states = after if isinstance(after, tuple) else (after,)
    generator = torch.Generator().manual_seed(6)
    upstream = [torch.randn(s.shape, generator=generator, dtype=torch.double) for s in states]
    torch.autograd.backward(states, [u.to(s.dtype) for u, s in zip(upstream, states, strict=True)])
    found: dict[str, Tensor | None] = {"x": x.grad}
    found |= {f"after {i}": s.detach() for i, s in enumerate(states)}
    found |= {f"state {i}": s.grad for i, s in enumerate(hx)}
    return found | {
        f"d {name.removesuffix('_l0')}": p.grad for name, p in module.named_parameters()
    }


def as_cell(layer: RecurrentLayers, first_step: Any = 0) -> Callable[..., Any]:
    """Return a layer as a function with the arguments and results of a cell."""

    def call(x: Tensor, hx: Any) -> Any:
        if hx is not None:
            hx = tuple(s[None] for s in hx) if layer.cell == "lstm" else hx[None]
        _, last = layer(x[None], hx, first_step=first_step)
        return tuple(s[0] for s in last) if layer.cell == "lstm" else last[0]

    return call


def is_batch(norm: NormConfig) -> bool:
    """Return whether this is batch norm."""
    return norm.kind is NormKind.batch


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers, by their names in a cell."""
    return {name.removesuffix("_l0"): b.clone() for name, b in module.named_buffers()}
