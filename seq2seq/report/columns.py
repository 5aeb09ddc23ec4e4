"""What a table of runs says of each: the columns of results.csv, of the page's last table and of
the terminal's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..runs.records import RunRecord


@dataclass(frozen=True)
class Column:
    """A figure of every run."""

    key: str
    """In results.csv."""
    title: str
    value: Callable[[RunRecord], Any]
    """None where the run doesn't have it (yet)."""
    decimals: int | None = None
    """None: of a setting, told as it is."""
    at_terminal: bool = False
    """Of 80 columns."""

    def text(self, run: RunRecord) -> str:
        """As it stands in a table for people."""
        value = self.value(run)
        if value is None or self.decimals is not None:
            return number(value, self.decimals or 0)
        return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: float | None, decimals: int) -> str:
    """As it stands in a table."""
    return "–" if value is None else f"{value:,.{decimals}f}"


def result(key: str) -> Callable[[RunRecord], Any]:
    """A figure of results.json, by its dotted key."""

    def of(run: RunRecord) -> Any:
        found: Any = run.results
        for part in key.split("."):
            found = (found or {}).get(part)
        return found

    return of


def setting(key: str) -> Callable[[RunRecord], Any]:
    """A setting, by its dotted key."""
    return lambda run: run.settings[key]


def status(run: RunRecord) -> str:
    """Of one that has finished also whether it is left out of the comparison."""
    return "left out" if run.left_out and run.status == "finished" else run.status


def updates(run: RunRecord) -> int | None:
    """So far, where the run has not finished."""
    found: dict[str, Any] = run.results or (run.metrics or [{}])[-1]
    return found.get("update")


def minutes(run: RunRecord) -> float | None:
    """From start to end."""
    return run.results["wall_seconds"] / 60 if run.results else None


COLUMNS = [
    Column("run", "run", lambda run: run.name, at_terminal=True),
    Column("status", "status", status, at_terminal=True),
    Column("left_out", "left out", lambda run: run.left_out or None),
    Column("experiment", "experiment", setting("experiment")),
    Column("size", "size", setting("size")),
    Column("corpus", "corpus", setting("data.name")),
    Column("cell", "cell", setting("cell.kind")),
    Column("norm", "norm", lambda run: run.norm or run.config.norm.kind.value),
    Column("seed", "seed", setting("seed")),
    Column("learning_rate", "learning rate", setting("optimizer.lr")),
    Column("batch_sentences", "sentences a batch", setting("data.batch_sentences")),
    Column("batch_tokens", "target tokens a batch", setting("data.batch_tokens")),
    Column("test_bleu", "test BLEU", result("test.bleu"), 1, at_terminal=True),
    Column("test_chrf", "test chrF", result("test.chrf"), 1, at_terminal=True),
    Column("valid_bleu", "valid BLEU", result("valid.bleu"), 1, at_terminal=True),
    Column("valid_loss", "valid loss (nats/token)", result("valid_loss"), 3, at_terminal=True),
    Column("update", "updates", updates, 0, at_terminal=True),
    Column(
        "tokens_per_second", "target tokens/s", result("tokens_per_second"), 0, at_terminal=True
    ),
    Column("minutes", "minutes", minutes, 1, at_terminal=True),
    Column("parameters", "parameters", result("parameters"), 0, at_terminal=True),
]
