"""train.py as a user runs it: what it accepts, what it says, how it ends."""

import itertools
import math
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, composed, reversed_pairs, write_pairs

from hydra_plugins import seq2seq as sweeper
from seq2seq.config import (
    Attention,
    Backend,
    CellKind,
    Device,
    Metric,
    OptimizerKind,
    Precision,
    Schedule,
    TokenizerKind,
    Tying,
)
from seq2seq.config.settings import settings
from seq2seq.errors import TrainingError
from seq2seq.rnn import NormKind
from seq2seq.runs import checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import loop as training
from seq2seq.training import validation
from seq2seq.training.step import train_step

pytest_plugins = ["run_fixtures"]

SHORT = ["trainer.max_updates=2", "trainer.log_every=1"]


def folders(tmp_path):
    """What stands under outputs/CORPUS."""
    return sorted(path.name for path in tmp_path.glob("outputs/*/*"))


def assert_one_line(done, code, *parts):
    """One line of error, that code, no traceback."""
    assert done.code == code
    assert done.err.startswith("train.py: ")
    assert done.err.count("\n") == 1, done.err
    for part in parts:
        assert part in done.err


def snapshot(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# -- settings ---

CHOICES = {
    "norm": [n.value for n in NormKind],
    "cell": [c.value for c in CellKind],
    "model": ["tiny", "small", "base"],
    "model.attention": [a.value for a in Attention],
    "model.tying": [t.value for t in Tying],
    "tokenizer": [t.value for t in TokenizerKind],
    "optimizer": [o.value for o in OptimizerKind],
    "optimizer.schedule": [s.value for s in Schedule],
    "data": ["grammar_en_zh", "multi30k_de_en", "files"],
    "trainer.device": [d.value for d in Device],
    "trainer.precision": [p.value for p in Precision],
    "trainer.best_metric": [m.value for m in Metric],
    "backend": [b.value for b in Backend],
}
VALUES = {
    "seed": 3,
    "model.encoder_layers": 2,
    "model.decoder_layers": 3,
    "model.input_feeding": True,
    "tokenizer.vocab_size": 100,
    "data.mirror": "somewhere",
    "data.batch_tokens": 100,
    "data.batch_sentences": 10,
    "data.max_length": 50,
    "optimizer.lr": 0.25,
    "trainer.max_epochs": 3,
    "trainer.max_updates": 30,
    "trainer.threads": 2,
    "trainer.validate_every": 5,
    "trainer.checkpoint_every": 6,
    "trainer.recalibrate": False,
    "experiment": "length",
    "overwrite": True,
    "decode.beam_size": 3,
    "decode.length_penalty": 0.5,
    "decode.max_length": "1.5x+5",
    "resume": "somewhere",
}


NEEDED = {
    "model.tying": ["tokenizer.joint=true"],
    "data.batch_sentences": ["data.batch_tokens=null"],
    "trainer.recalibrate": ["norm=batch"],
}
"""What a setting needs to have an effect."""
ASKED = [(key, value) for key, values in CHOICES.items() for value in values] + [*VALUES.items()]


@pytest.mark.parametrize(("key", "value"), ASKED)
def test_every_promised_setting_is_accepted(key, value):
    found = settings(composed(*NEEDED.get(key, []), f"{key}={value}"))
    if key in ("norm", "cell", "tokenizer", "optimizer"):
        key += ".kind"
    elif key == "data":
        key += ".name"
    if key != "model":
        assert found[key] == value


def test_help_lists_groups_and_settings(train_command):
    done = train_command("--help")
    assert done.code == 0
    for part in (
        "python train.py resume=outputs/CORPUS/RUN",
        "label_smoothing: 0.1",
        "norm: batch, batch_gain_1, batch_shared, layer, layer_gain_1, none",
    ):
        assert part in done.out


def test_help_needs_no_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch, for --help')\n")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.returncode == 0, done.stderr
    assert "label_smoothing: 0.1" in done.stdout


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("norm=group", ["norm=group", "batch", "layer", "none", "rms"]),
        ("trainer.precision=fp64", ["trainer.precision=fp64: expected one of fp32, bf16"]),
        ("trainer.speed=3", ["trainer.speed=3: no such setting"]),
        ("trainer.max_epochs=many", ["trainer.max_epochs=many: expected a whole number"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs=0: expected at least 1"]),
        ("decode.max_length=long", ["decode.max_length='long'", "Ax+B"]),
        ("model.hidden_size=47", ["model.hidden_size=47", "even"]),
        (
            "resume=outputs/toy/nothing,optimizer.lr=1",
            ["outputs/toy/nothing,optimizer.lr=1: no such run"],
        ),
    ],
)
def test_a_wrong_setting_is_one_line(override, parts, train_command, toy, tmp_path):
    done = train_command(*([] if override.startswith("resume") else toy), override)
    assert_one_line(done, 2, *parts)
    assert not list(tmp_path.rglob("config.yaml"))
    assert not (tmp_path / "outputs/toy/nothing,optimizer.lr=1").exists()


def test_a_traceback_on_request(train_command):
    with pytest.raises(ValueError, match="no such run"):
        train_command("resume=nothing", full_error="1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(train_command, toy):
    assert_one_line(
        train_command(*toy, "trainer.device=cuda"), 2, "device=cuda", "expected auto or cpu"
    )


# -- text ---


@pytest.mark.parametrize(
    ("source", "target", "parts"),
    [
        (b"a\nb\n", b"x\n", ["source has 2 lines, ", "target has 1; expected the same number"]),
        (b"a\n\xc3(b\n", b"x\ny\n", ["source:2: invalid UTF-8 at byte 1 (0xc3)"]),
        (b"", b"", ["source: empty"]),
        (b"a\n", None, ["target: no such file"]),
    ],
)
def test_text_that_can_not_be_trained_on(source, target, parts, train_command, toy, tmp_path):
    for side, text in (("source", source), ("target", target)):
        if text is not None:
            (tmp_path / side).write_bytes(text)
    files = [f"data.train.{side}={tmp_path / side}" for side in ("source", "target")]
    assert_one_line(train_command(*toy, *files), 2, *parts)
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_test_set_that_can_not_be_read_is_known_before_training(train_command, toy, tmp_path):
    (tmp_path / "source").write_bytes(b"do re\n\xff\n")
    done = train_command(*toy, f"data.test.source={tmp_path / 'source'}")
    assert_one_line(done, 2, "source:2: invalid UTF-8 at byte 1 (0xff)")
    assert done.out == ""


def test_a_vocabulary_larger_than_the_text_supports(train_command, toy):
    done = train_command(*toy, "tokenizer=bpe", "tokenizer.vocab_size=5000")
    assert_one_line(done, 2, "tokenizer.vocab_size=5000")
    largest = re.search(r"at most (\d+)", done.err)
    assert (
        train_command(*toy, *SHORT, "tokenizer=bpe", f"tokenizer.vocab_size={largest[1]}").code == 0
    )


def test_pairs_that_are_left_out_are_counted(train_command, toy, tmp_path):
    pairs = reversed_pairs(40, 3)
    files = write_pairs(tmp_path, "train", [*pairs, ("", "x"), ("do " * 12, "re"), *pairs[:3]])
    done = train_command(
        *toy, *files, *SHORT, "data.max_length=5", "data.cleaning.drop_duplicates=true"
    )
    assert done.code == 0
    kept = len(set(pairs))
    assert (
        f"{kept} training pairs (left out: 1 empty, 1 too long, {43 - kept} repeated)" in done.out
    )


# -- one run ---


def test_a_run_is_trained_once(train_command, toy, tmp_path):
    done = train_command(*toy, *SHORT)
    assert (done.code, done.err) == (0, "")  # trainer.progress=false
    folder = next(tmp_path.glob("outputs/toy/*"))
    assert folder.name.startswith("layer-lstm-tiny-seed1,")
    assert re.search(
        r"update +2 +epoch +0 +valid loss [\d.]+ +perplexity [\d.]+ +BLEU [\d.]+", done.out
    )
    assert re.search(
        r"valid BLEU [\d.]+ +test BLEU [\d.]+ +best at update 2 of 2", done.out.splitlines()[-1]
    )
    before = snapshot(tmp_path / "outputs")
    again = train_command(*toy, *SHORT)
    assert (again.code, again.err) == (0, "")
    assert again.out.startswith("finished already")
    assert "test BLEU" in again.out
    assert snapshot(tmp_path / "outputs") == before
    anew = train_command(*toy, *SHORT, "overwrite=true", "trainer.progress=true")
    assert anew.code == 0
    assert not anew.out.startswith("finished already")
    bar = anew.err.replace("\r", "\n")
    assert re.search(r"2/2 \[\d\d:\d\d<\d\d:\d\d, .*loss=\d\.\d+, tokens/s=[\d,]+\]", bar)
    assert len(folders(tmp_path)) == 2  # trainer.progress is in the name, as any override


def test_another_configuration_in_the_same_folder(train_command, toy, tmp_path):
    place = f"hydra.run.dir={tmp_path / 'here'}"
    assert train_command(*toy, *SHORT, place).code == 0
    before = snapshot(tmp_path / "here")
    assert train_command(*toy, *SHORT, place, "trainer.threads=1").out.startswith(
        "finished already"
    )
    done = train_command(*toy, *SHORT, place, "optimizer.lr=0.5")
    assert_one_line(
        done,
        2,
        "here: holds a run of another configuration (optimizer.lr=0.01 there, 0.5 now)",
        "overwrite=true",
        "hydra.run.dir=DIR",
    )
    assert snapshot(tmp_path / "here") == before
    assert train_command(*toy, *SHORT, place, "optimizer.lr=0.5", "overwrite=true").code == 0
    assert Run(tmp_path / "here").config().optimizer.lr == 0.5


def test_a_folder_that_is_trained_in(train_command, toy, tmp_path):
    with Run(tmp_path / "here").locked():
        done = train_command(*toy, f"hydra.run.dir={tmp_path / 'here'}")
    assert_one_line(done, 2, "here: another process is training here")


# -- going on ---


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=0.5",
        "seed=2",
        "norm=none",
        "overwrite=true",
        "trainer.patience=3",
        "data.root=there",
        "hydra.run.dir=there",
    ],
)
def test_resume_accepts_nothing_that_changes_the_training(
    override, copied, train_command, tmp_path
):
    before = snapshot(copied.folder)
    done = train_command(f"resume={copied.folder}", override)
    assert_one_line(done, 2, f"{override.partition('=')[0]}", "trainer.max_epochs")
    assert snapshot(copied.folder) == before
    assert not (tmp_path / "outputs").exists()


