"""Checkpoints: a safetensors file each, with JSON and a checksum in its header.

Nothing in it can be executed. A file is written under a temporary name, flushed to the disk, read
back and renamed: at any moment the final name holds a whole checkpoint, the older or the newer.
"""

import errno
import json
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import stored
from ..errors import AGAIN, DataError
from ..files import place, replacing
from ..shown import brief
from ..stored import opened
from .seal import DIGITS, NO_DIGEST, SEALED, SealError, is_sealed, read_back, seal

Value = TypeVar("Value")
LOG = logging.getLogger(__name__)
UNSEALED = "state"
"""Key of the state in files of versions up to 0.2, which have no checksum."""


MOST_BEYOND = 10
"""Times the size of a checkpoint from which a model is not that of its run at all."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another architecture."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


DAMAGE = (SafetensorError, *stored.DAMAGE)
"""What is raised where a file is no checkpoint."""


def save_checkpoint(
    path: Path, tensors: dict[str, Tensor], state: dict[str, Any], keep: Path | None = None
) -> None:
    """Write tensors and a state that JSON can hold to one file.

    The older file is replaced once the new one has been read back; `keep` is its new name.
    """
    # safetensors refuses tensors that share memory: tied weights are written once a name.
    owned = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with replacing(path) as temporary:
        try:
            save_file(owned, temporary, metadata={SEALED: NO_DIGEST + json.dumps(state)})
        except SafetensorError as error:
            raise as_os_error(error) from error
        seal(temporary)
        read_back(temporary)
        if keep is not None and path.exists():
            keep_as(path, keep)


def keep_as(path: Path, kept: Path) -> None:
    """Give a file a second name; where the system has no links, a new name."""
    with replacing(kept) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            os.replace(path, temporary)


def as_os_error(error: SafetensorError) -> OSError:
    """Return the system error that safetensors reports as text, such as a full disk.

    The text is "... (os error 28)", or in safetensors 0.5 "... Os { code: 28, ...".
    """
    found = re.search(r"\b(?:os error|Os \{ code:) (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint, on the CPU, and its state.

    CheckpointError where it is missing or damaged.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _state(file)


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shapes of tensors by their names."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def first_shapes(paths: Sequence[Path]) -> tuple[Path, dict[str, torch.Size]] | None:
    """Return the first whole checkpoint of a model, and that model's shapes; None: none is."""
    for path in paths:
        with suppress(CheckpointError), _opened(path) as file:
            names = file.keys()
            shapes = {name: torch.Size(file.get_slice(name).get_shape()) for name in names}
            if found := group(shapes, "model"):
                return path, found
    return None


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint without its tensors; the whole file is checked."""
    with _opened(path) as file:
        return _state(file)


def _state(file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    found = json.loads(metadata[SEALED][DIGITS:] if SEALED in metadata else metadata[UNSEALED])
    if not isinstance(found, dict):
        raise ValueError("its state is no JSON object")
    return found


def read_standing(path: Path) -> list[float]:
    """Return the numbers of the validation of a checkpoint that is kept to be averaged."""
    with _opened(path) as file:
        return [float(number) for number in _state(file)["standing"]]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checkpoint that is whole; CheckpointError where it is missing or damaged."""
    try:
        with opened(path):  # safetensors reports any error as a missing file
            pass
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such checkpoint{place(path)}; expected a run that has been validated"
        ) from error
    try:
        with _checked(path) as file:
            yield file
    except DAMAGE as error:
        raise CheckpointError(
            f"{path}: damaged or truncated checkpoint ({_reason(error)})", _advice(path)
        ) from error


