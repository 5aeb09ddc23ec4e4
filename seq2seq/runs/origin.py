"""The run that another one has started from: origin.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import write_text
from ..stored import read_json, sha256
from .jsonl import record_of


@dataclass(frozen=True)
class Origin:
    """The weights that a run has started with."""

    run: str
    """Folder of their run, as init_from names it."""
    checkpoint: str
    """Name of their checkpoint's file."""
    sha256: str
    """Checksum of that file."""

    @classmethod
    def of(cls, run: str, checkpoint: Path) -> "Origin":
        """Return the origin that a checkpoint of a run is."""
        return cls(run, checkpoint.name, sha256(checkpoint))

    @classmethod
    def read(cls, file: Path) -> "Origin":
        """Read origin.json; ValueError where it is damaged."""
        return record_of(cls, read_json(file), file)

    def write(self, file: Path) -> None:
        """Write origin.json."""
        write_text(file, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