def test_resume_takes_what_changes_nothing_so_far(copied, train_command, tmp_path):
    moved = tmp_path / "moved, a=b 'c'"
    shutil.move(copied.folder, moved)
    kept = [
        "trainer.device=cpu",
        "trainer.threads=1",
        "trainer.progress=false",
        "trainer.histograms=false",
        "data.mirror=there",
    ]
    done = train_command(f"resume={moved}", *kept)
    assert done.code == 0
    assert done.out.startswith("finished already")
    done = train_command(f"resume={moved}", *kept, "trainer.max_epochs=4", "trainer.max_updates=20")
    assert done.code == 0, done.err
    resumed = Run(moved)
    assert resumed.results()["update"] == 20
    assert max(e["update"] for e in read_metrics(resumed.metrics_file)) == 20
    config = resumed.config()
    assert (config.data.mirror, config.resume, config.overwrite) == ("there", None, False)
    assert folders(tmp_path) == []


def test_a_run_that_was_started_by_overwriting_is_gone_on_with(
    train_command, toy, monkeypatch, tmp_path
):
    signals = iter([False, False, True])
    monkeypatch.setattr(
        training,
        "train_step",
        lambda *arguments: (
            next(signals, False) and os.kill(os.getpid(), signal.SIGTERM),
            train_step(*arguments),
        )[1],
    )
    stopped = train_command(*toy, "overwrite=true")
    assert stopped.code == 0
    folder = next(tmp_path.glob("outputs/toy/*"))
    saved = read_metrics(folder / "metrics.jsonl")
    done = train_command(f"resume={folder}")
    assert done.code == 0
    assert read_metrics(folder / "metrics.jsonl")[: len(saved)] == saved
    assert Run(folder).results()["update"] == 16


