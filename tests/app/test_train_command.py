"""train.py as a user runs it: the settings, text and folders that it accepts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from composing import composed
from conftest import ROOT, TrainCommand, reversed_pairs, write_pairs
from train_output import SHORT, assert_one_line, folders, snapshot
from typed import present

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
from seq2seq.rnn import NormKind
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


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
def test_every_promised_setting_is_accepted(key: str, value: object) -> None:
    found = settings(composed(*NEEDED.get(key, []), f"{key}={value}"))
    if key in ("norm", "cell", "tokenizer", "optimizer"):
        key += ".kind"
    elif key == "data":
        key += ".name"
    if key != "model":
        assert found[key] == value


def test_help_lists_groups_and_settings(train_command: TrainCommand) -> None:
    done = train_command("--help")
    assert done.code == 0
    for part in (
        "python train.py resume=outputs/CORPUS/RUN",
        "label_smoothing: 0.1",
        "norm: batch, batch_cell, batch_gain_01, batch_gain_1, batch_shared, layer,",
    ):
        assert part in done.out


def test_help_knows_the_users_own_folder_of_settings(
    train_command: TrainCommand, tmp_path: Path
) -> None:
    (tmp_path / "own dir" / "data").mkdir(parents=True)
    (tmp_path / "own dir" / "data" / "mine.yaml").write_text("name: of-mine\n")
    for chosen in ([], ["data=mine"]):
        done = train_command("--config-dir", "own dir", *chosen, "--help")
        assert done.code == 0, done.err
        assert re.search(r"^data: .*\bmine\b", done.out, re.M)
        assert ("name: of-mine" in done.out) == bool(chosen)


def test_help_of_a_sweep(train_command: TrainCommand) -> None:
    done = train_command("-m", "norm=none,batch", "seed=range(1,3)", "model.dropout=0.7", "--help")
    assert (done.code, done.err) == (0, "")
    assert "dropout: 0.7" in done.out
    refused = train_command("norm=none,batch", "--help")
    assert refused.code == 2
    assert "several are a sweep, with -m" in refused.err


def test_help_does_not_import_torch(tmp_path: Path) -> None:
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
        ("decode.max_length=long", ["decode.max_length=long", "Ax+B"]),
        ("model.hidden_size=47", ["model.hidden_size=47", "even"]),
        (
            "resume=outputs/toy/nothing,optimizer.lr=1",
            ["outputs/toy/nothing,optimizer.lr=1: no such run"],
        ),
    ],
)
def test_a_wrong_setting_gives_one_line_of_error(
    override: str, parts: list[str], train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    done = train_command(*([] if override.startswith("resume") else toy), override)
    assert_one_line(done, 2, *parts)
    assert not list(tmp_path.rglob("config.yaml"))
    assert not (tmp_path / "outputs/toy/nothing,optimizer.lr=1").exists()


def test_a_traceback_on_request(train_command: TrainCommand) -> None:
    with pytest.raises(ValueError, match="no such run"):
        train_command("resume=nothing", full_error="1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_refused(train_command: TrainCommand, toy: list[str]) -> None:
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
def test_unreadable_training_text_is_refused(
    source: bytes,
    target: bytes | None,
    parts: list[str],
    train_command: TrainCommand,
    toy: list[str],
    tmp_path: Path,
) -> None:
    for side, text in (("source", source), ("target", target)):
        if text is not None:
            (tmp_path / side).write_bytes(text)
    files = [f"data.train.{side}={tmp_path / side}" for side in ("source", "target")]
    assert_one_line(train_command(*toy, *files), 2, *parts)
    assert not list(tmp_path.rglob("config.yaml"))


def test_an_unreadable_test_set_is_refused_before_training(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"do re\n\xff\n")
    done = train_command(*toy, f"data.test.source={tmp_path / 'source'}")
    assert_one_line(done, 2, "source:2: invalid UTF-8 at byte 1 (0xff)")
    assert done.out == ""


def test_a_vocabulary_larger_than_the_text_supports_is_refused(
    train_command: TrainCommand, toy: list[str]
) -> None:
    done = train_command(*toy, "tokenizer=bpe", "tokenizer.vocab_size=5000")
    assert_one_line(done, 2, "tokenizer.vocab_size=5000")
    largest = present(re.search(r"at most (\d+)", done.err))
    assert (
        train_command(*toy, *SHORT, "tokenizer=bpe", f"tokenizer.vocab_size={largest[1]}").code == 0
    )


def test_dropped_pairs_are_counted(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
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


def test_a_run_is_trained_once(train_command: TrainCommand, toy: list[str], tmp_path: Path) -> None:
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
    retrained = train_command(*toy, *SHORT, "overwrite=true", "trainer.progress=true")
    assert retrained.code == 0
    assert not retrained.out.startswith("finished already")
    bar = retrained.err.replace("\r", "\n")
    assert re.search(r"2/2 \[\d\d:\d\d<\d\d:\d\d, .*loss=\d\.\d+, tokens/s=[\d,]+\]", bar)
    assert len(folders(tmp_path)) == 2  # trainer.progress is an override, so it is in the name


def test_another_configuration_in_the_same_folder_is_refused(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
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
        "here: holds another configuration (optimizer.lr=0.01 there, 0.5 now)",
        "overwrite=true",
        "hydra.run.dir=DIR",
    )
    assert snapshot(tmp_path / "here") == before
    assert train_command(*toy, *SHORT, place, "optimizer.lr=0.5", "overwrite=true").code == 0
    assert Run(tmp_path / "here").config().optimizer.lr == 0.5


def test_a_folder_in_use_by_another_training_is_refused(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    with Run(tmp_path / "here").locked():
        done = train_command(*toy, f"hydra.run.dir={tmp_path / 'here'}")
    assert_one_line(done, 2, "here: another process is training here")
