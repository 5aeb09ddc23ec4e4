"""The recurrences. Every backend is a module with `recurrence`, of the signature in `reference`."""

from types import ModuleType

from . import reference
from .normalization import BatchStatistics, Pool, Term
from .reference import CellParameters, State

__all__ = ["BatchStatistics", "CellParameters", "Pool", "State", "Term", "load_backend"]


def load_backend(name: str) -> ModuleType:
    """The module that runs the recurrences: name is 'auto', 'reference' or 'fused'."""
    if name in ("auto", "reference"):
        return reference
    if name == "fused":
        raise RuntimeError("backend='fused': this version has no fused kernels; expected 'auto' or 'reference'")
    raise ValueError(f"backend={name!r}: expected 'auto', 'reference' or 'fused'")