@pytest.fixture
def process(toy, tmp_path):
    """Starts a real train.py on the toy corpus; it is killed where the test forgets it."""
    started = []

    def start(*overrides, program=(str(ROOT / "train.py"),)):
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "COLUMNS"))
        }
        started.append(
            subprocess.Popen(
                [sys.executable, *program, *toy, *overrides],
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, "HYDRA_MAIN_MODULE": "__main__", "PYTHONPATH": str(ROOT)},
            )
        )
        return started[-1]

    yield start
    for each in started:
        with each:  # closes its pipes
            each.kill()


def wait_for_training(folder, seconds=120):
    """Until the first values are logged."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(
            len(read_metrics(file)) > 1 for file in Path(folder).glob("outputs/*/*/metrics.jsonl")
        ):
            return
        time.sleep(0.02)
    raise TimeoutError


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_printed_command_goes_on(
    number, code, process, train_command, tmp_path
):
    running = process("trainer.max_epochs=10", "trainer.validate_every=1000")
    wait_for_training(tmp_path)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    line = re.fullmatch(
        r"train\.py: (\w+): saved at update (\d+); continue with: python train\.py (.*)\n", err
    )
    assert line, err
    assert line[1] == number.name
    assert 0 < int(line[2]) < 80
    done = train_command(*shlex.split(line[3]))
    assert done.code == 0, done.err
    metrics = next(tmp_path.glob("outputs/toy/*/metrics.jsonl"))
    updates = [e["update"] for e in read_metrics(metrics) if e["kind"] == "train"]
    assert updates == list(range(2, 81, 2))


KILLED_IN_A_WRITE = """
import os, signal, sys
sys.path.insert(0, {root!r})
from seq2seq.app.commands import train
from seq2seq.runs import checkpoint
flush, writes = os.fsync, []
def dying(number):
    name = os.path.basename(os.readlink(f"/proc/self/fd/{{number}}"))
    writes.append(name.startswith(".last"))
    if sum(writes) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    flush(number)
