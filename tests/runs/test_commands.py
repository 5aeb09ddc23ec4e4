"""The commands in a report train exactly the runs that it compares."""

import shlex
from itertools import product
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import pytest
from conftest import TrainCommand
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from synthetic import record
from typed import present

from hydra_plugins.seq2seq import SweepWithSummary
from seq2seq.app import composition
from seq2seq.config import CellKind
from seq2seq.config.settings import CONFIGS
from seq2seq.runs.commands import training_commands
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.records import RunRecord, read_runs

PARSER = OverridesParser.create()


class Started(Protocol):
    """Make a run that was started with these overrides."""

    def __call__(self, *overrides: str, kept: bool = True, **settings: Any) -> RunRecord: ...


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """Return a function that makes a run with these stored overrides, or with none stored."""

    def make(*overrides: str, kept: bool = True, **settings: Any) -> RunRecord:
        run = record(**settings)
        run.run = Run(tmp_path / str(len(list(tmp_path.iterdir()))), overrides if kept else None)
        run.run.folder.mkdir()
        run.run.save_config(run.config)
        return run

    return make


def jobs(command: str) -> list[frozenset[str]]:
    """Return the overrides of each job of a command."""
    words = [word.partition("=") for word in shlex.split(command)[2:] if word != "-m"]
    return [
        frozenset(f"{key}={value}" for (key, _, _), value in zip(words, values, strict=True))
        for values in product(*(values.split(",") for _, _, values in words))
    ]


def test_a_sweep_is_one_command(started: Started) -> None:
    runs = [
        started(
            f"norm={norm}",
            f"optimizer.lr={lr}",
            "experiment=convergence",
            f"seed={seed}",
            "size=quick",
        )
        for norm in ("none", "layer")
        for lr in (0.02, 0.04)
        for seed in (1, 2, 3)
    ]
    assert training_commands(runs) == [
        "python train.py -m experiment=convergence size=quick norm=none,layer"
        " optimizer.lr=0.02,0.04 seed=1,2,3"
    ]


def test_overrides_are_quoted_for_the_shell(started: Started) -> None:
    run = started(
        "norm=layer",
        "cell=gru",
        "probe.kinds=[length,invariance]",
        "~data.test",
        "data.train.source='a b'",
    )
    (command,) = training_commands([run])
    assert command == (
        "python train.py norm=layer cell=gru 'probe.kinds=[length,invariance]' '~data.test' "
        """'data.train.source='"'"'a b'"'"''"""
    )


def test_the_commands_give_exactly_the_jobs_of_the_runs(started: Started) -> None:
    known = [
        ("norm=none", "seed=1"),
        ("norm=none", "seed=2"),
        ("norm=layer", "seed=1"),
        ("seed=1",),
        ("norm=layer", "seed=1", "cell=gru"),
        ("norm=layer", "seed=2", "cell=gru"),
        (),
    ]
    commands = training_commands([started(*overrides) for overrides in known])
    found = [job for command in commands for job in jobs(command)]
    assert len(found) == len(known)
    assert set(found) == {frozenset(overrides) for overrides in known}


def swept(command: str) -> int:
    """Return how many jobs a command of train.py starts."""
    return len(sweep_of(command))


def sweep_of(command: str) -> list[list[str]]:
    """Return the overrides of each job that a command of train.py starts."""
    words = shlex.split(command)[2:]
    assert words.pop(0) == "-m"
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        hydra = present(GlobalHydra.instance().hydra)
        cfg = hydra.compose_config("train", words, RunMode.MULTIRUN, with_log_configuration=False)
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    sweeper = object.__new__(SweepWithSummary)  # without Hydra's part of the state
    sweeper.cases = cfg.hydra.sweeper.cases or [""]
    given = list(cfg.hydra.overrides.task)
    with patch.object(SweepWithSummary, "parsed", lambda _, o: PARSER.parse_overrides(list(o))):
        sweeper.given = {o.get_key_element() for o in sweeper.parsed(given)}
        (batch,) = sweeper.split_arguments(sweeper.parsed(params + given), None)
    return batch


def test_two_runs_of_an_experiment_do_not_start_its_whole_sweep(started: Started) -> None:
    (command,) = training_commands(
        [started("experiment=length", f"seed={seed}") for seed in (10, 9)]
    )
    assert command == "python train.py -m experiment=length seed=9,10 hydra.sweeper.params=null"
    assert swept(command) == 2


def test_the_command_of_an_experiments_sweep_makes_all_its_jobs(started: Started) -> None:
    for sweep, count in (
        ("experiment=convergence size=quick norm=none,layer optimizer.lr=0.02,0.04 seed=1,2", 8),
        ("experiment=length,train_eval_gap", 2),
        ("experiment=convergence size=quick seed=1,2,3", 3),
    ):
        overrides = [
            [f"{head}={value}" for value in values.split(",")]
            for head, _, values in (word.partition("=") for word in sweep.split())
        ]
        (command,) = training_commands([started(*chosen) for chosen in product(*overrides)])
        assert ("params" in command) == (sweep.endswith("size=quick seed=1,2,3"))
        assert swept(command) == count


