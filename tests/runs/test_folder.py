"""A run's folder: its files, its status, and damage to it."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TrainHere, final_results
from fixture_types import AtUpdate
from run_comparison import curves, entries, results, snapshot, stop_here, tensors
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seq2seq.config import CellConfig, CellKind, Config, Schedule, TokenizerConfig, TokenizerKind
from seq2seq.config.settings import differences
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.errors import Stopped
from seq2seq.files import replacing
from seq2seq.runs.checkpoint import CheckpointError
from seq2seq.runs.folder import TOKENIZER_FILES, Run, RunError, Status
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training.loop import train
from seq2seq.translation.loading import load_translator

pytest_plugins = ["update_fixtures"]


# -- a run's folder ---


def test_a_finished_run_has_the_promised_files(finished: Run) -> None:
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
        "checkpoints/previous.safetensors",
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


def test_tensorboard_has_the_values_of_metrics_jsonl(finished: Run) -> None:
    found: dict[str, Any] = dict(curves(finished))
    logged = read_metrics(finished.metrics_file)
    for kind in ("train", "valid"):
        expected: list[tuple[int, Any]] = [
            (e["update"], pytest.approx(e["loss"], rel=1e-5)) for e in logged if e["kind"] == kind
        ]
        assert found[f"{kind}/loss"] == expected
    assert found["final/bleu"] == [(16, pytest.approx(results(finished)["test"]["bleu"], rel=1e-5))]
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


def with_constant_rate(run: Run) -> Config:
    """Let a finished run have been trained at a constant rate; its settings.

    A cosine that has ended is not resumed with a later end.
    """
    config = run.config()
    config = replace(config, optimizer=replace(config.optimizer, schedule=Schedule.constant))
    run.save_config(config)
    return config


def test_a_copied_run_translates_and_resumes(copied: Run) -> None:
    model, _ = load_translator(copied, torch.device("cpu"))
    expected = tensors(copied, "best")
    assert all(
        torch.equal(value, expected["model." + name]) for name, value in model.state_dict().items()
    )
    config = with_constant_rate(copied)
    longer = replace(
        config, resume=str(copied.folder), trainer=replace(config.trainer, max_epochs=3)
    )
    assert train(longer, copied)["update"] == 24


def test_a_run_that_can_be_resumed_has_its_overrides(
    tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run", ["norm=none"])

    def killed(*_: object) -> None:
        raise Stopped("killed", 137)

    monkeypatch.setattr("seq2seq.runs.folder.write_config", killed)
    with pytest.raises(Stopped):
        run.save_config(finished.config())
    assert [path.name for path in run.folder.iterdir()] == ["overrides.yaml"]
    assert run.status(finished.config()) is Status.new


def test_the_status_of_a_run_depends_on_its_files_and_configuration(
    copied: Run, tmp_path: Path
) -> None:
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
    endless = replace(config, trainer=replace(config.trainer, max_updates=9))
    with pytest.raises(RunError, match=r"\(trainer.max_updates=null there, 9 now\)"):
        copied.status(endless)
    copied.results_file.unlink()
    assert copied.status(config) is Status.unfinished


def test_a_run_whose_files_cannot_be_read_is_not_a_new_one(copied: Run) -> None:
    """Else a training would write over it: a link in a circle is not the same as no file."""
    config = copied.config()
    for file in (copied.results_file, copied.failure_file, copied.config_file):
        file.unlink(missing_ok=True)
        file.symlink_to(file.name)
    assert copied.state() == "finished"
    copied.results_file.unlink()
    with pytest.raises(ValueError, match=r"failure\.txt: a pipe, a device or a link in a circle"):
        copied.state()
    with pytest.raises(ValueError, match=r"config\.yaml: a pipe"), copied.beginning():
        copied.status(config)
    assert copied.failure_file.is_symlink()


def test_settings_without_effect_on_results_are_the_same_configuration(finished: Run) -> None:
    config = finished.config()
    changes: list[dict[str, Any]] = [{"threads": 7}, {"progress": True}]
    for change in changes:
        assert (
            finished.status(replace(config, trainer=replace(config.trainer, **change)))
            is Status.finished
        )
    assert (
        finished.status(replace(config, data=replace(config.data, mirror="there")))
        is Status.finished
    )
    assert differences(config, replace(config, seed=2)) == {"seed": (1, 2)}


def test_training_a_finished_run_changes_no_file(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    before, results = snapshot(copied.folder), final_results(copied)
    assert train(copied.config(), copied) == results
    assert snapshot(copied.folder) == before
    assert (
        f"finished already (overwrite=true trains it again): {copied.folder}: valid BLEU"
        in capsys.readouterr().out
    )


def test_a_finished_run_of_an_older_version_is_finished(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results have no update of the best validation."""
    content = final_results(copied)
    del content["best_update"]
    copied.results_file.write_text(json.dumps(content))
    assert train(copied.config(), copied) == content | {"best_update": None}
    assert "best at update ? of 16" in capsys.readouterr().out


def test_another_configuration_changes_no_file(copied: Run) -> None:
    before = snapshot(copied.folder)
    with pytest.raises(RunError, match=r"cell\.kind=lstm there, gru now"):
        train(replace(copied.config(), cell=CellConfig(CellKind.gru)), copied)
    assert snapshot(copied.folder) == before


def test_overwriting_starts_again(copied: Run, at_update: AtUpdate) -> None:
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
    )  # otherwise resuming would overwrite the run again


def test_overwriting_removes_the_shortlist_of_other_text(copied: Run) -> None:
    copied.shortlist_file.touch()
    (copied.folder / "notes.txt").touch()
    copied.clear()
    assert not copied.shortlist_file.exists()
    assert (copied.folder / "notes.txt").exists()


