"""hydra/sweeper=tune: Optuna draws settings, trials are shown, and a second search goes on."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import TrainCommand
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from train_output import SHORT, folders, snapshot

from hydra_plugins.seq2seq.tuning import Trial, Trials, summary
from seq2seq.app import composition
from seq2seq.app.explanations import explained
from seq2seq.app.train import objective
from seq2seq.config import Metric

pytest_plugins = ["run_fixtures"]
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="the extra [tune] is not installed",
)
TUNE = [
    "-m",
    "hydra/sweeper=tune",
    "hydra.sweeper.n_trials=3",
    "hydra.sweeper.n_jobs=1",
    "tokenizer.bpe_dropout=0.0",  # the toy corpus has words
]


@needs_optuna
def test_a_search_shows_its_trials_and_goes_on_where_it_was(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    done = train_command(*TUNE, *toy, *SHORT)
    assert done.code == 0
    trials = re.findall(r"^trial (\d): (\S+)  (.*)$", done.out, re.M)
    assert [number for number, _, _ in trials] == ["0", "1", "2"]
    best = max(trials, key=lambda trial: float(trial[1]))
    assert f"tuning: 3 trials, 0 failed; the best scored {best[1]} on valid:\n" in done.out
    assert f"\n    python train.py {best[2]} tokenizer.bpe_dropout=0.0 data=files " in done.out
    assert all("data=files" not in settings for _, _, settings in trials)
    assert len({settings for _, _, settings in trials}) == 3
    assert all("model.word_dropout=" in settings for _, _, settings in trials)
    before = snapshot(tmp_path / "outputs" / "toy")
    again = train_command(*TUNE, *toy, *SHORT)
    assert again.out.count("finished already") == 3
    assert re.findall(r"^trial (\d): (\S+)  (.*)$", again.out, re.M) == trials
    assert snapshot(tmp_path / "outputs" / "toy") == before
    assert len(folders(tmp_path)) == 3


@needs_optuna
def test_a_space_on_the_command_line_replaces_a_part_of_it(
    train_command: TrainCommand, toy: list[str]
) -> None:
    one = [*TUNE, "hydra.sweeper.n_trials=1"]
    done = train_command(*one, *toy, *SHORT, "model.dropout=interval(0.61,0.62)")
    assert done.code == 0
    assert re.search(r"^trial 0: \S+  .*model\.dropout=0\.61\d+", done.out, re.M)


@needs_optuna
def test_a_failed_trial_does_not_end_the_search(
    train_command: TrainCommand, toy: list[str]
) -> None:
    together = [*TUNE, "hydra.sweeper.n_jobs=3"]
    done = train_command(*together, *toy, *SHORT, "model.hidden_size=choice(12,47)")
    assert done.code == 0
    failed = re.findall(r"^trial \d: failed  .*model\.hidden_size=47", done.out, re.M)
    assert len(failed) in (1, 2)
    assert f"tuning: 3 trials, {len(failed)} failed; the best scored" in done.out


@needs_optuna
def test_a_search_whose_first_trials_fail_ends(train_command: TrainCommand, toy: list[str]) -> None:
    done = train_command(*TUNE, *toy, *SHORT, "model.hidden_size=47")
    assert done.code == 2
    assert "model.hidden_size=47: expected an even number" in done.err
    assert done.out.endswith("tuning: 1 trial, 1 failed\n")


def test_the_objective_is_large_where_the_model_is_good() -> None:
    results = {"valid": {"bleu": 30.5}, "valid_loss": 2.0}
    assert objective(results, Metric.bleu) == 30.5
    assert objective(results, Metric.loss) == -2.0
    assert objective({}, Metric.bleu) is None  # a process that is not the main one


def test_the_best_trial_is_the_one_that_scored_most() -> None:
    trials = [Trial("a=1 c=2", "a=1", -3.0), Trial("a=2", "a=2", None), Trial("a=3", "a=3", -2.5)]
    assert summary(trials) == (
        "tuning: 3 trials, 1 failed; the best scored -2.5 on valid:\n    python train.py a=3"
    )
    assert summary(trials[1:2]) == "tuning: 1 trial, 1 failed"


def test_the_named_command_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/seq2seq-train"])
    assert summary([Trial("a=1", "a=1", 2.0)]).endswith("\n    seq2seq-train a=1")


@pytest.mark.parametrize(
    ("group", "choice", "plugin", "extra"),
    [
        ("sweeper", "tune", "optuna", "tune"),
        ("launcher", "ray_cores", "ray", "ray"),
        ("launcher", "slurm", "submitit_slurm", "slurm"),
    ],
)
def test_a_missing_plugin_names_its_extra(group: str, choice: str, plugin: str, extra: str) -> None:
    composition.register()
    error = ConfigCompositionException(
        f"In 'hydra/{group}/{choice}': Could not load 'hydra/{group}/{plugin}'.\nConfig search path:"
    )
    expected = f"hydra/{group}={choice}: it needs pip install 'seq2seq[{extra}]'"
    assert explained(error) == expected


def test_a_shell_reads_the_named_command_as_it_was_given() -> None:
    done = JobReturn(status=JobStatus.COMPLETED)
    done._return_value = 2.5
    given = ["data.root='my data'", "hydra.run.dir=out/${seed}"]
    said = summary([Trials(BasicLauncher(), set()).trial(given, done)])
    assert shlex.split(said.splitlines()[1])[2:] == given
