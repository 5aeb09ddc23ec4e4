"""The commands that a report tells train the runs that it compares, these and no others."""

import shlex
from itertools import product

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from synthetic import record

from seq2seq.app import composition
from seq2seq.config import CellKind
from seq2seq.config.settings import CONFIGS
from seq2seq.runs.commands import training_commands
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.records import read_runs


@pytest.fixture
def started(tmp_path):
    """A run that was started with these overrides, or that has kept none."""

    def make(*overrides, kept=True, **settings):
        run = record(**settings)
        run.run = Run(tmp_path / str(len(list(tmp_path.iterdir()))), overrides if kept else None)
        run.run.folder.mkdir()
        run.run.save_config(run.config)
        return run

    return make


def jobs(command):
    """What each job of a command is started with."""
    words = [word.partition("=") for word in shlex.split(command)[2:] if word != "-m"]
    return [
        frozenset(f"{key}={value}" for (key, _, _), value in zip(words, values, strict=True))
        for values in product(*(values.split(",") for _, _, values in words))
    ]


def test_a_sweep_is_told_as_one_command(started):
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


def test_what_was_changed_by_hand_is_told_for_the_shell(started):
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


def test_no_other_jobs_are_told_than_those_there_were(started):
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
    told = [job for command in commands for job in jobs(command)]
    assert len(told) == len(known)
    assert set(told) == {frozenset(overrides) for overrides in known}


def swept(command):
    """How many jobs Hydra makes of a command of train.py."""
    words = shlex.split(command)[2:]
    assert words.pop(0) == "-m"
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        cfg = hydra.compose_config("train", words, RunMode.MULTIRUN, with_log_configuration=False)
    params = [f"{key}={value}" for key, value in (cfg.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides(params + list(cfg.hydra.overrides.task))
    return sum(map(len, BasicSweeper.split_arguments(parsed, None)))


def test_an_experiments_own_sweep_is_not_switched_on_by_two_of_its_runs(started):
    (command,) = training_commands(
        [started("experiment=length", f"seed={seed}") for seed in (1, 2)]
    )
    assert command == "python train.py -m experiment=length seed=1,2 hydra.sweeper.params=null"
    assert swept(command) == 2


def test_an_experiments_sweep_is_told_and_made_whole(started):
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


def test_an_empty_value_stands_between_no_commas(started):
    runs = [
        started("seed=1", "data.mirror="),
        started("seed=1", "data.mirror=a"),
        started("seed=1", "data.mirror=b"),
    ]
    assert training_commands(runs) == [
        "python train.py seed=1 data.mirror=",
        "python train.py -m seed=1 data.mirror=a,b",
    ]


def test_runs_that_have_kept_nothing_are_told_by_their_experiment_and_counted(started):
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


def test_what_is_damaged_is_named(started):
    run = started("seed=1")
    run.run.overrides_file.write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match=r"overrides\.yaml: damaged"):
        training_commands([run])


def test_the_command_that_is_told_finds_the_runs_of_a_sweep_finished(train_command, toy, tmp_path):
    """Their folders hold what it would make."""
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


def test_the_command_of_a_run_that_was_made_longer_is_that_of_the_longer_run(
    train_command, toy, tmp_path
):
    folder = tmp_path / "run"
    assert train_command(*toy, f"hydra.run.dir={folder}", "trainer.max_updates=2").code == 0
    assert train_command(f"resume={folder}", "trainer.max_updates=3").code == 0
    (command,) = training_commands(read_runs([str(folder)])[0])
    assert "trainer.max_updates=3" in command
    assert "resume" not in command
    assert "max_updates=2" not in command
    again = train_command(*shlex.split(command)[2:], f"hydra.run.dir={folder}")
    assert "finished already" in again.out
