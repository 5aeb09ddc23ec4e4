"""The commands that read a run's folder, run in this process as a user runs them."""

import contextlib
import functools
import io
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
import unittest.mock
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from conftest import exit_code
from fuzz.subject import RUN, UPDATES

from seq2seq.app import compare, composition, evaluate, export, train, translate
from seq2seq.runs.folder import Run

LINES = b"one dogs see two cats\n\nfive birds like four dogs\n\xe7\x8b\x97\n"
"""What is translated."""
SECONDS = 20.0
"""The longest time that a command may compute; a right one needs under 2."""
WAIT = 120.0
"""The longest time of a command, on a machine that does other work too."""
MEMORY = 1 << 30
"""Bytes of address space that a command may use besides what the process has."""


class Expired(BaseException):
    """A command that does not end."""


@dataclass
class Outcome:
    """What a command has done."""

    code: int
    out: str
    err: str
    failure: str = ""
    """The traceback of what no command may raise; empty: none."""
    result: str = ""
    """What it has made, without times and versions; empty where it failed."""


@contextlib.contextmanager
def bounded(memory: int | None) -> Iterator[None]:
    """Raise Expired inside after SECONDS or WAIT, MemoryError beyond this memory."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise Expired(f"no end after {SECONDS:g} s of work, or {WAIT:g} s")

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = [signal.signal(number, expire) for number in (signal.SIGALRM, signal.SIGPROF)]
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextlib.contextmanager
def captured(stdin: bytes) -> Iterator[Callable[[], tuple[str, str]]]:
    """Give standard input; return what is written to the standard streams, by libraries in C too."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [os.dup(number) for number in (1, 2)]
        sys.stdout.flush()
        sys.stderr.flush()
        for file, number in ((out, 1), (err, 2)):
            os.dup2(file.fileno(), number)
        streams = [open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2)]  # noqa: SIM115
        given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        patches = contextlib.ExitStack()
        for name, stream in zip(("stdin", "stdout", "stderr"), (given, *streams), strict=True):
            patches.enter_context(unittest.mock.patch.object(sys, name, stream))

        def read() -> tuple[str, str]:
            for stream in streams:
                stream.flush()
            return tuple(_text(file) for file in (out, err))  # type: ignore[return-value]

        try:
            with patches:
                yield read
        finally:
            for number, before in zip((1, 2), kept, strict=True):
                os.dup2(before, number)
                os.close(before)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "backslashreplace"))


def called(
    main: Callable[[], object], argv: list[str], stdin: bytes = b"", memory: int | None = MEMORY
) -> Outcome:
    """Call a command's main function with these arguments and this input."""
    failure, code = "", -1
    with (
        captured(stdin) as read,
        unittest.mock.patch.object(sys, "argv", argv),
        unittest.mock.patch.dict(os.environ, {"HYDRA_FULL_ERROR": "0"}),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            with bounded(memory):
                code = exit_code(main)
        except (Exception, Expired):
            failure = traceback.format_exc()
        out, err = read()
    return Outcome(code, out, err, failure)


# -- each command: what it makes ---


def translated() -> Outcome:
    """Run translate.py."""
    done = called(translate.main, ["translate.py", str(RUN)], LINES)
    done.result = done.out
    return done


def evaluated() -> Outcome:
    """Run evaluate.py, with a shortlist."""
    file = Path("scores.json")
    argv = ["evaluate.py", str(RUN), "--shortlist", "20", "--json", str(file)]
    done = called(evaluate.main, argv)
    done.result = file.read_text(encoding="utf-8") if file.is_file() else ""
    return done


def compared(whole: bool) -> Outcome:
    """Run compare.py; the JavaScript engine that draws needs more memory than others may have."""
    argv = ["compare.py", str(RUN), "--out", "report"]
    done = called(compare.main, argv, memory=None if whole else MEMORY)
    file = Path("report/results.csv")
    done.result = file.read_text(encoding="utf-8") if file.is_file() else ""
    return done


def exported() -> Outcome:
    """Run export.py."""
    done = called(export.main, ["export.py", str(RUN), "--out", "exported", "--check", "0"])
    files = [Path("exported") / name for name in ("text.json", "settings.json")]
    done.result = "".join(f.read_text(encoding="utf-8") for f in files if f.is_file())
    return done


END = f"trainer.max_updates={UPDATES + 1}"


def resumed(whole: bool) -> Outcome:
    """Run train.py resume=RUN, for one update more; without Hydra unless `whole`."""
    argv = ["train.py", f"resume={RUN}", END]
    done = called(train.main if whole else _resume_without_hydra, argv)
    if done.code == 0 and not done.failure:
        found = json.loads((RUN / "results.json").read_text(encoding="utf-8"))
        kept = {key: found[key] for key in ("update", "valid_loss", "valid", "test", "tokens")}
        done.result = json.dumps(kept)
    return done


def _resume_without_hydra() -> None:
    """Resume as `composition.current_run` does, without the half second of a composition."""
    run = Run.open(RUN)
    run.asked = run.overrides()
    config = replace(run.config(), resume=str(RUN), overwrite=False)
    config = composition.composed(composition._as_hydra(config))
    config.trainer.max_updates = UPDATES + 1
    from seq2seq.training.loop import train as train_run

    train_run(config, run)


Command = Callable[[], Outcome]


def commands(whole: bool) -> dict[str, Command]:
    """Return the commands by name; resume is the last, as it writes."""
    return {
        "translate": translated,
        "evaluate": evaluated,
        "compare": functools.partial(compared, whole),
        "export": exported,
        "resume": functools.partial(resumed, whole),
    }


# -- what costs time and reads nothing ---

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'


@contextlib.contextmanager
def shortened() -> Iterator[None]:
    """Leave out what takes long after all files are read: pictures, the export of graphs."""

    def drawn(spec: Any) -> str:
        json.dumps(spec)
        return SVG

    with (
        unittest.mock.patch("vl_convert.vegalite_to_svg", drawn),
        unittest.mock.patch("seq2seq.training.validation.write_samples"),
    ):
        yield


@contextlib.contextmanager
def without_flushing() -> Iterator[None]:
    """Do not wait for the disk, and export no graphs."""
    with (
        unittest.mock.patch("os.fsync"),
        unittest.mock.patch("seq2seq.export.folder.write_networks"),
    ):
        yield
