"""The name of a run's folder."""

from pathlib import Path

import pytest
from conftest import TrainCommand

from seq2seq.app.names import corpus_folder, run_folder, run_name

CHOICES = {"norm": "layer", "cell": "lstm", "model": "base"}


def test_a_run_is_named_after_its_choices() -> None:
    assert (
        run_name(CHOICES, ["norm=layer", "seed=3", "data=grammar_en_zh", "model=base"], 3)
        == "layer-lstm-base-seed3"
    )
    overrides = [
        "optimizer.lr=0.1",
        "+norm.eps=1",
        "resume=x",
        "overwrite=true",
        "data.batch_tokens=100",
    ]
    assert (
        run_name(CHOICES, overrides, 1)
        == "layer-lstm-base-seed1,+norm.eps=1,data.batch_tokens=100,optimizer.lr=0.1"
    )
    assert run_name(CHOICES, overrides, 1) == run_name(CHOICES, overrides[::-1], 1)


def test_a_name_is_a_valid_folder_name() -> None:
    path = run_name(CHOICES, ["data.train.source=/a b/c.txt"], 1)
    assert path == "layer-lstm-base-seed1,data.train.source=_a_b_c.txt"
    long = [f"data.train.source={'x' * 300}{i}" for i in range(2)]
    names = {run_name(CHOICES, [o], 1) for o in long}
    assert len(names) == 2
    assert all(len(name.encode()) <= 200 for name in names)


def test_resuming_creates_no_folder() -> None:
    assert run_folder("grammar/layer", None) == "outputs/grammar/layer"
    assert run_folder("grammar/layer", "elsewhere/run") == "."


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
def test_a_corpus_has_a_plain_name_and_else_leaves_nothing_beside_outputs(
    name: str, train_command: TrainCommand, tmp_path: Path
) -> None:
    done = train_command("data=files", f"data.name={name}", "data.train.source=a.tsv")
    assert done.code == 2
    assert f"data.name={name}: expected the plain name of a folder, without /" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]
    assert len(list(tmp_path.glob("outputs/*/*/failure.txt"))) == 1
    assert corpus_folder("a.b..c") == "a.b..c"
