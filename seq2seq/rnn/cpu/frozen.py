"""Scopes in which weights do not change, so that what is made of them can be kept.

Outside of them nothing is kept: PyTorch counts no write through `parameter.data` or `.numpy()`, so
that whatever is kept could be out of date.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import is_
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Scope:
    """What is kept of one module while some `frozen` is open for it."""

    opened: int = 0
    """How many are open, in all threads."""
    kept: dict[Any, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    """Of the tensors that the module reads, when something was first kept."""
    sources: list[Tensor] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def of(self, module: nn.Module) -> dict[Any, Any] | None:
        """Return what is kept; None while the module has other tensors, as in functional_call."""
        own = tensors_of(module)
        tensors = [t for named in own for t in named.values() if t is not None]
        if not self.names:
            self.sources, self.versions = tensors, versions(tensors)
            self.names = [n for named in own for n, t in named.items() if t is not None]
        same = len(tensors) == len(self.sources) and all(map(is_, tensors, self.sources))
        return self.kept if same else None

    def check(self) -> None:
        """Raise RuntimeError if a source has changed."""
        for name, before, now in zip(
            self.names, self.versions, versions(self.sources), strict=True
        ):
            if before != now:
                raise RuntimeError(
                    f"{name} changed within `frozen`: expected weights that stay as they are"
                )


SCOPES: dict[nn.Module, Scope] = {}
"""The modules that are frozen. A copy of a module is another one, which is not."""
LOCK = Lock()
"""Held while scopes are opened and closed."""


def tensors_of(module: nn.Module) -> list[Mapping[str, Tensor | None]]:
    """Return the tensors that a module reads, by name: its own, and those of parametrizations.

    A plain tensor may be in the place of a parameter.
    """
    plain = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    found: list[Mapping[str, Tensor | None]] = [module._parameters, module._buffers, plain]
    if (parametrizations := module._modules.get("parametrizations")) is not None:
        found += [dict(parametrizations.named_parameters()), dict(parametrizations.named_buffers())]
    return found


def versions(tensors: list[Tensor]) -> list[int]:
    """Return how often PyTorch has seen each tensor change; 0 where it does not count."""
    return [0 if t.is_inference() else t._version for t in tensors]


class Freezable(nn.Module):
    """Base of modules that keep what they make of their weights within `frozen`."""

    def kept(self) -> dict[Any, Any] | None:
        """Return what is kept, to be added to; None where nothing may be."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or self.training:
            return None
        scope = SCOPES.get(self)
        return None if scope is None else scope.of(self)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Promise that the weights of modules do not change, so that many calls read them faster.

    Inside, layers in eval mode without gradients prepare their weights once, and not in each call.
    A search calls a decoder at every step. On leaving the outermost scope of a module, also by an
    exception, everything that was kept is dropped. The promise holds for all threads. In training
    mode, or with gradients enabled, nothing is kept, and the scope has no effect.

    Raises RuntimeError on leaving if a weight has changed, as far as PyTorch counts changes: it
    counts no write through `parameter.data` or `.numpy()`.
    """
    found = {m for module in modules for m in module.modules() if isinstance(m, Freezable)}
    with LOCK:
        scopes = [SCOPES.setdefault(module, Scope()) for module in found]
        for scope in scopes:
            scope.opened += 1
    try:
        yield
        for scope in scopes:
            scope.check()
    finally:
        with LOCK:
            for module, scope in zip(found, scopes, strict=True):
                scope.opened -= 1
                if not scope.opened:
                    del SCOPES[module]
