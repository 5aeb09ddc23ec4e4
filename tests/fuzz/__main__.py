"""Damage a run ten thousand times: `make fuzz COUNT=10000`.

    PYTHONPATH=.:tests python -m fuzz --count 10000 --first 0

A worker process tries the mutants one by one. Where it dies or does not answer, that is a failure of
its mutant, and a new one goes on with the next.
"""

import argparse
import collections
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SILENCE = 300
"""Seconds after which a worker that says nothing is stopped."""


def main() -> int:
    """Parse the command line and try the mutants; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10000, help="number of mutants")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--subject", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    return work(asked) if asked.worker else supervise(asked)


def work(asked: argparse.Namespace) -> int:
    """Try mutants and print a line of JSON about each."""
    import torch
    from fuzz.judge import Judge
    from fuzz.subject import Subject

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(Subject(asked.subject), Path(folder))
        for seed in range(asked.first, asked.first + asked.count):
            mutant, faults, done = judge(seed)
            if any("Expired" in fault.what for fault in faults):  # or the machine stood still
                mutant, faults, done = judge(seed)
            said = {
                "seed": seed,
                "mutant": str(mutant),
                "files": mutant.files,
                "kinds": mutant.kinds,
                "faults": [str(fault) for fault in faults],
                "codes": {name: outcome.code for name, outcome in done.items()},
                "peak": peak(),
            }
            print(json.dumps(said), file=answers, flush=True)
    return 0


def peak() -> int:
    """Return the most memory that this process has had, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def supervise(asked: argparse.Namespace) -> int:
    """Start workers until all mutants are tried; print the faults and the counts."""
    from fuzz.subject import make

    began, counts = time.monotonic(), collections.Counter[str]()
    faults, most = list[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        subject = make(Path(folder) / "subject")
        seed, end = asked.first, asked.first + asked.count
        while seed < end and not _is_late(asked, began):
            argv = [sys.executable, "-m", "fuzz", "--worker", "--subject", str(subject.folder)]
            argv += ["--first", str(seed), "--count", str(end - seed)]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
                assert worker.stdout is not None
                while not _is_late(asked, began) and seed < end:
                    heard, _, _ = select.select([worker.stdout], [], [], SILENCE)
                    line = worker.stdout.readline() if heard else ""
                    if not line.startswith("{"):
                        worker.kill()
                        faults.append(
                            f"seed {seed}: the worker has died or hangs ({worker.wait()})"
                        )
                        print(faults[-1], flush=True)
                        seed += 1
                        break
                    said = json.loads(line)
                    seed, most = said["seed"] + 1, max(most, said["peak"])
                    counts["mutants"] += 1
                    counts["files"] += len(said["files"])
                    for code in said["codes"].values():
                        counts["commands"] += 1
                        counts["right results" if code == 0 else "errors"] += 1
                    for fault in said["faults"]:
                        faults.append(fault)
                        print(fault, flush=True)
                worker.kill()
    minutes = (time.monotonic() - began) / 60
    print(
        f"{counts['mutants']:,} mutants (seeds {asked.first} to {seed - 1}), {counts['files']:,} files damaged,"
        f" {counts['commands']:,} commands: {counts['right results']:,} results, {counts['errors']:,}"
        f" errors, {len(faults)} faults; peak {most} MB, {minutes:.1f} minutes"
    )
    return 1 if faults else 0


def _is_late(asked: argparse.Namespace, began: float) -> bool:
    return asked.minutes is not None and time.monotonic() - began > asked.minutes * 60


if __name__ == "__main__":
    sys.exit(main())
