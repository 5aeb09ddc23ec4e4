"""What runs have left in their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..config import Config, Nonlinearity
from ..config.settings import settings
from ..errors import AGAIN, DataError
from ..files import exists
from ..stored import opened
from .entries import MetricEntry, ProbeEntry, read_probes
from .folder import Run, RunError
from .jsonl import read_metrics
from .results import Results
from .speed import MeasuredSpeed

Entry = TypeVar("Entry", bound=ProbeEntry)


@dataclass
class RunRecord:
    """What a run has left in its folder."""

    name: str
    run: Run
    config: Config
    status: str
    """finished, diverged, failed or unfinished"""
    results: Results | None
    """None until the run has finished."""
    failure: str | None
    """Why it failed."""
    norm: str = ""
    """The name of its norm among the runs that it is compared with."""
    left_out: str = ""
    """Why it cannot be compared with these runs; empty where it can."""

    @property
    def has_curves(self) -> bool:
        """Whether metrics.jsonl holds anything. The file itself is read only when needed."""
        file = self.run.metrics_file
        return exists(file) and file.stat().st_size > 0

    @cached_property
    def metrics(self) -> list[MetricEntry]:
        """The entries of metrics.jsonl."""
        file = self.run.metrics_file
        return [MetricEntry.of_json(entry, file) for entry in read_metrics(file)]

    @cached_property
    def probes(self) -> list[ProbeEntry]:
        """The entries of probes.jsonl."""
        return read_probes(self.run.probes_file)

    @cached_property
    def speed(self) -> MeasuredSpeed | None:
        """How fast its model trains, side by side with others; None where it was not measured."""
        file = self.run.speed_file
        return MeasuredSpeed.read(file) if exists(file) else None

    @cached_property
    def overrides(self) -> list[str] | None:
        """See `Run.overrides`."""
        return self.run.overrides()

    def read(self) -> None:
        """Read all that a report reads only when it needs it; ValueError where it is damaged."""
        _ = self.metrics, self.probes, self.speed, self.overrides

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return settings(self.config)

    @cached_property
    def kind(self) -> str:
        """The kind of its norm: none, batch, layer or rms."""
        return self.config.norm.kind.value

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.config.seed

    @property
    def scored_by(self) -> dict[str, str | None]:
        """What may differ in scores: how -> a checksum of the text, or a name; None: not stored."""
        found, bleu = self.results, self.config.data.splits_for_bleu
        if found is None:
            return {"by another BLEU": bleu}
        test = found.test.reference_sha256 if found.test else None
        valid = found.valid.reference_sha256
        return {
            "on another validation set": valid,
            "on another test set": test,
            "by another BLEU": bleu,
        }

    @cached_property
    def cell(self) -> str:
        """The name of its cell, as in cell=NAME."""
        relu = self.config.cell.nonlinearity is Nonlinearity.relu
        return self.config.cell.kind.value + ("_relu" if relu else "")

    def value_of(self, key: str) -> Any:
        """Return a setting by its dotted key, or the name of its `norm` or `cell`."""
        if key in ("norm", "cell"):
            return getattr(self, key)
        return self.settings[key]

    def series(self, kind: str, key: str, by: str = "update") -> tuple[list[float], list[float]]:
        """Return one logged quantity where it and its x were logged and finite, as (x, values).

        `kind` is train or valid; `by` is update, seconds, tokens, or "seconds side by side": those
        that the tokens take at the speed that was measured so.
        """
        entries = (entry for entry in self.metrics if entry.kind == kind)
        points = [(self._place(entry, by), entry.values.get(key)) for entry in entries]
        found = [(x, y) for x, y in points if x is not None and y is not None]
        return [x for x, _ in found], [y for _, y in found]

    def _place(self, entry: MetricEntry, by: str) -> float | None:
        """Return where an entry is, by update, tokens or time; None if that is not known."""
        if by != "seconds side by side":
            found: float | None = getattr(entry, by)
            return found
        if self.speed is None or entry.tokens is None:
            return None
        return entry.tokens / self.speed.tokens_per_second

    def probed(self, kind: type[Entry]) -> list[Entry]:
        """Return the probe's entries of this kind."""
        return [entry for entry in self.probes if isinstance(entry, kind)]


def read_runs(folders: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """Return the runs in these folders, and a line for each folder that is left out.

    Left out is a folder in which no run has begun, as a failed job of a sweep leaves it, or whose
    files this version cannot read, or which the user may not read. RunError for a folder that does
    not exist, or if no run is left.
    """
    found, left_out = [], dict[str, str]()
    for name, folder in named(folders).items():
        if refused := _refusal(folder):
            left_out[name] = refused
            continue
        run = Run(folder) if (bare := _is_bare(folder)) else Run.open(folder)
        try:
            if bare:
                failure = run.failure()
                left_out[name] = f"failed: {failure}" if failure else "its training has not begun"
                continue
            record = RunRecord(name, run, run.config(), run.state(), run.results(), run.failure())
            record.read()
        except ValueError as error:
            left_out[name] = str(error)
        else:
            found.append(record)
    if not found:
        raise RunError(_none_left(left_out))
    return found, [f"{name}: left out: {reason}" for name, reason in left_out.items()]


def _none_left(left_out: dict[str, str]) -> str:
    """Return why the first of several runs cannot be compared, and what to do about it."""
    name, reason = next(iter(left_out.items()))
    others = f" ({len(left_out)} runs are left out)" if len(left_out) > 1 else ""
    begun = AGAIN in reason or "expected a" in reason
    way_out = "" if begun else "; expected a run that train.py has begun"
    where = "" if name in reason else f"{name}: "  # in which most reasons name a file
    return f"no run can be compared: {where}{reason}{way_out}{others}"


def _refusal(folder: str) -> str | None:
    """Return which file of a folder may not be read; None if all that is needed may be."""
    run = Run(folder)
    try:
        for file in (
            *(run.config_file, run.results_file, run.metrics_file, run.probes_file),
            *(run.speed_file, run.failure_file, run.overrides_file),
        ):
            if exists(file):
                with opened(file):
                    pass
    except DataError as error:
        return str(error)
    except PermissionError as error:
        return f"{error.filename}: {error.strerror}; expected a file that may be read"
    except IsADirectoryError as error:
        return f"{error.filename}: {error.strerror}; expected a file"
    return None


def _is_bare(folder: str) -> bool:
    """Whether the folder exists and no run has begun in it."""
    return Path(folder).is_dir() and not Run(folder).has_begun()


def named(folders: Sequence[str]) -> dict[str, str]:
    """Return the folders by the shortest ends of their paths that tell them apart."""
    paths = [Path(folder).resolve().parts for folder in folders]
    if len(set(paths)) < len(paths):
        twice = next(f for f, path in zip(folders, paths, strict=True) if paths.count(path) > 1)
        raise RunError(f"{twice}: a run is named twice; expected each once")
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {"/".join(path[-depth:]): folder for folder, path in zip(folders, paths, strict=True)}
