"""The columns of a table of runs: in results.csv, on the page and at the terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..runs.records import RunRecord


@dataclass(frozen=True)
class Column:
    """A setting or result of every run."""

    key: str
    """Its name in results.csv."""
    title: str
    value: Callable[[RunRecord], Any]
    """None where the run does not have it (yet)."""
    decimals: int | None = None
    """None for a setting, which is shown as it is."""
    at_terminal: bool = False
    """Whether it is one of the few at the terminal."""

    def text(self, run: RunRecord) -> str:
        """Return the cell of a table for people."""
        value = self.value(run)
        if value is None or self.decimals is not None:
            return number(value, self.decimals or 0)
        return f"{value:g}" if isinstance(value, float) else str(value)


def number(value: float | None, decimals: int) -> str:
    """Return a number as in a table."""
    return "–" if value is None else f"{value:,.{decimals}f}"


def result(key: str) -> Callable[[RunRecord], Any]:
    """Return the function that gives a value of results.json by its dotted key."""

    def of(run: RunRecord) -> Any:
        found: Any = run.results
        for part in key.split("."):
            found = found and getattr(found, part)
        return found

    return of


def setting(key: str) -> Callable[[RunRecord], Any]:
    """Return the function that gives a setting by its dotted key."""
    return lambda run: run.settings[key]


def status(run: RunRecord) -> str:
    """Return a run's status; "left out" if it has finished but cannot be compared."""
    return "left out" if run.left_out and run.status == "finished" else run.status


def updates(run: RunRecord) -> int | None:
    """Return the updates of a run so far."""
    if run.results:
        return run.results.update
    return run.metrics[-1].update if run.metrics else None


def minutes(run: RunRecord) -> float | None:
    """Return the time from a run's start to its end."""
    return run.results.wall_seconds / 60 if run.results else None


COLUMNS = [
    Column("run", "run", attrgetter("name"), at_terminal=True),
    Column("status", "status", status, at_terminal=True),
    Column("left_out", "left out", lambda run: run.left_out or None),
    Column("experiment", "experiment", setting("experiment")),
    Column("size", "size", setting("size")),
    Column("corpus", "corpus", setting("data.name")),
    Column("cell", "cell", setting("cell.kind")),
    Column("norm", "norm", lambda run: run.norm or run.kind),
    Column("seed", "seed", setting("seed")),
    Column("init_from", "starts from", setting("init_from")),
    Column("learning_rate", "learning rate", setting("optimizer.lr")),
    Column("batch_sentences", "sentences a batch", setting("data.batch_sentences")),
    Column("batch_tokens", "target tokens a batch", setting("data.batch_tokens")),
    Column("test_bleu", "test BLEU", result("test.bleu"), 1, at_terminal=True),
    Column("test_chrf", "test chrF", result("test.chrf"), 1, at_terminal=True),
    Column("valid_bleu", "valid BLEU", result("valid.bleu"), 1, at_terminal=True),
    Column("valid_loss", "valid loss (nats/token)", result("valid_loss"), 3, at_terminal=True),
    Column("update", "updates", updates, 0, at_terminal=True),
    Column("tokens_per_second", "target tokens/s", result("tokens_per_second"), 0, True),
    Column("minutes", "minutes", minutes, 1, at_terminal=True),
    Column("parameters", "parameters", result("parameters"), 0, at_terminal=True),
]