checkpoint.os.fsync = dying
train()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_kill_in_the_write_of_a_checkpoint_loses_nothing_before_it(
    process, train_command, toy, finished, tmp_path
):
    program = tmp_path / "killed.py"
    program.write_text(KILLED_IN_A_WRITE.format(root=str(ROOT)))
    running = process("trainer.checkpoint_every=3", program=(str(program),))
    assert running.wait(timeout=120) == -signal.SIGKILL
    killed = Run(next(tmp_path.glob("outputs/toy/*")))
    assert len(list(killed.checkpoints.glob(".last.safetensors.*.tmp"))) == 1
    assert checkpoint.load_checkpoint(killed.checkpoint("last"))[1]["progress"]["update"] == 6
    assert train_command(*toy, "trainer.checkpoint_every=3").code == 0
    last, expected = (
        checkpoint.load_checkpoint(r.checkpoint("last"))[0] for r in (killed, finished)
    )
    assert all(torch.equal(last[name], expected[name]) for name in expected)
    losses, expected = (
        [e["loss"] for e in read_metrics(r.metrics_file)] for r in (killed, finished)
    )
    assert losses == expected
    assert not list(killed.folder.rglob("*.tmp"))


# -- failures ---


def test_a_loss_that_is_not_finite(train_command, toy, tmp_path):
    rates = [
        "optimizer=sgd",
        "optimizer.lr=1e30",
        "optimizer.clip_norm=0",
        "optimizer.warmup_updates=0",
    ]
    done = train_command(*toy, *rates, "trainer.checkpoint_every=1")
    assert_one_line(done, 1, "update ", "lr 1e+30", "not finite; try a lower optimizer.lr")
    (folder,) = (path.parent for path in tmp_path.rglob("config.yaml"))
    assert not (folder / "results.json").exists()
    assert "not finite" in (folder / "failure.txt").read_text()
    mended = train_command(*toy, f"hydra.run.dir='{folder}'", "overwrite=true", *SHORT)
    assert mended.code == 0
    assert not (folder / "failure.txt").exists()


