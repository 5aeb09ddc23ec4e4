"""init_from=RUN: which settings of training may differ from those of the other run."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TrainHere
from runs import Command

from seq2seq.app.fine_tuning import OWN
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]
MAY_DIFFER = {
    "model.dropout": "0.25",
    "model.variational": "true",
    "model.recurrent_dropout": "0.25",
    "model.word_dropout": "0.25",
    "norm.momentum": "0.25",
    "norm.min_rows": "5",
    "tokenizer.bpe_dropout": "0.25",
    "tokenizer.bpe_dropout_sides": "source",
}


@pytest.fixture(scope="module")
def first(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run with batch norm and pieces, which has all of these settings."""
    pieces = ["tokenizer=bpe", "tokenizer.vocab_size=30", "tokenizer.bpe_dropout=0.1"]
    folder = tmp_path_factory.mktemp("first") / "run"
    return train_here(folder, "norm=batch", "trainer.max_updates=1", *pieces)


def test_each_setting_of_training_is_tried() -> None:
    assert set(OWN) == set(MAY_DIFFER)


@pytest.mark.parametrize(("key", "value"), MAY_DIFFER.items())
def test_a_setting_of_training_may_be_another_one(
    first: Run, train_command: Command, tmp_path: Path, key: str, value: str
) -> None:
    more = ["data=files", "data.name=other", f"data.root={tmp_path}"]
    before = train_command(f"init_from={first.folder}", *more, "--cfg=job")
    assert before.code == 0, before.err
    line = f"  {key.partition('.')[2]}: {value}"
    assert line not in before.out.splitlines()
    done = train_command(f"init_from={first.folder}", *more, f"{key}={value}", "--cfg=job")
    assert done.code == 0, done.err
    assert line in done.out.splitlines()


def test_a_known_corpus_keeps_its_languages(
    first: Run, train_command: Command, tmp_path: Path
) -> None:
    data = first.config().data
    assert (data.source_language, data.target_language) != ("en", "zh")
    more = ["data=grammar_en_zh", f"data.root={tmp_path}", "--cfg=job"]
    done = train_command(f"init_from={first.folder}", *more)
    assert done.code == 0, done.err
    assert {"  source_language: en", "  target_language: zh"} <= set(done.out.splitlines())


def test_a_placeholder_like_a_reference_comes_along(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    config = copied.config()
    config.tokenizer = replace(config.tokenizer, user_defined_symbols="${NAME}")
    copied.save_config(config)
    more = ["data=files", "data.name=other", f"data.root={tmp_path}", "--cfg=job", "--resolve"]
    done = train_command(f"init_from={copied.folder}", *more)
    assert done.code == 0, done.err
    assert "  user_defined_symbols: ${NAME}" in done.out.splitlines()


def test_null_is_no_run(train_command: Command, toy: list[str]) -> None:
    done = train_command(*toy, "init_from=null", "--cfg=job")
    assert done.code == 0, done.err
    assert "init_from: null" in done.out.splitlines()


def test_a_suggestion_of_the_corpus_contradicts_nothing(
    first: Run, train_command: Command, tmp_path: Path
) -> None:
    """tokenizer=bpe agrees, though this corpus would be given another number of pieces."""
    more = ["data=files", "data.name=other", f"data.root={tmp_path}", "tokenizer=bpe", "--cfg=job"]
    done = train_command(f"init_from={first.folder}", *more)
    assert done.code == 0, done.err
    assert "  vocab_size: 30" in done.out.splitlines()


@pytest.mark.parametrize("override", ["experiment=length", "size=quick"])
def test_a_comparison_does_not_begin_with_weights_of_another_run(
    first: Run, train_command: Command, tmp_path: Path, override: str
) -> None:
    done = train_command(
        f"init_from={first.folder}", f"data.root={tmp_path}", override, "--cfg=job"
    )
    assert done.code == 2
    assert f"{override}: expected no {override.partition('=')[0]} with init_from" in done.err