def test_overwriting_starts_again_where_checkpoints_are_on_another_disk(
    copied: Run, tmp_path: Path, at_update: AtUpdate
) -> None:
    copied.checkpoints.rename(tmp_path / "disk")
    copied.checkpoints.symlink_to(tmp_path / "disk")
    at_update(1, stop_here())
    with pytest.raises(Stopped):
        train(replace(copied.config(), seed=2, overwrite=True), copied)
    assert max((e["update"] for e in entries(copied)), default=0) == 0
    assert copied.checkpoints.is_symlink()


def test_what_cannot_be_removed_is_no_silence(copied: Run) -> None:
    (copied.checkpoints / "mine").mkdir()
    with pytest.raises(OSError, match="mine"):
        copied.clear()


def test_overwriting_removes_files_of_the_run_alone(copied: Run) -> None:
    mine = {"tokenizer_notes.txt", "my.vocab", "tokenizer.model.orig", "speed.json.txt"}
    for name in mine.union(TOKENIZER_FILES):
        (copied.folder / name).write_text("text")
    for path in (copied.origin_file, copied.failure_file, copied.shortlist_file, copied.speed_file):
        path.write_text("of the run")
    copied.clear()
    assert {path.name for path in copied.folder.iterdir()} - {".lock"} == mine


def test_each_file_of_tokenizers_belongs_to_a_run(tmp_path: Path) -> None:
    for joint in (True, False):
        config = TokenizerConfig(TokenizerKind.char, joint=joint)
        Tokenizers.train((["a b"], ["c d"]), config, ("en", "en")).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(TOKENIZER_FILES)


def test_overwriting_deletes_nothing_if_the_text_is_unreadable(copied: Run) -> None:
    before, config = snapshot(copied.folder), copied.config()
    config.data.train.source, config.overwrite = "missing.txt", True
    with pytest.raises(ValueError, match=r"missing\.txt: no such file"):
        train(config, copied)
    assert snapshot(copied.folder) == before


def test_overwriting_keeps_files_of_a_folder_without_a_run(
    train_here: TrainHere, tmp_path: Path
) -> None:
    (tmp_path / "translations").mkdir()
    (tmp_path / "translations" / "mine.txt").write_text("mine")
    train_here(tmp_path, "overwrite=true", "trainer.max_updates=1")
    assert (tmp_path / "translations" / "mine.txt").read_text() == "mine"


def test_only_one_process_trains_in_a_folder(copied: Run) -> None:
    before = snapshot(copied.folder)
    with copied.locked(), pytest.raises(RunError, match="another process is training here"):
        train(replace(copied.config(), overwrite=True), Run(copied.folder))
    assert snapshot(copied.folder) == before


# -- damage ---


def test_a_damaged_last_checkpoint_is_named_and_no_file_is_changed(copied: Run) -> None:
    longer = replace(copied.config(), resume="here")
    longer.trainer.max_epochs = 3
    last = copied.checkpoint("last")
    last.write_bytes(last.read_bytes()[:-100])
    copied.checkpoint("previous").unlink()
    before = snapshot(copied.folder)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: damaged or truncated"):
        train(longer, copied)
    assert snapshot(copied.folder) == before


def test_a_checkpoint_without_training_state_is_named(copied: Run) -> None:
    longer = replace(copied.config(), resume="here")
    longer.trainer.max_epochs = 3
    shutil.copy(copied.checkpoint("best"), copied.checkpoint("last"))
    copied.checkpoint("previous").unlink()
    with pytest.raises(
        CheckpointError, match=r"last\.safetensors: not a checkpoint .* resume from .*random\.cpu"
    ):
        train(longer, copied)


def test_a_checkpoint_of_another_architecture_is_named(copied: Run) -> None:
    copied.save_config(replace(copied.config(), cell=CellConfig(CellKind.gru)))
    with pytest.raises(
        CheckpointError, match=r"best\.safetensors: a checkpoint of another architecture: .*bridge"
    ):
        load_translator(copied, torch.device("cpu"))


def test_a_damaged_configuration_is_named(copied: Run) -> None:
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
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("went off",))


def test_loading_executes_no_code(
    copied: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pickle, "Unpickler", None)
    monkeypatch.setattr(torch, "load", None)
    config = with_constant_rate(copied)
    longer = replace(config.trainer, max_epochs=3)
    train(replace(config, resume="here", trainer=longer), copied)
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


def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """safetensors writes under names of its own."""
    run = Run(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    kept = [run.checkpoint("last"), run.checkpoints / ".tmpfile-of-the-user"]
    for file in (*kept, run.checkpoints / ".tmp5Ytwrd", run.folder / ".config.yaml.vm.7.tmp"):
        file.touch()
    with run.locked():
        assert sorted(run.checkpoints.iterdir()) == sorted(kept)
        assert [path.name for path in run.folder.glob(".*")] == [".lock"]


def test_files_of_living_processes_are_kept(tmp_path: Path) -> None:
    """A translation may write a shortlist while a training starts, on this machine or another."""
    run = Run(tmp_path / "run")
    elsewhere = run.folder / ".shortlist.npz.elsewhere.7.tmp"
    mine = [run.folder / name for name in (".notes.tmp", ".tmp_notes")]
    with replacing(run.shortlist_file) as temporary:
        temporary.write_bytes(b"whole")
        for file in (elsewhere, *mine):
            file.touch()
        with run.locked():
            pass
    assert run.shortlist_file.read_bytes() == b"whole"
    assert elsewhere.exists()
    assert all(file.exists() for file in mine)
