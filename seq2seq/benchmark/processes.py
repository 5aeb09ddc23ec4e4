"""Several processes that train one model, compared with one that has all threads."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tqdm import tqdm

from ..config import Config
from ..rnn import NormKind
from ..runs.folder import Run
from ..shown import counted
from .children import finish
from .tables import Tables
from .timing import Timing, quartiles
from .together import ProcessJob


@dataclass(frozen=True)
class Group:
    """Processes that train together."""

    name: str
    config: Config
    processes: int = 1
    ddp: bool = False


def groups(config: Config, processes: int) -> list[Group]:
    """Return who is compared: one process, several, the same by DDP, or with shared statistics."""
    several = f"{processes} processes"
    found = [Group("one process", config), Group(several, config, processes)]
    if config.norm.kind is NormKind.batch:
        shared = replace(config, norm=replace(config.norm, sync=True))
        return [*found, Group(f"{several}, norm.sync=true", shared, processes)]
    return [*found, Group(f"{several}, by DDP", config, processes, ddp=True)]


def times_together(
    configs: Mapping[str, Config], processes: int, threads: int, updates: int, rounds: int
) -> Tables:
    """Measure updates, by norm: a table by its title. Every round starts each group once.

    `threads` are those of all processes of a group together.
    """
    tables = Tables()
    with TemporaryDirectory() as place:
        for norm, config in configs.items():
            found = groups(config, processes)
            times: dict[str, list[float]] = {group.name: [] for group in found}
            for _ in tqdm(range(rounds), f"norm={norm}", unit="round", disable=None):
                for group in found:
                    times[group.name].append(
                        median(
                            group_times(group, Path(place) / norm / group.name, threads, updates)
                        )
                    )
            first = times[found[0].name]
            all_of = counted(threads, "thread")
            title = f"an update, norm={norm}, {config.data.name}: {all_of} in all"
            tables[title] = [
                Timing(name, 1000 * median(own), *quartiles(own, first))
                for name, own in times.items()
            ]
    return tables


def group_times(group: Group, folder: Path, threads: int, updates: int) -> list[float]:
    """Start a group and return the seconds of each of its updates; RuntimeError where it fails."""
    run = Run(folder)
    run.save_config(group.config)
    job = ProcessJob(str(folder.resolve()), updates, max(threads // group.processes, 1), group.ddp)
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={group.processes}"]
    launcher = several if group.processes > 1 else []
    words = [sys.executable, *launcher, "-m", ProcessJob.__module__, json.dumps(asdict(job))]
    output = finish(words, name=group.name)
    lines = [line for line in output.splitlines() if line.startswith("[")]
    if len(lines) != 1:
        raise RuntimeError(f"{group.name}: expected one line of seconds, got {output!r}")
    found: list[float] = json.loads(lines[0])
    return found
