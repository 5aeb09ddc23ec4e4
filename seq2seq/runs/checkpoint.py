"""Checkpoints: a safetensors file each, with JSON in its header.

Nothing in it can be executed. A file is written under a temporary name, flushed to the disk and
renamed: at any moment the final name holds a whole checkpoint, the older or the newer.
"""

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import AGAIN
from ..files import place, replacing

HEADER_KEY = "state"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another architecture."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and a state that JSON can hold to one file."""
    # safetensors refuses tensors that share memory: tied weights are written once a name.
    owned = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with replacing(path) as temporary:
        try:
            save_file(owned, temporary, metadata={HEADER_KEY: json.dumps(state)})
        except SafetensorError as error:
            raise as_os_error(error) from error


def as_os_error(error: SafetensorError) -> OSError:
    """Return the system error that safetensors reports as text, such as a full disk.

    The text is "... (os error 28)", or in safetensors 0.5 "... Os { code: 28, ...".
    """
    found = re.search(r"\b(?:os error|Os \{ code:) (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a checkpoint, on the CPU, and its state."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, _state(file)


def read_state(path: Path) -> dict[str, Any]:
    """Return the state of a checkpoint without its tensors."""
    with _opened(path) as file:
        return _state(file)


def _state(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.metadata() or {})[HEADER_KEY])
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checkpoint; raise CheckpointError where it is missing, or damaged in what is read."""
    try:
        path.open("rb").close()  # safetensors reports any error as a missing file
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such checkpoint{place(path)}; expected a run that has been validated"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path}: damaged or truncated checkpoint ({error}); {AGAIN}"
        ) from error


def group(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name starts with `prefix` and a dot, without these."""
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
    differences = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    differences += [f"{name} is not in the model" for name in weights.keys() - expected.keys()]
    differences += [
        f"{name} has shape {tuple(weights[name].shape)}, the model {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if expected[name].shape != weights[name].shape
    ]
    if differences:
        others = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{source}: a checkpoint of another architecture: {min(differences)}{others};"
            " expected the one that config.yaml says"
        )
    model.load_state_dict(weights, assign=assign)


def average_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean weights of several checkpoints, computed in float64.

    Counters are those of the last checkpoint, the newest.
    """
    loaded = [group(load_checkpoint(path)[0], "model") for path in paths]
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
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned."""
    index = {id(p): i for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    state: dict[int, dict[str, Tensor]] = {}
    names = {name: index[id(parameter)] for name, parameter in model.named_parameters()}
    for key, value in tensors.items():
        name, _, kind = key.rpartition(".")
        state.setdefault(names[name], {})[kind] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
