"""Runs: what stands in their folders, and how they go on. Whole runs are compared, so that nothing
is left out.
"""

import os
import pickle
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seq2seq.config import CellConfig, CellKind
from seq2seq.config.settings import differences
from seq2seq.errors import Stopped
from seq2seq.runs import checkpoint
from seq2seq.runs.checkpoint import CheckpointError, load_checkpoint
from seq2seq.runs.folder import Run, RunError, Status
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import loop as training
from seq2seq.training.loop import train, train_step
from seq2seq.translation.loading import load_translator

TIMES = ("seconds", "wall_seconds", "tokens_per_second")


def without_times(values):
    return {key: value for key, value in values.items() if key not in TIMES}


def entries(run):
    return [without_times(entry) for entry in read_metrics(run.metrics_file)]


def tensors(run, name):
    return load_checkpoint(run.checkpoint(name))[0]


def curves(run):
    """Every TensorBoard curve: (step, value) in the order of the files."""
    events = EventAccumulator(str(run.folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag != "train/tokens_per_second"
    }


def assert_same(run, other):
    """Two runs that can't be told apart but by the clock."""
    for name in ("last", "best"):
        found, expected = tensors(run, name), tensors(other, name)
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert entries(run) == entries(other)
    assert without_times(run.results()) == without_times(other.results())
    assert curves(run) == curves(other)
    for split in ("valid", "test"):
        assert (run.translations / f"{split}.txt").read_bytes() == (
            other.translations / f"{split}.txt"
        ).read_bytes()


def snapshot(folder):
    """Every file's content and time of change; the lock holds nothing."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def at_update(monkeypatch):
    """Lets something happen in the middle of an update."""

    def plan(number, act):
        count = 0

        def stepping(*arguments):
            nonlocal count
            count += 1
            if count == number:
                act()
            return train_step(*arguments)

        monkeypatch.setattr(training, "train_step", stepping)

    return plan


def stop_here(number=signal.SIGTERM):
    return lambda: os.kill(os.getpid(), number)


class Killed(BaseException):
    """Stands for the end of a process: nothing catches it."""


def die():
    raise Killed


# -- exact resume ---


@pytest.mark.parametrize(
    ("settings", "stops"),
    [
        (["model.dropout=0.3"], [5, 4]),
        (
            [
                "norm=batch",
                "norm.min_rows=2",
                "trainer.average_last=2",
                "trainer.validate_every=5",
                "trainer.log_every=3",
            ],
            [7],
        ),
        (
            [
                "optimizer=sgd",
                "optimizer.lr=0.3",
                "optimizer.momentum=0.9",
                "optimizer.accumulate=3",
                "cell=gru",
                "trainer.precision=bf16",
                "model.variational=true",
                "trainer.validate_every=1",
                "trainer.best_metric=loss",
            ],
            [2],
        ),
    ],
)
def test_a_stopped_run_goes_on_exactly(settings, stops, train_here, tmp_path, at_update):
    whole = train_here(tmp_path / "whole", *settings)
    for update in stops:
        at_update(update, stop_here())
        with pytest.raises(Stopped):
            train_here(tmp_path / "stopped", *settings)
    at_update(0, die)
    assert Run(tmp_path / "stopped").status(train_here.config(*settings)) is Status.unfinished
    assert_same(train_here(tmp_path / "stopped", *settings), whole)


@pytest.mark.parametrize(("checkpoint_every", "dies_at"), [(3, 8), (3, 12), ("null", 5)])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    checkpoint_every, dies_at, finished, train_here, tmp_path, at_update
):
    setting = f"trainer.checkpoint_every={checkpoint_every}"
    at_update(dies_at, die)
    with pytest.raises(Killed):
        train_here(tmp_path / "run", setting)
    at_update(0, die)
    assert entries(Run(tmp_path / "run")) != entries(finished)
    assert_same(train_here(tmp_path / "run", setting), finished)


@pytest.mark.parametrize("moment", ["before the rename", "best alone is written"])
def test_a_run_killed_while_it_saves_goes_on(moment, finished, train_here, tmp_path, monkeypatch):
    replace_file, times = os.replace, []

    def dying(source, target):
        name = os.path.basename(target)
        times.append(name)
        if moment == "before the rename" and times.count("last.safetensors") == 3:
            shutil.copy(
                source, os.path.join(os.path.dirname(target), ".last.safetensors.1.tmp")
            )  # as a kill leaves it
            raise Killed
        replace_file(source, target)
        if (
            moment == "best alone is written"
            and times.count("best.safetensors") == 1
            and name == "best.safetensors"
        ):
            raise Killed

    monkeypatch.setattr(checkpoint.os, "replace", dying)
    with pytest.raises(Killed):
        train_here(tmp_path / "run", "trainer.checkpoint_every=3")
    monkeypatch.undo()
    run = train_here(tmp_path / "run", "trainer.checkpoint_every=3")
    assert_same(run, finished)
    assert not list(run.folder.rglob("*.tmp"))


def test_more_epochs_for_a_finished_run(train_here, tmp_path, at_update):
    settings = ["optimizer.schedule=constant", "trainer.best_metric=loss"]
    whole = train_here(tmp_path / "whole", *settings, "trainer.max_epochs=3")
    run = train_here(tmp_path / "run", *settings)
    config = run.config()
    longer = replace(config, resume=str(run.folder), trainer=replace(config.trainer, max_epochs=3))
    at_update(3, stop_here())
    with pytest.raises(Stopped):
        train(longer, run)
    assert run.results() is None  # of the shorter training: this one has not finished
    at_update(0, die)
    train(replace(run.config(), resume=str(run.folder)), run)
    assert {k: v for k, v in run.results().items() if k not in TIMES} == without_times(
        whole.results()
    )
    assert entries(run) == entries(whole)
    assert torch.equal(
        tensors(run, "best")["model.output.weight"], tensors(whole, "best")["model.output.weight"]
    )
    assert run.config().trainer.max_epochs == 3


def test_other_text_is_not_gone_on_with(copied, tmp_path):
    config = copied.config()
    source = tmp_path / "other.source"
    with open(config.data.train.source, encoding="utf-8") as file:
        source.write_text("".join([*file.readlines()[:-1], "do do\n"]), encoding="utf-8")
    copied.results_file.unlink()
    config.data.train.source = str(source)
    copied.save_config(config)
    before = snapshot(copied.folder)
    with pytest.raises(RunError, match=r"last\.safetensors: trained on other text"):
        train(config, copied)
    assert snapshot(copied.folder) == before


# -- a run's folder ---


def test_a_finished_run_holds_what_is_promised(finished):
    names = {
        str(path.relative_to(finished.folder))
        for path in finished.folder.rglob("*")
        if path.is_file()
    }
    events = [name for name in names if name.startswith("events.out.tfevents.")]
    assert len(events) == 1
    assert names - {*events, ".lock"} == {
        "config.yaml",
        "tokenizer.model",
        "tokenizer.vocab",
        "tokenizer.json",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "metrics.jsonl",
        "translations/valid.txt",
        "translations/test.txt",
        "translations/test.source.txt",
        "translations/test.reference.txt",
        "translations/examples.json",
        "results.json",
    }
    lines = {
        split: (finished.translations / f"{split}.txt").read_text(encoding="utf-8")
        for split in ("valid", "test")
    }
    assert {split: text.count("\n") for split, text in lines.items()} == {"valid": 24, "test": 12}


def test_tensorboard_has_what_metrics_have(finished):
    found = curves(finished)
    logged = read_metrics(finished.metrics_file)
    for kind in ("train", "valid"):
        expected = [
            (e["update"], pytest.approx(e["loss"], rel=1e-5)) for e in logged if e["kind"] == kind
        ]
        assert found[f"{kind}/loss"] == expected
    assert found["final/bleu"] == [
        (16, pytest.approx(finished.results()["test"]["bleu"], rel=1e-5))
    ]
    assert {
        "train/lr",
        "gradient_norm/all",
        "valid/bleu",
        "valid/chrf",
        "valid/perplexity",
    } <= found.keys()
    events = EventAccumulator(str(finished.folder)).Reload().Tags()
    assert events["images"] == ["attention"]
    assert events["tensors"] == ["custom_scalars__config__", "translations/text_summary"]


def test_a_copied_run_translates_and_goes_on(copied):
    model, _ = load_translator(copied, torch.device("cpu"))
    expected = tensors(copied, "best")
    assert all(
        torch.equal(value, expected["model." + name]) for name, value in model.state_dict().items()
    )
    config = copied.config()
    longer = replace(
        config, resume=str(copied.folder), trainer=replace(config.trainer, max_epochs=3)
    )
    assert train(longer, copied)["update"] == 24


def test_status(copied, tmp_path):
    config = copied.config()
    assert Run(tmp_path / "nothing").status(config) is Status.new
    assert copied.status(config) is Status.finished
    assert copied.status(replace(config, overwrite=True, seed=9)) is Status.replaced
    longer = replace(config, trainer=replace(config.trainer, max_epochs=3))
    with pytest.raises(
        RunError, match=r"another configuration \(trainer.max_epochs=2 there, 3 now\)"
    ):
        copied.status(longer)
    assert copied.status(replace(longer, resume="here")) is Status.unfinished
    with pytest.raises(RunError, match=r"\(seed=1 there, 9 now, and more\)"):
        copied.status(replace(longer, resume="here", seed=9))
    copied.results_file.unlink()
    assert copied.status(config) is Status.unfinished


def test_settings_that_change_no_result_are_no_other_configuration(finished):
    config = finished.config()
    for key, value in (("threads", 7), ("progress", True)):
        assert (
            finished.status(replace(config, trainer=replace(config.trainer, **{key: value})))
            is Status.finished
        )
    assert (
        finished.status(replace(config, data=replace(config.data, mirror="there")))
        is Status.finished
    )
    assert differences(config, replace(config, seed=2)) == {"seed": (1, 2)}


def test_a_finished_run_is_not_touched(copied, capsys):
    before, results = snapshot(copied.folder), copied.results()
    assert train(copied.config(), copied) == results
    assert snapshot(copied.folder) == before
    assert (
        f"finished already (overwrite=true trains it again): {copied.folder}: valid BLEU"
        in capsys.readouterr().out
    )


def test_another_configuration_touches_nothing(copied):
    before = snapshot(copied.folder)
    with pytest.raises(RunError, match=r"cell\.kind=lstm there, gru now"):
        train(replace(copied.config(), cell=CellConfig(CellKind.gru)), copied)
    assert snapshot(copied.folder) == before


def test_overwriting_starts_anew(copied, at_update):
    (copied.folder / "notes.txt").write_text("mine")
    (copied.checkpoints / "update-000000003.safetensors").write_text("of the run before")
    config = replace(copied.config(), seed=2, overwrite=True)
    at_update(3, stop_here())
    with pytest.raises(Stopped):
        train(config, copied)
    assert (copied.folder / "notes.txt").read_text() == "mine"
    assert not list(copied.checkpoints.glob("update-*"))
    assert max(e["update"] for e in entries(copied)) == 2
    assert copied.config() == replace(
        config, overwrite=False
    )  # or going on with it would overwrite it


def test_overwriting_waits_for_readable_text(copied):
    before, config = snapshot(copied.folder), copied.config()
    config.data.train.source, config.overwrite = "missing.txt", True
    with pytest.raises(ValueError, match=r"missing\.txt: no such file"):
        train(config, copied)
    assert snapshot(copied.folder) == before


def test_overwriting_takes_no_folder_for_a_run_that_is_none(train_here, tmp_path):
    (tmp_path / "translations").mkdir()
    (tmp_path / "translations" / "mine.txt").write_text("mine")
    train_here(tmp_path, "overwrite=true", "trainer.max_updates=1")
    assert (tmp_path / "translations" / "mine.txt").read_text() == "mine"


def test_only_one_process_trains_in_a_folder(copied):
    before = snapshot(copied.folder)
    with copied.locked(), pytest.raises(RunError, match="another process is training here"):
        train(replace(copied.config(), overwrite=True), Run(copied.folder))
    assert snapshot(copied.folder) == before


# -- damage ---


def test_a_damaged_last_checkpoint_is_named_and_nothing_else_lost(copied):
    longer = replace(copied.config(), resume="here")
    longer.trainer.max_epochs = 3
    last = copied.checkpoint("last")
    last.write_bytes(last.read_bytes()[:-100])
    before = snapshot(copied.folder)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: damaged or truncated"):
        train(longer, copied)
    assert snapshot(copied.folder) == before


def test_a_checkpoint_that_holds_no_training_is_named(copied):
    longer = replace(copied.config(), resume="here")
    longer.trainer.max_epochs = 3
    shutil.copy(copied.checkpoint("best"), copied.checkpoint("last"))
    with pytest.raises(
        CheckpointError, match=r"last\.safetensors: not a checkpoint .* resume from .*random\.cpu"
    ):
        train(longer, copied)


def test_a_checkpoint_of_another_architecture_is_named(copied):
    copied.save_config(replace(copied.config(), cell=CellConfig(CellKind.gru)))
    with pytest.raises(
        CheckpointError, match=r"best\.safetensors: a checkpoint of another architecture: .*bridge"
    ):
        load_translator(copied, torch.device("cpu"))


def test_a_damaged_configuration_is_named(copied):
    for text in ("seed: [", "seed: many\n", "unheard_of: 1\n", "- 1\n"):
        copied.config_file.write_text(text)
        with pytest.raises(RunError, match=r"config\.yaml: not a configuration"):
            copied.config()
    copied.results_file.write_text("{")
    with pytest.raises(RunError, match=r"results\.json: damaged"):
        copied.results()
    with pytest.raises(RunError, match="nowhere: no such run"):
        Run.open("nowhere")


class Bomb:
    """Goes off where it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("went off",))


def test_loading_executes_nothing(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickle, "Unpickler", None)
    monkeypatch.setattr(torch, "load", None)
    train(
        replace(
            copied.config(), resume="here", trainer=replace(copied.config().trainer, max_epochs=3)
        ),
        copied,
    )
    load_translator(copied, torch.device("cpu"))
    for file in copied.folder.rglob("*"):
        if file.is_file():
            assert file.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")
    copied.checkpoint("best").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError):
        load_translator(copied, torch.device("cpu"))
    copied.config_file.write_text("experiment: !!python/object/apply:os.mkdir ['went off']\n")
    with pytest.raises(RunError):
        copied.config()
    assert not (tmp_path / "went off").exists()
