"""The run that another one has started from: origin.json."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import AGAIN
from ..files import write_text


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
        with open(checkpoint, "rb") as file:
            return cls(run, checkpoint.name, hashlib.file_digest(file, "sha256").hexdigest())

    @classmethod
    def read(cls, file: Path) -> "Origin":
        """Read origin.json; ValueError where it is damaged."""
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: damaged ({error}); {AGAIN}") from error

    def write(self, file: Path) -> None:
        """Write origin.json."""
        write_text(file, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
