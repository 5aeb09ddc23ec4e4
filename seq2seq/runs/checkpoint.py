"""Checkpoints: a safetensors file each, with JSON and a checksum in its header.

Nothing in it can be executed. A file is written under a temporary name, flushed to the disk, read
back and renamed: at any moment the final name holds a whole checkpoint, the older or the newer.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import AGAIN
from ..files import place, replacing
from .seal import DIGITS, NO_DIGEST, SEALED, SealError, is_sealed, read_back, seal

LOG = logging.getLogger(__name__)
UNSEALED = "state"
"""Key of the state in files of versions up to 0.2, which have no checksum."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another architecture."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


DAMAGE = (SafetensorError, KeyError, ValueError, RecursionError)
"""What is raised where a file is no checkpoint; SealError and those of JSON are ValueErrors."""


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


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a checkpoint that is whole; CheckpointError where it is missing or damaged."""
    try:
        path.open("rb").close()  # safetensors reports any error as a missing file
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such checkpoint{place(path)}; expected a run that has been validated"
        ) from error
    try:
        with _checked(path) as file:
            yield file
    except DAMAGE as error:
        raise CheckpointError(
            f"{path}: damaged or truncated checkpoint ({error})", _advice(path)
        ) from error


@contextmanager
def _checked(path: Path) -> Iterator[Any]:
    """Open a file whose checksum is right, or one of an older version; else raise of DAMAGE."""
    sealed = is_sealed(path)
    with safe_open(path, framework="pt") as file:
        found = (file.metadata() or {}).keys() & {SEALED, UNSEALED}
        if found != {SEALED if sealed else UNSEALED}:
            raise SealError("it has no state or no checksum, as a file of another program")
        if not sealed:
            _remark_on(path.parent)
        yield file


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
        with suppress(OSError, AttributeError, *DAMAGE), _checked(other) as file:
            update = _state(file)["progress"]["update"]
            return f"copy the run again, or use {other.name} in its place (whole, update {update})"
    return AGAIN


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
