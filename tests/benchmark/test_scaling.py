"""Corpora of several sizes: made-up text, and what is seen of the processes that use it."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from runs import Command, Script

from seq2seq.benchmark import scaling
from seq2seq.benchmark.children import finish
from seq2seq.benchmark.scaling import Trained

pytest_plugins = ["run_fixtures"]
HOLD = """
import subprocess, sys
held = bytearray(50 << 20)
for i in range(0, len(held), 4096):
    held[i] = 1
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1]], stdin=sys.stdin, check=True)
else:
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_words_differ_and_pairs_are_translations_word_by_word(tmp_path: Path) -> None:
    words = [scaling.word(n, "aiueo") for n in range(scaling.WORDS)]
    assert len(set(words)) == scaling.WORDS
    settings = scaling.write_corpus(tmp_path / "c", 120)
    lines = (tmp_path / "c" / "train.tsv").read_text().splitlines()
    assert len(lines) == 120
    assert settings[-2:] == [
        f"data.{split}.source={tmp_path / 'c' / split}.tsv" for split in ("train", "valid")
    ]
    known = dict(zip(words, (scaling.word(n, "aäöüy") for n in range(len(words))), strict=True))
    for line in lines:
        source, target = (side.split() for side in line.split("\t"))
        assert 4 <= len(source) <= 20
        assert [known[word] for word in source] == target


def test_the_same_text_is_made_up_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "LINES", 30)
    for name in ("a", "b"):
        scaling.write_corpus(tmp_path / name, 100)
    first, second = ((tmp_path / name / "train.tsv").read_text() for name in ("a", "b"))
    assert first == second
    assert len(set(first.splitlines())) == 100


def test_memory_is_that_of_a_process_and_all_below_it() -> None:
    words = [sys.executable, "-c", HOLD, HOLD]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "ready\n"
        [child] = scaling.descendants(held.pid)
        ends = iter([False, True])
        most = scaling.most_memory(held.pid, lambda: next(ends))
        assert most > 100 > scaling.proportional(child) > 50
        held.communicate()
    assert scaling.descendants(held.pid) == []
    assert scaling.proportional(held.pid) == 0


def test_updates_of_whole_lines_are_read(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    assert scaling.logged_times(log) == []
    rows = [{"kind": kind, "seconds": s} for kind, s in [("train", 1), ("valid", 2), ("train", 3)]]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"kind": "tr')
    assert scaling.logged_times(log) == [1, 3]


def test_a_training_is_seen_until_its_last_update(toy: list[str]) -> None:
    seen = Trained()
    scaling.watch_training([*toy, "trainer.max_epochs=1000000"], 3, seen)
    assert len(seen.starts) == 1
    assert len(seen.updates) == 2
    assert 100 < seen.mebibytes < 4000


def test_a_training_that_ends_too_early_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"kind": "train", "seconds": 1}\n')
    over = nullcontext((os.getpid(), log, lambda: True))
    monkeypatch.setattr(scaling, "training", lambda asked: over)
    with pytest.raises(RuntimeError, match="1 updates were logged; expected 3"):
        scaling.watch_training([], 3, Trained())


def test_a_command_that_fails_is_reported() -> None:
    seconds, most = scaling.watched([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert 0.2 < seconds < 60
    assert 1 < most < 100
    with pytest.raises(RuntimeError, match=r"exit code 3: no$"):
        scaling.watched([sys.executable, "-c", "import sys; print('no', file=sys.stderr); exit(3)"])


def test_a_command_may_print_more_than_a_pipe_holds() -> None:
    shout = "import sys; [print('no ' * 99999, file=f) for f in (sys.stdout, sys.stderr)]; exit(3)"
    with pytest.raises(RuntimeError, match=r"^two: exit code 3: (no )+no$") as failed:
        finish([sys.executable, "-c", shout], name="two", watch=scaling.most_memory)
    assert len(str(failed.value)) < 2100


def test_sizes_take_turns_and_are_shown(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[str, int]] = []

    def watch_training(overrides: list[str], updates: int, seen: Trained) -> None:
        name = next(o for o in overrides if o.startswith("data.name"))
        calls.append((name, updates))
        seen.starts.append(len(calls))
        seen.updates += [0.25] * (updates - 1)
        seen.mebibytes = 300

    monkeypatch.setattr(scaling, "watched", lambda words: (1.5, 200.0))
    monkeypatch.setattr(scaling, "watch_training", watch_training)
    measure: Command = script("benchmark")
    sizes = "--pairs", "30,60", "--updates", "5", "--rounds", 2
    done = measure(
        "scaling", *sizes, "--set", "model=tiny", "--threads", 1, "--json", tmp_path / "a.json"
    )
    assert (done.code, done.err) == (0, "")
    assert calls == [(f"data.name=pairs-{size}", 5) for size in (30, 60)] * 3
    written = json.loads((tmp_path / "a.json").read_text())
    [(title, rows)] = written["scaling"].items()
    assert title == "corpora of several sizes, 2 starts of 5 updates"
    assert [row["name"] for row in rows] == ["30 pairs", "60 pairs"]
    assert [row["start_seconds"] for row in rows] == [np.median([3, 5]), np.median([4, 6])]
    assert {row["update_milliseconds"] for row in rows} == {250}
    assert written["settings"][-2:] == ["model=tiny", "trainer.threads=1"]
    assert "30 pairs" in done.out
    assert list((tmp_path / "outputs" / "benchmark").iterdir()) == []


@pytest.mark.parametrize("wrong", [("--pairs", "0"), ("--pairs", "1,x"), ("--updates", "1")])
def test_sizes_are_whole_numbers(script: Script, wrong: tuple[str, str]) -> None:
    done = script("benchmark")("scaling", *wrong)
    assert done.code == 2
    assert wrong[0] in done.err


@pytest.mark.slow
def test_two_small_sizes_are_measured(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--size", "small", "--rounds", 1, "--threads", 1
    done = script("benchmark")("scaling", *small, "--json", tmp_path / "a.json")
    assert done.code == 0
    [rows] = json.loads((tmp_path / "a.json").read_text())["scaling"].values()
    assert [row["name"] for row in rows] == ["200 pairs", "400 pairs"]
    assert all(row[name] > 0 for row in rows for name in row if name != "name")
