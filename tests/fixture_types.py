"""Types of the functions that fixtures return.

They are apart from the fixtures, because pytest has to be the first to import those.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from conftest import Done

from seq2seq.config import Config

AtUpdate = Callable[[int, Callable[[], object]], None]
"""`at_update`: takes an update's number, from 1, and what to do before it."""
Compare = Callable[..., Done]
"""`compare`: takes the command's arguments."""


class Composed(Protocol):
    """`composed`: return the configuration of these overrides, which a test may only read."""

    def __call__(self, *overrides: str, name: str = "train") -> Config: ...


class StartProcess(Protocol):
    """`process`: start train.py, or another program, with these overrides."""

    def __call__(
        self, *overrides: str, program: Sequence[str] = ...
    ) -> "subprocess.Popen[str]": ...


class Variant(Protocol):
    """`variant`: copy a run under another name, and return the folder of the copy.

    A setting is named with two underscores: `optimizer__lr=0.5`.
    """

    def __call__(
        self, name: str, norm: str = "none", results: Mapping[str, Any] | None = None, **config: Any
    ) -> str: ...
