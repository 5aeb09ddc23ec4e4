"""Checks of arguments and inputs, in the words of torch.nn where it has some."""

import warnings

import torch
from torch import Tensor

from .precision import autocast_enabled
from .reference import State


class InputError(ValueError, RuntimeError):
    """An input or state that a layer refuses.

    torch.nn raises ValueError for some of these and RuntimeError for others; this is both.
    """


def check_sizes(sizes: dict[str, int]) -> None:
    """Raise TypeError unless the sizes are whole numbers, ValueError if one is below 1."""
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{name}={size}: expected at least 1")


def check_flags(flags: dict[str, bool]) -> None:
    """Raise TypeError unless the arguments are bool: a number may stand in a wrong place."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")


def check_dropout(dropout: float, num_layers: int) -> float:
    """Return dropout, a probability; warn as torch.nn does if no layer is above another."""
    is_number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
    if not is_number or not 0 <= dropout <= 1:
        raise ValueError(f"dropout={dropout!r}: expected a probability from 0 to 1")
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout"
            f" expects num_layers greater than 1, but got dropout={dropout} and num_layers=1",
            stacklevel=3,
        )
    return float(dropout)


def check_input(x: Tensor, input_size: int, like: Tensor, cell: str, packed: bool) -> None:
    """Raise InputError unless x (..., I) has the dimensions, features, type and device it needs.

    `like` is a parameter.
    """
    if packed and x.dim() != 2:
        raise InputError(f"input must have 2 dimensions, got {x.dim()}")
    if not packed and x.dim() not in (2, 3):
        raise InputError(f"{cell.upper()}: Expected input to be 2D or 3D, got {x.dim()}D instead")
    if x.size(-1) != input_size:
        raise InputError(
            f"input.size(-1) must be equal to input_size. Expected {input_size}, got {x.size(-1)}"
        )
    _check_type(x, like)


def check_rows(rows: Tensor, table: Tensor, size: int, like: Tensor, packed: bool) -> None:
    """Raise InputError unless rows are whole numbers (T, B), (T,) or (N,), the table (V, size).

    The table has the type and the device of `like`, a parameter.
    """
    if table.dim() != 2 or table.size(1) != size:
        raise InputError(f"projected: Expected input terms (V, {size}), got {tuple(table.shape)}")
    _check_type(table, like)
    whole = rows.dtype in (torch.int64, torch.int32)
    if not whole or rows.device != table.device or rows.dim() not in ((1,) if packed else (1, 2)):
        expected = "(N,)" if packed else "(T, B) or (T,)"
        raise InputError(
            f"input: Expected rows {expected} of projected, int64 or int32 on {table.device},"
            f" got {rows.dtype} of shape {tuple(rows.shape)} on {rows.device}"
        )


def check_cell_input(x: Tensor, input_size: int, like: Tensor, cell: str) -> None:
    """Raise InputError unless x (B, I) or (I,) has the dimensions, features, type and device.

    `like` is a parameter.
    """
    if x.dim() not in (1, 2):
        raise InputError(
            f"{cell.upper()}Cell: Expected input to be 1D or 2D, got {x.dim()}D instead"
        )
    if x.size(-1) != input_size:
        raise InputError(
            f"input has inconsistent input_size: got {x.size(-1)} expected {input_size}"
        )
    _check_type(x, like)


def _check_type(x: Tensor, like: Tensor) -> None:
    if x.device != like.device:
        raise InputError(
            "Input and parameter tensors are not at the same device, found input tensor at"
            f" {x.device} and parameter tensor at {like.device}"
        )
    if not fits(x, like):
        raise InputError(
            f"RNN input dtype ({x.dtype}) does not match weight dtype ({like.dtype})."
            f" Convert input: input.to({like.dtype}), or convert model: model.to({x.dtype})"
        )


def check_state(state: State, shape: tuple[int, ...], like: Tensor, names: tuple[str, ...]) -> None:
    """Raise InputError unless a state has these parts, this shape, and the parameters' device.

    Their type is the parameters' too, except under autocast. `like` is a parameter.
    """
    _check_parts(state, names)
    _check_dimensions(state, len(shape))
    for i, (name, s) in enumerate(zip(names, state, strict=True)):
        if s.shape != shape:
            hidden = f"hidden[{i}]" if len(names) == 2 else "hidden"
            raise InputError(f"{name}: Expected {hidden} size {shape}, got {list(s.shape)}")
        _check_state_type(name, s, like)


def check_cell_state(
    state: State, shape: tuple[int, ...], like: Tensor, names: tuple[str, ...], cell: str
) -> None:
    """Raise InputError as `check_state` does, in the words of torch.nn's cells."""
    _check_parts(state, names)
    for i, (name, s) in enumerate(zip(names, state, strict=True)):
        if s.dim() not in (1, 2):
            what = f"hx[{i}]" if len(names) == 2 else "hidden"
            raise InputError(
                f"{cell.upper()}Cell: Expected {what} to be 1D or 2D, got {s.dim()}D instead"
            )
        if s.shape != shape:
            found, batched = tuple(s.shape), len(shape) == 2
            size = found[-1] if batched else found[0]
            words = f"hidden{i} has inconsistent hidden_size: got {size}, expected {shape[-1]}"
            if batched and found[0] != shape[0]:
                words = f"Input batch size {shape[0]} doesn't match hidden{i} batch size {found[0]}"
            raise InputError(f"{name} has shape {found}: expected {shape}; {words}")
        _check_state_type(name, s, like)


def _check_parts(state: State, names: tuple[str, ...]) -> None:
    if len(state) != len(names):
        raise InputError(f"hx has {len(state)} tensors: expected {', '.join(names)}")
    for name, s in zip(names, state, strict=True):
        if not isinstance(s, Tensor):
            raise InputError(f"{name} is of type {type(s).__name__}: expected a tensor")


def _check_state_type(name: str, s: Tensor, like: Tensor) -> None:
    if s.device != like.device:
        raise InputError(
            f"{name}: Input and hidden tensors are not at the same device, found input tensor"
            f" at {like.device} and hidden tensor at {s.device}"
        )
    if not fits(s, like):
        raise InputError(
            f"{name}: Input and hidden tensors are not the same dtype, found weights with"
            f" {like.dtype} and hidden tensor with {s.dtype}"
        )


def _check_dimensions(state: State, expected: int) -> None:
    if any(s.dim() != expected for s in state):
        found = ", ".join(f"{s.dim()}-D" for s in state)
        single = len(state) == 1
        raise InputError(
            f"For {'batched' if expected == 3 else 'unbatched'} {expected}-D input,"
            f" {'hx' if single else 'hx and cx'} should also be {expected}-D but got"
            f" {f'{found} tensor' if single else f'({found}) tensors'}"
        )


def fits(x: Tensor, like: Tensor) -> bool:
    """Return whether an input's type is that of the parameters, or one that autocast converts."""
    return x.dtype == like.dtype or (x.is_floating_point() and autocast_enabled(x.device.type))
