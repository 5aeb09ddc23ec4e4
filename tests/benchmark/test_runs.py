"""scripts/benchmark.py runs: the speeds of runs that were trained at different times."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Script, corpus, settings, trained

from seq2seq.app.composition import compose_here
from seq2seq.benchmark import runs
from seq2seq.benchmark.contestants import Contestant
from seq2seq.benchmark.runs import check_same, model_of, training_speeds_of
from seq2seq.benchmark.timing import Speed, Task
from seq2seq.benchmark.workload import Workload, workload
from seq2seq.config import SplitConfig
from seq2seq.runs.folder import Run
from seq2seq.runs.records import read_runs
from seq2seq.runs.speed import MeasuredSpeed

pytest_plugins = ["run_fixtures"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return runs without a norm, of two seeds, and one with layer norm."""
    out = tmp_path_factory.mktemp("runs")
    data = corpus(out / "corpus")
    found = []
    for norm, seed in (("none", 1), ("none", 2), ("layer", 1)):
        config = replace(settings(data, norm, 2), seed=seed)
        found.append(trained(out / f"{norm}{seed}", config))
    return found


def test_runs_of_one_model_are_measured_once(folders: list[Path]) -> None:
    (table,) = training_speeds_of([str(f) for f in folders], count=1, rounds=1).values()
    assert [speed.name for speed in table] == [str(folders[0]), str(folders[2])]
    speeds = [MeasuredSpeed.read(folder / "speed.json") for folder in folders]
    assert speeds[0] == speeds[1]
    assert [s.tokens_per_second for s in (speeds[0], speeds[2])] == [s.per_second for s in table]
    assert len({s.measurement for s in speeds}) == 1
    assert {(s.beside, s.rounds) for s in speeds} == {(2, 1)}
    records, _ = read_runs([str(folder) for folder in folders])
    assert [record.speed for record in records] == speeds
    tokens, losses = records[0].series("valid", "loss", "tokens")
    seconds, same = records[0].series("valid", "loss", "seconds side by side")
    assert seconds == pytest.approx([t / speeds[0].tokens_per_second for t in tokens])
    assert same == losses


def test_models_take_turns_with_updates_of_one_text(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each contestant makes `count` updates in the order of training; the unit is a token."""
    made: list[tuple[int, Contestant]] = []
    asked: list[tuple[int, int]] = []

    def updates(work: Workload, contestant: Contestant) -> tuple[Task, Task]:
        made.append((len(work.batches), contestant))
        return lambda: None, lambda: None

    def speeds(tasks: dict[str, object], units: int, rounds: int) -> list[Speed]:
        asked.append((units, rounds))
        return [Speed(name, 7.0, 1, 1, 1) for name in tasks]

    monkeypatch.setattr(runs, "updates", updates)
    monkeypatch.setattr(runs, "interleaved_speeds", speeds)
    training_speeds_of([str(folder) for folder in folders], count=2, rounds=3)
    assert [(number, c.norm, c.by_length) for number, c in made] == [
        (2, "none", False),
        (2, "layer", False),
    ]
    tokens = workload(Run(folders[0]).config(), 2, 0).tokens
    assert asked == [(tokens, 3)]
    assert {MeasuredSpeed.read(folder / "speed.json").rounds for folder in folders} == {3}


def test_the_command_shows_the_speeds(folders: list[Path], script: Script) -> None:
    done = script("benchmark")("runs", *folders, "--updates", "1", "--rounds", "1")
    assert (done.code, done.err) == (0, "")
    assert "training, 3 runs, 1 updates a turn" in done.out
    refused = script("benchmark")("runs", folders[0].parent / "nowhere")
    assert refused.code == 2
    assert "nowhere: no such run" in refused.err


def test_runs_of_different_text_are_refused(folders: list[Path]) -> None:
    config = Run(folders[0]).config()
    other = replace(config, data=replace(config.data, batch_sentences=3))
    with pytest.raises(
        ValueError, match=r"b: data\.batch_sentences=3, and \d+ in a; expected runs"
    ):
        check_same({"a": config, "b": other})
    assert model_of(config) == model_of(replace(config, seed=9))
    assert model_of(config) != model_of(replace(config, model=replace(config.model, dropout=0.5)))
    dropping = replace(config, model=replace(config.model, dropout=0.1))
    twice = replace(dropping, trainer=replace(config.trainer, r_drop=4))
    assert model_of(dropping) != model_of(twice)


@pytest.mark.parametrize("place", ["mirror", "root", "mirror_folder"])
def test_runs_of_text_from_different_places_are_measured(place: str) -> None:
    asked = ["data=multi30k_de_en", f"data.{place}=/somewhere"]
    config, moved = compose_here(asked[:1]), compose_here(asked)
    assert config != moved
    check_same({"a": config, "b": moved})
    check_same({"a": moved, "b": config})


def test_a_split_that_one_run_lacks_is_named(folders: list[Path]) -> None:
    config = Run(folders[0]).config()
    other = replace(config, data=replace(config.data, more_tests={"b": SplitConfig("a", "b")}))
    for configs in ({"a": config, "b": other}, {"a": other, "b": config}):
        with pytest.raises(ValueError, match=r"b: data\.more_tests.*; expected runs of"):
            check_same(configs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens_per_second": 0}, "tokens_per_second=0.0: expected more than 0"),
        ({"tokens_per_second": "fast"}, "tokens_per_second="),
        ({"measurement": None}, "measurement="),
    ],
)
def test_a_damaged_speed_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    speed = {"tokens_per_second": 2.0, "measurement": "now", "beside": 2, "rounds": 1} | change
    file = tmp_path / "speed.json"
    file.write_text(json.dumps(speed))
    with pytest.raises(ValueError, match=message):
        MeasuredSpeed.read(file)


@pytest.mark.parametrize(
    ("override", "is_other", "is_refused"),
    [
        ("norm=batch", True, False),
        ("cell=gru", True, False),
        ("model.hidden_size=8", True, False),
        ("backend=reference", True, False),
        ("optimizer=sgd", True, False),
        ("trainer.precision=bf16", True, False),
        ("trainer.r_drop=1", True, False),
        ("optimizer.lr=0.5", False, False),
        ("trainer.max_epochs=99", False, False),
        ("seed=2", False, False),
        ("trainer.label_smoothing=0.3", False, True),
        ("optimizer.accumulate=2", False, True),
        ("data.batch_tokens=99", False, True),
        ("tokenizer=char", False, True),
    ],
)
def test_what_the_time_of_an_update_depends_on(
    override: str, is_other: bool, is_refused: bool
) -> None:
    """Runs that differ in the model are timed apart, and those of other text or batches refused."""
    usual, other = compose_here([]), compose_here([override])
    assert (model_of(usual) != model_of(other)) == is_other
    if is_refused:
        with pytest.raises(ValueError, match="expected runs of the same text and batches"):
            check_same({"a": usual, "b": other})
    else:
        check_same({"a": usual, "b": other})
