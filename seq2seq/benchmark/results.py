"""What a command of the benchmark has measured, shown and drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..figures import save_figure
from .figure import speed_figure, speeds_figure
from .machine import load, machine
from .memory import Memory
from .profiling import Share
from .scaling import Scale
from .show import (
    show_checks,
    show_means,
    show_memory,
    show_profiles,
    show_scales,
    show_speeds,
    show_starts,
    show_timings,
)
from .startup import Start
from .tables import means
from .timing import Speed, Timing


@dataclass
class Check:
    """One check of what is timed."""

    name: str
    seconds: float
    failure: str | None
    """Why it failed; None: it did not."""


@dataclass
class Results:
    """The tables of a command, by title."""

    machine: dict[str, Any] = field(default_factory=machine)
    settings: list[str] = field(default_factory=list)
    """Settings of the translators, as overrides of train.py."""
    checks: list[Check] = field(default_factory=list)
    timings: dict[str, list[Timing]] = field(default_factory=dict)
    training: dict[str, list[Speed]] = field(default_factory=dict)
    decoding: dict[str, list[Speed]] = field(default_factory=dict)
    memory: dict[str, list[Memory]] = field(default_factory=dict)
    starts: dict[str, list[Start]] = field(default_factory=dict)
    scales: dict[str, list[Scale]] = field(default_factory=dict)
    profiles: dict[str, list[Share]] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)
    """The profiler's own tables, by the profiles' titles."""
    left_out: list[str] = field(default_factory=list)
    """What there was no time for."""

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Geometric means of the timings' ratios over sizes."""
        return means(self.timings)

    @property
    def speeds(self) -> dict[str, list[Speed]]:
        """The tables of training and of search."""
        return self.training | self.decoding

    def add(self, other: "Results") -> None:
        """Take the tables of another command, and its settings."""
        self.settings = other.settings or self.settings
        for found in ("timings", "training", "decoding", "memory", "starts"):
            getattr(self, found).update(getattr(other, found))

    def show(self) -> None:
        """Print where was measured, and the tables."""
        m = self.machine
        print(
            f"torch {m['torch']}, {m['processor']}, {m['threads']} of {m['cores']} cores,"
            f" load {m['load']} to {load()}"
        )
        show_checks(self.checks, self.left_out)
        show_timings(self.timings)
        show_means(self.means)
        show_speeds(self.training, "tokens")
        show_speeds(self.decoding, "sentences")
        show_memory(self.memory)
        show_starts(self.starts)
        show_scales(self.scales)
        show_profiles(self.profiles, self.operators)

    def as_json(self) -> dict[str, Any]:
        """Return all tables as JSON can hold them, and where they were measured."""
        kinds: dict[str, Mapping[str, Sequence[Any]]] = {
            "tables": {**self.timings, **self.speeds},
            "memory": self.memory,
            "startup": self.starts,
            "scaling": self.scales,
            "profiles": self.profiles,
        }
        rows = {
            kind: {title: [asdict(row) for row in found] for title, found in tables.items()}
            for kind, tables in kinds.items()
        }
        return {
            "machine": {**self.machine, "load at the end": load()},
            "settings": self.settings,
            "checks": [asdict(check) for check in self.checks],
            "left out": self.left_out,
            "means": self.means,
            **rows,
        }

    def draw(self, path: Path) -> None:
        """Draw the speeds of translators, or the ratios of the LSTM's tables."""
        if self.speeds:
            save_figure(speeds_figure(self.speeds), path)
            return
        ratios = {
            title: {t.name: t.ratio for t in timings} for title, timings in self.timings.items()
        }
        drawn = {
            title: r
            for title, r in ratios.items()
            if title.startswith("LSTM, ") and next(iter(r)) == "torch.nn.LSTM"
        }
        save_figure(speed_figure(drawn), path)
