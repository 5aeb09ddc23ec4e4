"""Processes that work on chunks: their results in order, their errors and their ends.

This file imports little, since each process that starts imports it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import active_children
from typing import Any

import pytest

from seq2seq.app import jobs
from seq2seq.app.jobs import in_order
from seq2seq.files import is_alive


def doubling(wait: float = 0.0) -> Callable[[Any], Any]:
    """Return a function that doubles; it fails, ends its process, or waits where it is asked to."""

    def work(chunk: Any) -> Any:
        if chunk == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if chunk == "pid":
            return os.getpid()
        if isinstance(chunk, str):
            raise ValueError(f"{chunk}: expected a number")
        time.sleep(wait * (chunk == 0))
        return 2 * chunk

    return work


def missing() -> Callable[[Any], Any]:
    raise FileNotFoundError(2, "No such file", "model")


def test_results_come_in_order_whichever_process_is_faster() -> None:
    make = partial(doubling, 0.3)
    assert list(in_order(make, range(30), 3)) == [2 * i for i in range(30)]
    assert list(in_order(doubling, [], 2)) == []


def test_no_more_processes_start_than_there_are_chunks() -> None:
    others = set(active_children())
    with closing(in_order(doubling, [1, 2], 8)) as results:
        assert next(results) == 2
        assert len(set(active_children()) - others) <= 2


def test_no_process_starts_after_those_to_end_were_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was missed could wait for ever for a lock that another one held as it was ended."""

    class Noted(ProcessPoolExecutor):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            pools.append(self)

    def children() -> list[Any]:
        if not listed:  # later the pool is broken, too
            with pytest.raises(RuntimeError, match="after shutdown"):
                pools[0].submit(abs, 1)
        listed.append(True)
        return active_children()

    pools, listed = list[Noted](), list[bool]()
    monkeypatch.setattr(jobs, "ProcessPoolExecutor", Noted)
    others = set(active_children())
    with closing(in_order(doubling, [1, 2], 2)) as results:
        assert next(results) == 2
        monkeypatch.setattr(jobs, "active_children", children)
    assert listed
    assert set(active_children()) == others


def test_chunks_are_read_only_as_processes_become_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "AHEAD", 2)
    read = list[int]()

    def noting() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    with closing(in_order(doubling, noting(), 2)) as results:
        for turn in range(20):
            assert next(results) == 2 * turn
            assert len(read) <= turn + 1 + 2 * 2 + 2


def test_an_error_is_raised_in_the_turn_of_its_chunk() -> None:
    with pytest.raises(ValueError, match="bad: expected a number") as raised:
        list(in_order(partial(doubling, 0.5), [0, 1, "bad", 3], 2))
    assert "in work" in str(raised.value.__cause__)
    with pytest.raises(FileNotFoundError) as lost:
        list(in_order(missing, [1], 2))
    assert lost.value.filename == "model"


def test_what_was_read_before_an_error_of_the_reader_is_yielded() -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise ValueError("line 4")

    results = in_order(doubling, broken(), 2)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="line 4"):
        next(results)


def test_a_process_that_ends_gives_one_error() -> None:
    with pytest.raises(RuntimeError, match="a process ended before"):
        list(in_order(doubling, [1, "kill", 2], 2))


def test_all_processes_end_when_the_caller_stops() -> None:
    with closing(in_order(partial(doubling, 600), ["pid", 0, "pid"], 2)) as results:
        first = next(results)
        assert is_alive(first)
        began = time.monotonic()
    assert not is_alive(first)
    assert time.monotonic() - began < 300