@pytest.mark.parametrize(
    "override",
    [
        "model.hidden_size=47",
        "data.train.source=nowhere.txt",
        pytest.param(
            "trainer.device=cuda",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_a_run_that_can_not_begin_says_why_and_is_none(override, train_command, toy, tmp_path):
    place = f"hydra.run.dir={tmp_path / 'here'}"
    done = train_command(*toy, override, place)
    assert done.code == 2
    assert (tmp_path / "here" / "failure.txt").read_text().strip() in done.err
    assert not (tmp_path / "here" / "config.yaml").exists()
    assert (
        train_command(*toy, *SHORT, place).code == 0
    )  # no run of another configuration is in the way
    assert not (tmp_path / "here" / "failure.txt").exists()


def test_a_locked_folder_gets_no_failure_of_another(train_command, toy, tmp_path):
    with Run(tmp_path / "here").locked():
        assert train_command(*toy, f"hydra.run.dir={tmp_path / 'here'}").code == 2
    assert not (tmp_path / "here" / "failure.txt").exists()


@pytest.mark.parametrize(
    ("file", "damage", "part"),
    [
        (
            "checkpoints/last.safetensors",
            lambda whole: whole[:1000],
            "last.safetensors: damaged or truncated",
        ),
        ("config.yaml", lambda _: b"seed: [", "config.yaml: not a configuration"),
        ("metrics.jsonl", lambda whole: b"x" + whole, "metrics.jsonl:1: not a JSON object"),
    ],
)
def test_a_damaged_run(file, damage, part, copied, train_command):
    (copied.folder / file).write_bytes(damage((copied.folder / file).read_bytes()))
    assert_one_line(train_command(f"resume={copied.folder}", "trainer.max_epochs=3"), 2, part)


def test_a_checkpoint_of_another_architecture(copied, train_command):
    text = copied.config_file.read_text()
    copied.config_file.write_text(text.replace("hidden_size: 48", "hidden_size: 64"))
    done = train_command(f"resume={copied.folder}", "trainer.max_epochs=3")
    assert_one_line(done, 2, "last.safetensors: a checkpoint of another architecture", "(48")


@pytest.fixture
def at_update(monkeypatch):
    """Does something before the n-th update, and nothing more at the next call."""

    def plan(number, act):
        count = itertools.count(1)
        monkeypatch.setattr(
            training,
            "train_step",
            lambda *arguments: (next(count) == number and act(), train_step(*arguments))[1],
        )

    return plan


def test_a_run_that_logged_what_is_not_finite_is_compared_and_gone_on_with(
    train_command, toy, tmp_path, monkeypatch, at_update, script
):
    def diverge():
        raise TrainingError("loss nan is not finite")

    monkeypatch.setattr(validation, "teacher_forced_loss", lambda *_: math.nan)
    at_update(3, diverge)
    assert train_command(*toy, "trainer.validate_every=1").code == 1
    folder = next(tmp_path.glob("outputs/toy/*"))
    assert [e["loss"] for e in read_metrics(folder / "metrics.jsonl") if e["kind"] == "valid"] == [
        None,
        None,
    ]
    compared = script("compare")(folder, "--out", tmp_path / "out")
    assert (compared.code, compared.err) == (0, "")
    assert "left out: failed: update 3, lr " in compared.out
    at_update(0, diverge)
    resumed = train_command(f"resume={folder}")
    assert (resumed.code, resumed.err) == (0, "")
    assert script("compare")(folder, "--out", tmp_path / "out").code == 0


def check_full_disk(full, room, toy, train_command, at_update, finished, place, message):
    """Fill the disk in the middle of a run, make room again, go on: as if nothing had been."""
    at_update(5, full)
    command = (*toy, "trainer.checkpoint_every=3", f"hydra.run.dir={place}")
    try:
        done = train_command(*command)
    finally:
        room()
    assert_one_line(done, 1, f"{place.name}{os.sep}", message)
    at_update(0, full)
    assert checkpoint.load_checkpoint(Run(place).checkpoint("last"))[1]["progress"]["update"] == 3
    assert train_command(*command).code == 0
    last, expected = (
        checkpoint.load_checkpoint(r.checkpoint("last"))[0] for r in (Run(place), finished)
    )
    assert all(torch.equal(last[name], expected[name]) for name in expected)


def test_a_file_that_may_not_grow(toy, train_command, at_update, finished, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    check_full_disk(
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard)),
        toy,
        train_command,
        at_update,
        finished,
        tmp_path / "run",
        "File too large",
    )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(toy, train_command, at_update, finished, small_disk):
    filler = small_disk / "filler"

    def fill():
        with open(filler, "wb", buffering=0) as file:
            for size in (4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass

    check_full_disk(
        fill,
        filler.unlink,
        toy,
        train_command,
        at_update,
        finished,
        small_disk / "run",
        "No space left on device",
    )


# -- sweeps ---


def test_a_sweep_trains_what_single_runs_would(train_command, toy, tmp_path):
    rates = "optimizer.lr=1e-2"
    done = train_command("-m", *toy, *SHORT, rates, "norm=none,layer")
    assert (done.code, done.err) == (0, "")
    assert [name[:5] for name in folders(tmp_path)] == ["layer", "none-"]
    before = snapshot(tmp_path / "outputs")
    again = train_command("-m", *toy, *SHORT, rates, "norm=none,layer")
    assert again.code == 0
    assert again.out.count("finished already") == 2
    for norm in ("none", "layer"):
        single = train_command(*toy, *SHORT, rates, f"norm={norm}")
        assert single.out.startswith(
            f"finished already (overwrite=true trains it again): outputs/toy/{norm}-lstm"
        )
    after = snapshot(tmp_path / "outputs")
    assert {p: v for p, v in after.items() if p.name != "multirun.yaml"} == {
        p: v for p, v in before.items() if p.name != "multirun.yaml"
    }


def test_a_failed_job_does_not_end_the_others(train_command, toy, tmp_path, script):
    done = train_command("-m", *toy, *SHORT, "model.hidden_size=47,48", "seed=1,2")
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == 6
    for line, seed in zip(
        lines[:2] + lines[3:5], (1, 2, 1, 2), strict=True
    ):  # at once, and again at the end
        assert line.startswith("failed: ")
        assert (
            f"model.hidden_size=47 seed={seed}: model.hidden_size=47: expected an even number"
            in line
        )
    assert "sweep: 2 of 4 jobs done, 2 failed\n" in done.out
    compared = script("compare")(*tmp_path.glob("outputs/*/*"), "--out", tmp_path / "out")
    assert (compared.code, compared.err) == (0, "")
    reasons = [
        line
        for line in compared.out.splitlines()
        if "left out: failed: model.hidden_size=47: e" in line
    ]
    assert len(reasons) == 2
    assert lines[2].startswith(
        "Error executing job with overrides: "
    )  # Hydra's word for the first one
    assert lines[5].startswith("train.py: model.hidden_size=47")
    assert len(list(tmp_path.rglob("results.json"))) == 2


def test_a_stopped_job_stops_the_sweep(train_command, toy, tmp_path, at_update):
    at_update(18, lambda: os.kill(os.getpid(), signal.SIGINT))  # the second job's second
    done = train_command("-m", *toy, "norm=none,layer,rms")
    assert_one_line(done, 130, "SIGINT: saved at update 2")
    assert [name[:5] for name in folders(tmp_path)] == ["layer", "none-"]
    assert (
        "\nsweep stopped: 1 of 3 jobs done, 0 failed, 1 unfinished, 1 not begun\nunfinished: "
        in done.out
    )
    unfinished = done.out.splitlines()[-1]
    assert "norm=layer" in unfinished


def test_what_a_former_sweep_left_is_nothing_that_this_one_did(
    train_command, toy, tmp_path, at_update
):
    train_command("-m", *toy, *SHORT, "norm=none,layer")
    at_update(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    done = train_command("-m", *toy, *SHORT, "norm=none,layer", "overwrite=true")
    assert done.code == 130
    assert "\nsweep stopped: 0 of 2 jobs done, 0 failed, 1 unfinished, 1 not begun\n" in done.out


def test_a_launcher_that_gives_up_leaves_what_is_known(train_command, toy, tmp_path, monkeypatch):
    """As submitit's does where the cluster has killed a job: it raises, and returns none of the
    jobs.
    """

    class GivesUp:
        def __init__(self, launcher):
            self.launcher = launcher

        def launch(self, jobs, number):
            self.launcher.launch(jobs[:2], number)
            raise RuntimeError("a job was killed")

    recorder = sweeper.Recorder
    monkeypatch.setattr(sweeper, "Recorder", lambda launcher: recorder(GivesUp(launcher)))
    done = train_command("-m", *toy, *SHORT, "model.hidden_size=47,48,52")
    assert done.code == 1
    assert "\nsweep stopped: 1 of 3 jobs done, 1 failed, 0 unfinished, 1 not begun\n" in done.out
    again = [line for line in done.err.splitlines() if line.startswith("failed: ")][-1]
    assert "model.hidden_size=47: model.hidden_size=47: expected an even number" in again
    assert done.err.splitlines()[-1] == "train.py: a job was killed"


def test_batches_of_jobs_that_were_not_reached_have_not_begun(train_command, toy):
    done = train_command(
        "-m", *toy, *SHORT, "model.hidden_size=47,48,52", "hydra.sweeper.max_batch_size=1"
    )
    assert done.code == 2
    assert "sweep stopped: 0 of 3 jobs done, 1 failed, 0 unfinished, 2 not begun\n" in done.out


def test_a_sweep_that_can_not_be_composed_has_no_jobs_to_tell_of(train_command, toy):
    done = train_command("-m", *toy, "norm=none,nothing")
    assert done.code == 2
    assert "sweep" not in done.out


@pytest.mark.parametrize(
    "launcher",
    [
        "joblib",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("submitit_local", "ray_cores")),
    ],
)
def test_jobs_beside_each_other(launcher, process, tmp_path):
    """In processes of their own: the others are trained, the failed one is listed at the end, a
    repetition skips.
    """
    if launcher == "ray_cores":
        pytest.importorskip(
            "hydra_plugins.hydra_ray_launcher", reason="needs pip install -e '.[ray]'"
        )
    overrides, program = (
        [f"hydra/launcher={launcher}", *SHORT, "model.hidden_size=47,48"],
        (f"{ROOT}/train.py", "-m"),
    )
    first = process(*overrides, program=program)
    out, err = first.communicate(timeout=300)
    assert first.returncode != 0
    assert "sweep: 1 of 2 jobs done, 1 failed" in out
    assert "model.hidden_size=47: expected an even number" in err
    (done,) = tmp_path.rglob("results.json")
    before = snapshot(done.parent)
    process(*overrides, program=program).communicate(timeout=300)
    assert snapshot(done.parent) == before