@contextmanager
def _checked(path: Path) -> Iterator[Any]:
    """Open a file whose checksum is right, or one of an older version; else raise of DAMAGE."""
    sealed = is_sealed(path)
    with safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).keys() & {SEALED, UNSEALED}
        if found != {SEALED if sealed else UNSEALED}:
            raise SealError("no checksum, as a file of another program")
        if not sealed:
            _remark_on(path.parent)
        yield file


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, short enough for what helps to be said too."""
    return brief(str(error).removeprefix("Error while deserializing header: "), 48)


@cache
def _remark_on(folder: Path) -> None:
    """Log once that checkpoints of this folder have no checksum."""
    LOG.warning(
        "%s: checkpoints without a checksum, as versions up to 0.2 wrote them: a changed bit in"
        " them would not be found",
        folder,
    )


def _advice(path: Path) -> str:
    """Return what helps: for the best weights, the first file of the folder that is whole."""
    for other in sorted(path.parent.glob("*.safetensors")) if path.stem == "best" else ():
        with suppress(OSError, *DAMAGE), _checked(other) as file:
            update = _state(file)["progress"]["update"]
            if type(update) is int:
                use = f"use {other.name} in its place (whole, update {update})"
                return f"copy the run again, or {use}"
    return AGAIN


def group(tensors: dict[str, Value], prefix: str) -> dict[str, Value]:
    """Return the tensors, or what is of each, whose name starts with `prefix` and a dot.

    Both are left out of the names.
    """
    return {
        name.removeprefix(prefix + "."): t
        for name, t in tensors.items()
        if name.startswith(prefix + ".")
    }


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with `prefix` and a dot in front of their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def load_weights(
    model: nn.Module, weights: dict[str, Tensor], source: Path, assign: bool = False
) -> None:
    """Load weights into a model; CheckpointError names what of the architecture differs.

    With `assign` they become the model's own tensors, and are not copied.
    """
    expected = model.state_dict()
    check_shapes(shapes_of(weights), shapes_of(expected), source)
    check_values(weights, expected, source)
    model.load_state_dict(weights, assign=assign)


def check_values(weights: dict[str, Tensor], like: dict[str, Tensor], source: Path) -> None:
    """Raise CheckpointError unless weights are finite and of the types of others of their names."""
    for name, tensor in weights.items():
        if tensor.dtype != like[name].dtype or not is_finite(tensor):
            kind = str(like[name].dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: {name}: expected finite numbers of {kind}", AGAIN)


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite, without a copy: a nan is least and largest."""
    return not tensor.numel() or all(map(math.isfinite, map(float, tensor.aminmax())))


def check_shapes(
    found: dict[str, torch.Size], expected: dict[str, torch.Size], source: Path
) -> None:
    """Raise CheckpointError unless names and shapes are those of a model."""
    differences = [f"{name} is missing" for name in expected.keys() - found.keys()]
    differences += [f"{name} is not in the model" for name in found.keys() - expected.keys()]
    differences += [
        f"{name} has shape {tuple(found[name])}, the model {tuple(expected[name])}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if differences:
        others = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{source}: a checkpoint of another architecture: {brief(min(differences))}{others};"
            " expected the one that config.yaml and the tokenizers say"
        )


def check_memory(
    path: Path, found: dict[str, torch.Size], expected: Callable[[], dict[str, torch.Size]]
) -> None:
    """Raise CheckpointError for a model that is far larger than a run's checkpoint.

    `found` and `expected` are the shapes of their tensors; no memory is taken for the model.
    Smaller differences are named when the weights are loaded.
    """
    has = sum(map(math.prod, found.values()))
    try:
        wanted = sum(map(math.prod, expected().values()))
    except RuntimeError:  # more bytes than there are addresses
        wanted = 2**63
    if wanted > MOST_BEYOND * max(has, 1):
        raise CheckpointError(
            f"{path}: has {has:,} numbers, the model of config.yaml {wanted:,}", AGAIN
        )


def average_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean weights of several checkpoints, computed in float64.

    Counters are those of the last checkpoint, the newest.
    """
    loaded = [group(load_checkpoint(path)[0], "model") for path in paths]
    for path, weights in zip(paths, loaded, strict=True):
        check_shapes(shapes_of(weights), shapes_of(loaded[-1]), path)
        check_values(weights, loaded[-1], path)
    return {
        name: (
            torch.stack([w[name].double() for w in loaded]).mean(0).to(newest.dtype)
            if newest.is_floating_point()
            else newest
        )
        for name, newest in loaded[-1].items()
    }


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's tensors by `<parameter>.<kind>`."""
    return {
        f"{name}.{kind}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: dict[str, Tensor],
    kinds: Collection[str],
) -> None:
    """Load what `optimizer_tensors` returned; ValueError for anything else.

    Before the first update there is nothing. Later each parameter has a tensor of each of `kinds`.
    """
    index = {id(p): i for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    state: dict[int, dict[str, Tensor]] = {}
    names = {name: index[id(parameter)] for name, parameter in model.named_parameters()}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for key, value in tensors.items():
        name, _, kind = key.rpartition(".")
        shape = shapes[name] if kind != "step" else torch.Size()
        if not value.is_floating_point() or value.shape != shape or not value.isfinite().all():
            raise ValueError(f"{brief(key)}: expected finite numbers of shape {list(shape)}")
        state.setdefault(names[name], {})[kind] = value
    for name, number in names.items() if state else ():
        if state.get(number, {}).keys() != set(kinds):
            raise ValueError(f"{brief(name)}: expected {' and '.join(kinds)} of the optimizer")
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
