"""A run whose files are damaged: a clear error or a right result, every time (`make fuzz`)."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz import blind, commands, hostile, resealed, subject
from fuzz.commands import Outcome
from fuzz.judge import Judge
from fuzz.mutants import Mutant, damage

from seq2seq.runs.checkpoint import load_checkpoint, save_checkpoint
from seq2seq.stored import read_checked_json, write_checked_json

MUTANTS = 120
RESUMED = 15
"""Every so many of them are resumed as well, which takes longest."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> subject.Subject:
    return subject.make(tmp_path_factory.mktemp("fuzz") / "subject")


@pytest.fixture(scope="module")
def judge(whole: subject.Subject, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return Judge(whole, tmp_path_factory.mktemp("copies"))


def test_a_damaged_run_gives_an_error_or_a_right_result(judge: Judge) -> None:
    faults, codes = list[str](), list[int]()
    for seed in range(MUTANTS):
        without = () if seed % RESUMED == 0 else ("resume",)
        _, found, done = judge(seed, without, whole=False)
        faults += map(str, found)
        codes += [outcome.code for outcome in done.values()]
    assert not faults, "\n".join(faults)
    assert codes.count(2) > MUTANTS / 2, "most damage is found"
    assert codes.count(0) > MUTANTS / 10, "and some of it harms nothing"


def test_a_seed_gives_the_same_mutant(whole: subject.Subject, tmp_path: Path) -> None:
    for seed in range(5):
        first, second = (
            damage(whole.copy(tmp_path / f"{seed}{name}"), whole.files(), seed) for name in "ab"
        )
        assert str(first) == str(second)
        for file in first.files:
            a, b = (tmp_path / f"{seed}{name}" / file for name in "ab")
            assert a.is_file() is b.is_file()
            if a.is_file() and a.stat().st_size < blind.SPARSE:
                assert a.read_bytes() == b.read_bytes()


# -- the judge sees what is wrong ---


RIGHT = Mutant(0, ["run/tokenizer.source.model"], ["flip"])


@pytest.mark.parametrize(
    ("done", "fault"),
    [
        (Outcome(-1, "", "", "Traceback"), "Traceback"),
        (Outcome(1, "", "translate.py: too large"), "exit code 1"),
        (Outcome(2, "", "translate.py: a/tokenizer.json: no; copy it again"), "names none of"),
        (Outcome(2, "", "translate.py: tokenizer.source.model is bad"), "no good message"),
        (Outcome(0, "", "x.py:3: UserWarning: hm"), "a warning of a library"),
        (Outcome(0, "", "", result="another text"), "another result in silence"),
        (Outcome(0, "", ""), "no result and no error"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_fault_is_seen(judge: Judge, done: Outcome, fault: str) -> None:
    assert judge.fault("translate", RIGHT, done, True).startswith(fault)


def test_what_is_right_is_no_fault(judge: Judge) -> None:
    error = "translate.py: a/tokenizer.source.model: damaged; copy it again"
    assert not judge.fault("translate", RIGHT, Outcome(2, "", error), True)
    assert not judge.fault("translate", RIGHT, judge.right["translate"], True)


def test_a_command_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def turn() -> None:
        while True:
            pass

    monkeypatch.setattr(commands, "SECONDS", 0.1)
    assert "Expired: no end after" in commands.called(turn, ["x.py"]).failure


def test_a_command_that_takes_all_memory_is_stopped() -> None:
    done = commands.called(lambda: bytearray(3 * commands.MEMORY), ["x.py"])
    assert "MemoryError" in done.failure


# -- each kind of damage, once ---

CONFIG, STATE = "run/config.yaml", "run/checkpoints/last.safetensors"
PREPARED = "corpus/prepared/toy/*"


@pytest.mark.parametrize("name", ["fifo", "plug", "circle", "endless", "sparse", "folder"])
@pytest.mark.parametrize(
    "file",
    [CONFIG, "run/tokenizer.json", "run/checkpoints/best.safetensors", "run/metrics.jsonl"],
)
def test_what_is_no_regular_file_is_refused(
    judge: Judge, whole: subject.Subject, tmp_path: Path, name: str, file: str
) -> None:
    """At once: a pipe would keep the reader waiting, a device never end."""
    copy = whole.copy(tmp_path / "copy")
    blind.PLACEMENTS[name](copy / file, random.Random(0))
    command = "compare" if file.endswith("jsonl") else "translate"
    with contextlib.chdir(copy), commands.without_flushing(), commands.shortened():
        done = commands.commands(False)[command]()
    assert done.code == 2
    assert not judge.fault(command, Mutant(0, [file], [name]), done, True)


BOMBS = {
    "aliases": hostile.BOMB + "norm: {kind: *a11}\n",
    "aliases in a list": hostile.BOMB + "probe: {lengths: *a11}\n",
    "an alias of itself": "probe: &a {lengths: [*a]}\n",
    "deep nesting": f"seed: {hostile.DEEP}\n",
    "an object": "seed: !!python/object/apply:os.system ['touch pwned']\n",
    "a target": "seed: {_target_: os.system, _args_: ['touch pwned']}\n",
    "a long number": f"seed: {'9' * 5000}\n",
    "a NUL": 'data: {root: "a\\0b"}\n',
    "a model of 2**17 features": "model: {embedding_size: 131072, hidden_size: 131072}\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_hostile_configuration_is_refused(
    judge: Judge, whole: subject.Subject, tmp_path: Path, text: str
) -> None:
    copy = whole.copy(tmp_path / "copy")
    (copy / CONFIG).write_text(text, encoding="utf-8")
    with contextlib.chdir(copy), commands.without_flushing(), commands.shortened():
        done = commands.translated()
        assert not Path("pwned").exists()
    assert done.code == 2
    assert not judge.fault("translate", Mutant(0, [CONFIG], ["yaml"]), done, False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sampler", "position"), 10**6),  # an epoch without batches would never end
        (("sampler", "epoch"), -1),
        (("progress", "update"), 2**70),
        (("progress", "tokens"), "many"),
        (("progress", "seconds"), float("nan")),
        (("progress",), []),
        (("corpus",), 3),
    ],
    ids=str,
)
def test_a_sealed_state_of_other_values_is_not_resumed_from(
    judge: Judge, whole: subject.Subject, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    copy = whole.copy(tmp_path / "copy")
    tensors, state = load_checkpoint(copy / STATE)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    save_checkpoint(copy / STATE, tensors, state)
    (copy / "run/checkpoints/previous.safetensors").unlink()
    with contextlib.chdir(copy), commands.without_flushing(), commands.shortened():
        done = commands.resumed(False)
    assert done.code == 2
    assert not judge.fault("resume", Mutant(0, [STATE], ["state"]), done, True)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", ["train.source.ids", "valid.target.ids", "train.target.ends"])
def test_other_numbers_of_a_prepared_corpus_are_found(
    judge: Judge, whole: subject.Subject, tmp_path: Path, name: str, sealed: bool
) -> None:
    """By the checksum; with a right one, where they are no ids or no ends of sentences."""
    copy = whole.copy(tmp_path / "copy")
    [file] = copy.glob(f"{PREPARED}/{name}")
    content = bytearray(file.read_bytes())
    content[7 if name.endswith("ends") else 3] ^= 0xFF if sealed else 1
    file.write_bytes(content)
    if sealed:
        resealed.reseal(file)
    with contextlib.chdir(copy), commands.without_flushing(), commands.shortened():
        done = commands.resumed(False)
    assert done.code == 2
    assert not judge.fault("resume", Mutant(0, [str(file)], ["numbers"]), done, True)
    if sealed and name.endswith("ids"):  # it may be the tokenizers that have changed
        assert "the tokenizers" in done.err


def in_checksums(entry: Any) -> Callable[[Path], None]:
    """Return what replaces the entry of valid.source.ends, under a right checksum of them all."""

    def change(file: Path) -> None:
        known = read_checked_json(file)
        write_checked_json(file, known | {"valid.source.ends": entry})

    return change


def without_valid(file: Path) -> None:
    manifest = json.loads(file.read_text())
    del manifest["splits"]["valid"]
    file.write_text(json.dumps(manifest))
    resealed.reseal(file)


def shortened_by_one(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8])
    resealed.reseal(file)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("valid.target.ends", lambda file: blind.PLACEMENTS["sparse"](file, random.Random(0))),
        ("train.source.ids", Path.unlink),
        ("train.target.ends", shortened_by_one),
        ("checksums.json", in_checksums(True)),
        ("checksums.json", in_checksums({"bytes": 1, "sha256": "0"})),
        ("manifest.json", without_valid),
    ],
    ids=["sparse", "removed", "shorter", "no checksum", "another checksum", "no split"],
)
def test_a_damaged_file_of_a_prepared_corpus_is_named(
    judge: Judge,
    whole: subject.Subject,
    tmp_path: Path,
    name: str,
    change: Callable[[Path], None],
) -> None:
    copy = whole.copy(tmp_path / "copy")
    [file] = copy.glob(f"{PREPARED}/{name}")
    change(file)
    with contextlib.chdir(copy), commands.without_flushing(), commands.shortened():
        done = commands.resumed(False)
    assert done.code == 2
    assert not judge.fault("resume", Mutant(0, [str(file)], ["prepared"]), done, True)
