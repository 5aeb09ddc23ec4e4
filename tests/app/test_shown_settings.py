"""`--cfg job`: the settings that a command would use, checked and printed."""

from pathlib import Path

from conftest import TrainCommand
from omegaconf import OmegaConf

from seq2seq.runs.folder import Run


def test_settings_are_those_of_the_run(train_command: TrainCommand, tmp_path: Path) -> None:
    done = train_command("norm=batch", "optimizer.lr=0.004", "--cfg", "job")
    assert (done.code, done.err) == (0, "")
    shown = OmegaConf.create(done.out)
    assert (shown.norm.kind, shown.optimizer.lr) == ("batch", 0.004)
    assert not list(tmp_path.iterdir())


def test_references_are_followed_on_request(train_command: TrainCommand) -> None:
    settings = ["data=multi30k_de_en", "--cfg", "job"]
    assert "vocab_size: ${" in train_command(*settings).out
    assert "vocab_size: 8000" in train_command(*settings, "--resolve").out


def test_what_the_command_refuses_is_refused(train_command: TrainCommand) -> None:
    done = train_command("norm=layer", "norm.momentum=0.2", "--cfg", "job")
    assert (done.code, done.out) == (2, "")
    assert "norm.momentum=0.2: means nothing to norm.kind=layer" in done.err


def test_the_architecture_is_that_of_init_from(
    finished: Run, train_command: TrainCommand, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a b\n", encoding="utf-8")
    text = ["data=files", "data.train.source=text", "data.train.target=text"]
    done = train_command(f"init_from={finished.folder}", *text, "--cfg", "job")
    assert done.code == 0, done.err
    shown, theirs = OmegaConf.create(done.out), finished.config()
    assert shown.model.hidden_size == theirs.model.hidden_size != 512
    assert shown.norm.kind == theirs.norm.kind.value


def test_a_run_to_resume_has_its_own_file(finished: Run, train_command: TrainCommand) -> None:
    done = train_command(f"resume={finished.folder}", "--cfg", "job")
    assert done.code == 2
    assert done.err.rstrip().endswith(f"are in {finished.folder}/config.yaml")


def test_a_part_of_the_settings_is_left_to_hydra(train_command: TrainCommand) -> None:
    done = train_command("norm=rms", "--cfg", "job", "--package", "norm")
    assert (done.code, "kind: rms" in done.out, "optimizer" in done.out) == (0, True, False)


def test_a_sweep_has_no_settings_of_its_own(train_command: TrainCommand) -> None:
    done = train_command("norm=rms,none", "-m", "--cfg", "job")
    assert done.code == 2
    assert "-m and --cfg: expected one of them" in done.err
