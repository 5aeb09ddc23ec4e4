"""The whole content of runs, to compare them, and ways to stop them."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from conftest import final_results
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import Tensor

from seq2seq.runs.checkpoint import load_checkpoint, read_state
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics

TIMES = ("seconds", "wall_seconds", "tokens_per_second")


def without_times(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that do not depend on the machine's speed."""
    return {key: value for key, value in values.items() if key not in TIMES}


def results(run: Run) -> dict[str, Any]:
    """Return the results of a finished run."""
    return final_results(run)


def entries(run: Run) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without times."""
    return [without_times(entry) for entry in read_metrics(run.metrics_file)]


def probe_entries(run: Run) -> list[dict[str, Any]]:
    """Return the lines of probes.jsonl."""
    return read_metrics(run.probes_file)


def files(run: Run) -> set[Path]:
    """Return the names of a run's files, hidden ones included; each start has its event file."""
    found = {p.relative_to(run.folder) for p in run.folder.rglob("*") if p.is_file()}
    return {path for path in found if not path.name.startswith("events.out.tfevents.")}


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


def points(run: Run) -> Counter[tuple[str, int]]:
    """Count what each event file holds by tag and step, as a reader that joins all files does."""
    events = (
        event
        for file in sorted(run.folder.glob("events.out.tfevents.*"))
        for event in EventFileLoader(str(file)).Load()
    )
    found = Counter((value.tag, event.step) for event in events for value in event.summary.value)
    del found["custom_scalars__config__", 0]  # each start writes the layout
    return found


def differences(run: Run, other: Run) -> Iterator[str]:
    """Yield in what two finished runs differ, clock times aside."""
    for name in ("last", "best"):
        found, expected = tensors(run, name), tensors(other, name)
        if found.keys() != expected.keys():
            yield f"names in {name}"
        for key in found.keys() & expected.keys():
            if not found[key].equal(expected[key]):
                yield f"{key} in {name}"
        states = [read_state(each.checkpoint(name)) for each in (run, other)]
        for state in states:
            state["progress"] = without_times(state["progress"])
            state["average"] = without_times(state["average"])
        if states[0] != states[1]:
            yield f"state of {name}: {states[0]}, expected {states[1]}"
    for what in (entries, probe_entries, curves, points, files):
        if what(run) != what(other):
            yield f"{what.__name__}: {what(run)}, expected {what(other)}"
    ended = [without_times(results(each)) for each in (run, other)]
    for each in ended:
        each.pop("commit", None)  # of the code, which may change between two starts
    if ended[0] != ended[1]:
        yield f"results: {results(run)}, expected {results(other)}"
    for file in sorted(other.translations.iterdir()):
        if (run.translations / file.name).read_bytes() != file.read_bytes():
            yield f"{file.name}"


def assert_same(run: Run, other: Run) -> None:
    """Check that two finished runs differ in nothing but times."""
    assert list(differences(run, other)) == []


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
