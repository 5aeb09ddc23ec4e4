"""speed.json: how fast a run's model trains, measured side by side with those of other runs."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import write_text
from ..stored import damaged, read_json
from .jsonl import record_of


@dataclass(kw_only=True, frozen=True)
class MeasuredSpeed:
    """A speed that can be compared with the others of its measurement, and with no others."""

    tokens_per_second: float
    """Target tokens."""
    measurement: str
    """When it was measured: the same for all runs that were measured together."""
    beside: int
    """Number of models that took turns, its own included."""
    rounds: int
    """Number of turns, of which this is the median."""
    processor: str | None = None
    threads: int | None = None

    @classmethod
    def read(cls, file: Path) -> "MeasuredSpeed":
        """Read speed.json; ValueError where it is damaged."""
        found = record_of(cls, read_json(file), file)
        speed = found.tokens_per_second
        if not (math.isfinite(speed) and speed > 0):
            raise damaged(file, f"tokens_per_second={speed}: expected more than 0")
        return found

    def write(self, file: Path) -> None:
        """Write speed.json."""
        write_text(file, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
