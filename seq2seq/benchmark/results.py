"""What a command of the benchmark has measured, shown and drawn."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..figures import save_figure
from .figure import speed_figure, speeds_figure
from .machine import load, machine
from .memory import Memory
from .show import show_means, show_memory, show_speeds, show_timings
from .tables import means
from .timing import Speed, Timing


@dataclass
class Results:
    """The tables of a command, by title."""

    machine: dict[str, Any] = field(default_factory=machine)
    settings: list[str] = field(default_factory=list)
    """Settings of the translators, as overrides of train.py."""
    timings: dict[str, list[Timing]] = field(default_factory=dict)
    training: dict[str, list[Speed]] = field(default_factory=dict)
    decoding: dict[str, list[Speed]] = field(default_factory=dict)
    memory: dict[str, list[Memory]] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, dict[str, float]]:
        """Geometric means of the timings' ratios over sizes."""
        return means(self.timings)

    @property
    def speeds(self) -> dict[str, list[Speed]]:
        """The tables of training and of search."""
        return self.training | self.decoding

    def show(self) -> None:
        """Print where was measured, and the tables."""
        m = self.machine
        m["load at the end"] = load()
        print(
            f"torch {m['torch']}, {m['processor']}, {m['threads']} of {m['cores']} cores,"
            f" load {m['load']} to {m['load at the end']}"
        )
        show_timings(self.timings)
        show_means(self.means)
        show_speeds(self.training, "tokens")
        show_speeds(self.decoding, "sentences")
        show_memory(self.memory)

    def draw(self, path: Path) -> None:
        """Draw the speeds of translators, or the ratios of the LSTM's tables."""
        if self.speeds:
            save_figure(speeds_figure(self.speeds), path)
            return
        ratios = {
            title: {t.name: t.ratio for t in timings} for title, timings in self.timings.items()
        }
        drawn = {title: r for title, r in ratios.items() if next(iter(r)) == "torch.nn.LSTM"}
        save_figure(speed_figure(drawn), path)
