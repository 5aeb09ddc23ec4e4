"""The whole content of runs, to compare them, and ways to stop them."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from typed import present

from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics

TIMES = ("seconds", "wall_seconds", "tokens_per_second")


def without_times(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that do not depend on the machine's speed."""
    return {key: value for key, value in values.items() if key not in TIMES}


def results(run: Run) -> dict[str, Any]:
    """Return the results of a finished run."""
    return present(run.results())


def entries(run: Run) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without times."""
    return [without_times(entry) for entry in read_metrics(run.metrics_file)]


def tensors(run: Run, name: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint."""
    return load_checkpoint(run.checkpoint(name))[0]


def curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return every TensorBoard curve: (step, value) in the order of the files."""
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag != "train/tokens_per_second"
    }


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return each file's time of change and content; the lock has none."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def stop_here(number: int = signal.SIGTERM) -> Callable[[], None]:
    """Return a function that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)
