"""train.py -m: several jobs, in series and in parallel."""

import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import ROOT, TrainCommand
from fixture_types import AtUpdate, StartProcess
from hydra.plugins.launcher import Launcher
from runs import Script
from train_output import SHORT, assert_one_line, folders, snapshot

from hydra_plugins import seq2seq as sweeper

pytest_plugins = ["run_fixtures", "process_fixtures", "update_fixtures"]


# -- sweeps ---


def test_a_sweep_trains_the_same_runs_as_single_commands(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
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


def test_a_failed_job_does_not_stop_the_others(
    train_command: TrainCommand, toy: list[str], tmp_path: Path, script: Script
) -> None:
    done = train_command("-m", *toy, *SHORT, "model.hidden_size=47,48", "seed=1,2")
    assert done.code == 2
    lines = done.err.splitlines()
    assert "Error executing" not in done.err  # Hydra's own line
    for line, seed in zip(lines[:-1], (1, 2, 1, 2), strict=True):  # at once, and at the end
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
    assert lines[-1].startswith("train.py: model.hidden_size=47")
    assert len(list(tmp_path.rglob("results.json"))) == 2


DIVERGES = [
    "optimizer=sgd",
    "optimizer.weight_decay=10",
    "optimizer.clip_norm=0",
    "optimizer.warmup_updates=0",
    "trainer.max_skipped=0",
]
"""With a learning rate of 1000."""


def test_a_job_that_diverged_is_no_failure_of_the_sweep(
    train_command: TrainCommand, toy: list[str], script: Script, tmp_path: Path
) -> None:
    done = train_command("-m", *toy, *DIVERGES, "optimizer.lr=1000,0.01")
    assert done.code == 0
    assert "sweep: 2 of 2 jobs done, 0 failed, 1 diverged\n" in done.out
    lines = done.err.splitlines()  # at once, and at the end
    assert len(lines) == 2
    assert all(line.startswith("diverged: ") and "not finite, 1 in a row" in line for line in lines)
    compared = script("compare")(*tmp_path.glob("outputs/*/*"), "--out", tmp_path / "out")
    assert "left out: failed: diverged: update" in compared.out


def test_cases_of_a_sweep_are_trained_apart(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    """A setting of the command line replaces that of every case; equal jobs run once."""
    cases = "hydra.sweeper.cases=['', 'model.init_scale=0.2,0.3', 'model.word_dropout=0.1']"
    done = train_command("-m", *toy, *SHORT, "norm=none", cases)
    assert done.code == 0
    assert "sweep: 4 of 4 jobs done, 0 failed\n" in done.out
    again = train_command("-m", *toy, *SHORT, "norm=none", "model.init_scale=0.2", cases)
    assert "sweep: 2 of 2 jobs done, 0 failed\n" in again.out
    assert len(list(tmp_path.rglob("results.json"))) == 5


def test_a_stopped_job_stops_the_sweep(
    train_command: TrainCommand, toy: list[str], tmp_path: Path, at_update: AtUpdate
) -> None:
    at_update(
        18, lambda: os.kill(os.getpid(), signal.SIGINT)
    )  # the second update of the second job
    done = train_command("-m", *toy, "norm=none,layer,rms")
    assert_one_line(done, 130, "SIGINT: saved at update 2")
    assert [name[:5] for name in folders(tmp_path)] == ["layer", "none-"]
    assert (
        "\nsweep stopped: 1 of 3 jobs done, 0 failed, 1 unfinished, 1 not begun\nunfinished: "
        in done.out
    )
    unfinished = done.out.splitlines()[-1]
    assert "norm=layer" in unfinished


def test_results_of_an_earlier_sweep_are_not_counted(
    train_command: TrainCommand, toy: list[str], tmp_path: Path, at_update: AtUpdate
) -> None:
    train_command("-m", *toy, *SHORT, "norm=none,layer")
    at_update(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    done = train_command("-m", *toy, *SHORT, "norm=none,layer", "overwrite=true")
    assert done.code == 130
    assert "\nsweep stopped: 0 of 2 jobs done, 0 failed, 1 unfinished, 1 not begun\n" in done.out


def test_a_launcher_that_fails_still_gives_a_summary(
    train_command: TrainCommand, toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitit's launcher does so if the cluster kills a job: it raises and returns no results."""

    class GivesUp:
        def __init__(self, launcher: Any) -> None:
            self.launcher = launcher

        def launch(self, jobs: Any, number: int) -> Any:
            self.launcher.launch(jobs[:2], number)
            raise RuntimeError("a job was killed")

    recorder = sweeper.Recorder
    monkeypatch.setattr(
        sweeper, "Recorder", lambda launcher: recorder(cast(Launcher, GivesUp(launcher)))
    )
    done = train_command("-m", *toy, *SHORT, "model.hidden_size=47,48,52")
    assert done.code == 1
    assert "\nsweep stopped: 1 of 3 jobs done, 1 failed, 0 unfinished, 1 not begun\n" in done.out
    again = [line for line in done.err.splitlines() if line.startswith("failed: ")][-1]
    assert "model.hidden_size=47: model.hidden_size=47: expected an even number" in again
    assert done.err.splitlines()[-1] == "train.py: a job was killed"


def test_batches_of_jobs_after_a_failure_are_trained(
    train_command: TrainCommand, toy: list[str]
) -> None:
    done = train_command(
        "-m", *toy, *SHORT, "model.hidden_size=47,48,52", "hydra.sweeper.max_batch_size=1"
    )
    assert done.code == 2
    assert "sweep: 2 of 3 jobs done, 1 failed\n" in done.out
    assert done.err.splitlines()[-1].startswith("train.py: model.hidden_size=47: expected an even")


def test_a_sweep_that_cannot_be_composed_has_no_summary(
    train_command: TrainCommand, toy: list[str]
) -> None:
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
def test_parallel_jobs_are_trained_and_summed_up(
    launcher: str, process: StartProcess, tmp_path: Path
) -> None:
    """A failed job is listed at the end, the others are trained, and a second sweep skips them."""
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