BATCH_NORM = ["experiment=batch_norm", "size=quick"]
ROBUSTNESS = ["experiment=robustness", "size=quick"]


@pytest.mark.parametrize(
    "settings",
    [
        [*BATCH_NORM, "norm=none,batch", "seed=1,2,3"],
        [*BATCH_NORM, "norm=batch", "norm.cell=output", "seed=1,2,3"],
        [*ROBUSTNESS, "norm=none,batch,layer,rms", "optimizer.lr=0.02", "seed=1,2,3"],
        ["experiment=robustness", "norm=none,batch", "optimizer.lr=0.02", "seed=1,2,3"],
    ],
)
def test_some_runs_of_an_experiment_do_not_start_its_other_cases(
    started: Started, settings: list[str]
) -> None:
    values = [
        [f"{head}={value}" for value in of_key.split(",")]
        for head, _, of_key in (setting.partition("=") for setting in settings)
    ]
    runs = [started(*chosen) for chosen in product(*values)]
    (command,) = training_commands(runs)
    assert command.endswith(" hydra.sweeper.cases=null")
    assert swept(command) == len(runs)


@pytest.mark.parametrize(
    ("sweep", "count"),
    [
        ("experiment=batch_norm size=quick seed=1,2", 24),
        ("experiment=batch_norm seed=1 trainer.device=cpu", 12),
        ("experiment=robustness size=quick norm=none,rms optimizer.lr=0.02 seed=1", 10),
    ],
)
def test_all_cases_of_an_experiment_are_one_short_command(
    started: Started, sweep: str, count: int
) -> None:
    made = sweep_of(f"python train.py -m {sweep}")
    assert len(made) == count
    (command,) = training_commands([started(*overrides) for overrides in made])
    assert command == f"python train.py -m {sweep}"
    commands = training_commands([started(*overrides) for overrides in made[1:]])
    assert all(" -m " not in c or c.endswith("hydra.sweeper.cases=null") for c in commands)
    many = [swept(command) if " -m " in command else 1 for command in commands]
    assert sum(many) == count - 1


def test_an_empty_value_is_not_part_of_a_sweep(started: Started) -> None:
    runs = [
        started("seed=1", "data.mirror="),
        started("seed=1", "data.mirror=a"),
        started("seed=1", "data.mirror=b"),
    ]
    assert training_commands(runs) == [
        "python train.py seed=1 data.mirror=",
        "python train.py -m seed=1 data.mirror=a,b",
    ]


def test_runs_without_stored_overrides_are_given_by_their_experiment_and_counted(
    started: Started,
) -> None:
    old = [
        started(kept=False, seed=seed, experiment=e, size=size)
        for e, size, seed in (
            ("length", "real", 1),
            ("length", "real", 2),
            ("mine", None, 1),
            (None, None, 1),
        )
    ]
    assert training_commands([started("seed=1"), *old]) == [
        "python train.py seed=1",
        "python train.py -m experiment=length size=real",
        "python train.py -m experiment=mine",
        (
            "# 4 of the runs have not stored what else they were started with; config.yaml in the"
            " folder of each has all its settings"
        ),
    ]


def test_damaged_overrides_are_named(started: Started) -> None:
    run = started("seed=1")
    run.run.overrides_file.write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match=r"overrides\.yaml: damaged"):
        training_commands([run])


def test_the_command_of_a_sweep_finds_its_runs_finished(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    """Their folders already have all results."""
    toy = [setting.replace("trainer.max_epochs=2", "trainer.max_epochs=1") for setting in toy]
    done = train_command(
        "-m", *toy, "norm=none,layer", "cell=gru", "trainer.max_updates=2", "overwrite=true"
    )
    assert done.code == 0, done.err
    runs, _ = read_runs(
        [str(folder) for folder in sorted((tmp_path / "outputs" / "toy").iterdir())]
    )
    assert [run.config.cell.kind for run in runs] == [CellKind.gru] * 2
    (command,) = training_commands(runs)
    assert "overwrite" not in command
    assert "cell=gru" in command
    again = train_command(*shlex.split(command)[2:])
    assert again.out.count("finished already") == 2


def test_the_command_of_an_extended_run_has_the_new_length(
    train_command: TrainCommand, toy: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = [*toy, f"hydra.run.dir={folder}", "optimizer.schedule=constant"]
    assert train_command(*settings, "trainer.max_updates=2").code == 0
    assert train_command(f"resume={folder}", "trainer.max_updates=3").code == 0
    (command,) = training_commands(read_runs([str(folder)])[0])
    assert "trainer.max_updates=3" in command
    assert "resume" not in command
    assert "max_updates=2" not in command
    again = train_command(*shlex.split(command)[2:], f"hydra.run.dir={folder}")
    assert "finished already" in again.out
