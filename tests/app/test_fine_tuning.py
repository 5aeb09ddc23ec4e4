"""init_from=RUN: the weights and tokenizers of a trained run, everything else from the start."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import final_results

from seq2seq.config import Config
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.report.columns import COLUMNS
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.origin import Origin
from seq2seq.runs.records import read_runs
from seq2seq.training.loop import train

WORDS = ("do", "re", "mi", "fa", "sol", "la", "si", "ut")
Command = Callable[..., Any]


def text(folder: Path, count: int = 90, seed: int = 3) -> list[str]:
    """Other pairs than those of the toy corpus, with a word that its tokenizers do not know."""
    chance = random.Random(seed)
    folder.mkdir(exist_ok=True)
    found = []
    for split, size in (("train", count), ("valid", 12), ("test", 6)):
        lines = [
            " ".join(chance.sample((*WORDS, "quaver"), chance.randint(2, 5))) for _ in range(size)
        ]
        for side in ("source", "target"):
            file = folder / f"{split}.{side}"
            file.write_text("".join(f"{line}\n" for line in lines))
            found.append(f"data.{split}.{side}={file}")
    return found


def other_text(folder: Path) -> list[str]:
    """Settings of a short training on that text, with nothing of the architecture."""
    return [
        "data=files",
        "data.name=other",
        f"data.root={folder / 'prepared'}",
        *text(folder / "text"),
        "data.cleaning.drop_duplicates=false",
        "data.batch_tokens=null",
        "data.batch_sentences=30",
        "decode.beam_size=1",
        "optimizer.schedule=constant",
        "trainer.max_epochs=1",
        "trainer.progress=false",
        "trainer.threads=1",
    ]


def weights(run: Run, checkpoint: str = "best") -> dict[str, torch.Tensor]:
    return load_checkpoint(run.checkpoint(checkpoint))[0]


def only_run(folder: Path) -> Run:
    [found] = folder.glob("outputs/other/*")
    return Run(found)


# -- what comes along, and what does not ---

VARIANTS = {
    "batch gru": ["norm=batch", "cell=gru"],
    "rms rnn": ["norm=rms", "cell=rnn", "cell.nonlinearity=relu"],
    "none lstm tied": ["norm=none", "tokenizer.joint=true", "model.tying=all"],
    "layer lstm apart": ["norm=layer", "norm.group=gate", "tokenizer.joint=false"],
    "shared statistics": ["norm=batch_shared", "model.tying=target", "model.attention=dot"],
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_weights_statistics_and_tokenizers_come_along(
    train_here: Any, train_command: Command, tmp_path: Path, variant: list[str]
) -> None:
    wide = ["model.embedding_size=48"] if "model.tying=all" in variant else []
    first = train_here(tmp_path / "first", "trainer.max_epochs=1", *variant, *wide)
    done = train_command(
        f"init_from={first.folder}", *other_text(tmp_path), "optimizer.lr=0", "model.dropout=0"
    )
    assert done.code == 0, done.err
    assert f"init_from={first.folder}: its best weights, of update 8" in done.out
    run, before = only_run(tmp_path), weights(first)
    after = weights(run)
    assert before.keys() == after.keys()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert all("running" in name or "steps_seen" in name or "updates" in name for name in moved), (
        moved
    )
    assert bool(moved) == (first.config().norm.kind.value == "batch"), "measured on the new text"
    ours, theirs = Tokenizers.load(run.folder), Tokenizers.load(first.folder)
    assert ours.identity == theirs.identity
    assert ours.joint == theirs.joint
    same, old = run.config(), first.config()
    assert (same.norm, same.cell, same.tokenizer) == (old.norm, old.cell, old.tokenizer)
    assert same.model.dropout == 0
    assert run.folder.name.startswith(f"{old.norm.kind.name}-{old.cell.kind.name}-tiny-seed1,")


def test_optimizer_schedule_best_and_patience_are_fresh(
    finished: Run, train_command: Command, tmp_path: Path
) -> None:
    assert train_command(f"init_from={finished.folder}", *other_text(tmp_path)).code == 0
    run = only_run(tmp_path)
    tensors, header = load_checkpoint(run.checkpoint("last"))
    assert header["progress"]["update"] == 3
    assert header["progress"]["bad_validations"] == 0
    steps = {float(t) for name, t in tensors.items() if name.endswith(".step")}
    assert steps == {3.0}
    results = final_results(run)
    assert results["best_update"] == 3


def test_dropout_may_be_another_one(
    train_here: Any, train_command: Command, tmp_path: Path
) -> None:
    bpe = ["tokenizer=bpe", "tokenizer.vocab_size=30"]
    first = train_here(tmp_path / "first", "trainer.max_epochs=1", *bpe)
    own = ["tokenizer.bpe_dropout=0.5", "tokenizer.bpe_dropout_sides=source"]
    done = train_command(f"init_from={first.folder}", *other_text(tmp_path), *own)
    assert done.code == 0, done.err
    tokenizer = only_run(tmp_path).config().tokenizer
    assert (tokenizer.bpe_dropout, tokenizer.bpe_dropout_sides.name) == (0.5, "source")


def test_it_learns_faster_than_from_the_start(
    train_here: Any, train_command: Command, tmp_path: Path
) -> None:
    """The same task goes on where it was, so the loss begins far lower."""
    first = train_here(tmp_path / "first", "trainer.max_epochs=12")
    losses = {}
    for name, more in (("tuned", [f"init_from={first.folder}"]), ("new", [])):
        folder = tmp_path / name
        own = train_here.toy if name == "new" else [o for o in train_here.toy if not _own(o)]
        assert train_command(*own, *more, f"hydra.run.dir={folder}").code == 0
        results = final_results(Run(folder))
        losses[name] = results["valid_loss"]
    assert losses["tuned"] < 0.7 * losses["new"]


def _own(override: str) -> bool:
    return override.split("=")[0] in ("tokenizer", "model")


# -- the folder ---


def test_the_folder_records_its_origin_and_stands_by_itself(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    more = other_text(tmp_path)
    command = [f"init_from={copied.folder}", *more]
    done = train_command(*command)
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    assert run.origin() == copied.as_origin()
    assert json.loads(run.origin_file.read_text())["run"] == str(copied.folder)
    assert run.config().init_from == str(copied.folder)
    [column] = [column for column in COLUMNS if column.key == "init_from"]
    records, _ = read_runs([str(run.folder), str(copied.folder)])
    assert [column.text(record) for record in records] == [str(copied.folder), "–"]
    again = train_command(*command)
    assert (again.code, "finished already" in again.out) == (0, True)
    shutil.rmtree(copied.folder)
    resumed = train_command(f"resume={run.folder}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    missing = train_command(*command)
    assert missing.code == 2
    assert f"{copied.folder}: no such run" in missing.err


def test_it_resumes_exactly_without_the_other_run(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    more = [f"init_from={copied.folder}", *other_text(tmp_path), "trainer.max_epochs=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_command(*more, f"hydra.run.dir={whole}").code == 0
    assert train_command(*more, "trainer.max_updates=2", f"hydra.run.dir={parts}").code == 0
    shutil.rmtree(copied.folder)
    assert train_command(f"resume={parts}", "trainer.max_updates=null").code == 0
    one, two = weights(Run(whole), "last"), weights(Run(parts), "last")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_that_stopped_before_its_first_checkpoint_needs_no_other_run(
    copied: Run, train_here: Any, train_command: Command, tmp_path: Path, monkeypatch: Any
) -> None:
    command = [f"init_from={copied.folder}", *other_text(tmp_path)]

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "x")

    with monkeypatch.context() as patched:
        patched.setattr("seq2seq.training.loop.fit", fail)
        assert train_command(*command).code == 1
    run = only_run(tmp_path)
    before = {k: v for k, v in weights(run, "last").items() if k.startswith("model.")}
    assert all(torch.equal(v, weights(copied)[k]) for k, v in before.items())
    shutil.rmtree(copied.folder)
    assert train_command(f"resume={run.folder}").code == 0
    assert run.state() == "finished"


def test_weights_that_have_changed_since_are_another_configuration(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    command = [f"init_from={copied.folder}", *other_text(tmp_path)]
    done = train_command(*command)
    assert done.code == 0, done.err
    shutil.copyfile(copied.checkpoint("last"), copied.checkpoint("best"))
    done = train_command(*command)
    assert done.code == 2
    assert "began with other weights" in done.err
    assert "overwrite=true" in done.err
    assert train_command(*command, "overwrite=true").code == 0
    assert only_run(tmp_path).origin() == copied.as_origin()


def test_a_tuned_run_can_be_tuned(finished: Run, train_command: Command, tmp_path: Path) -> None:
    more, second, third = other_text(tmp_path), tmp_path / "second", tmp_path / "third"
    assert train_command(f"init_from={finished.folder}", *more, f"hydra.run.dir={second}").code == 0
    assert train_command(f"init_from={second}", *more, "seed=2", f"hydra.run.dir={third}").code == 0
    assert Run(third).origin() == Run(second).as_origin()
    shutil.rmtree(second)
    evaluated = final_results(Run(third))
    assert evaluated["update"] == 3


# -- what is refused ---


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("norm=batch", "has norm.kind=layer"),
        ("cell=gru", "has cell.kind=lstm"),
        ("model=base", "has model.embedding_size=32"),
        ("model.hidden_size=64", "has model.hidden_size=48"),
        ("model.init_scale=0.3", "has model.init_scale=0.1"),
        ("tokenizer=bpe", "has tokenizer.kind=word"),
        ("tokenizer.vocab_size=99", "has tokenizer.vocab_size=8000"),
        ("model.target_embeddings=e.vec", "init_from=null"),
        ("experiment=length", "expected no experiment"),
    ],
)
def test_what_contradicts_the_other_run_is_refused(
    finished: Run, train_command: Command, tmp_path: Path, override: str, reason: str
) -> None:
    done = train_command(f"init_from={finished.folder}", *other_text(tmp_path), override)
    assert done.code == 2
    assert override.split("=")[0] in done.err
    assert reason in done.err


def test_a_norm_of_a_cell_state_that_is_not_there_contradicts_nothing(
    train_here: Any, train_command: Command, tmp_path: Path
) -> None:
    settings = ("cell=gru", "norm=layer", "norm.cell=output", "trainer.max_epochs=1")
    first = train_here(tmp_path / "first", *settings)
    done = train_command(f"init_from={first.folder}", *other_text(tmp_path), "norm=layer")
    assert done.code == 0, done.err
    assert only_run(tmp_path).config().norm == first.config().norm


def test_what_agrees_with_the_other_run_is_taken(
    finished: Run, train_command: Command, tmp_path: Path
) -> None:
    agreeing = ["norm=layer", "cell=lstm", "model=tiny", "model.hidden_size=48", "tokenizer=word"]
    changed = ["model.dropout=0.2", "optimizer=sgd", "optimizer.lr=0.01"]
    command = [f"init_from={finished.folder}", *other_text(tmp_path), *agreeing, *changed]
    done = train_command(*command)
    assert done.code == 0, done.err
    assert only_run(tmp_path).config().model.dropout == 0.2


def test_a_sweep_over_runs_with_commas_in_their_names(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    names = [tmp_path / name for name in ("a,b=1", "c,d=(2)")]
    for name in names:
        shutil.copytree(copied.folder, name)
    swept = ",".join(f"'{name}'" for name in names)
    done = train_command("-m", f"init_from={swept}", "seed=1,2", *other_text(tmp_path))
    assert done.code == 0, done.err
    runs = [Run(folder) for folder in (tmp_path / "outputs" / "other").iterdir()]
    assert len(runs) == 4
    assert {run.config().init_from for run in runs} == {str(name) for name in names}


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_missing_run_makes_no_folder(
    train_command: Command, tmp_path: Path, sweep: list[str]
) -> None:
    done = train_command(*sweep, "init_from=none/such", *other_text(tmp_path))
    assert done.code == 2
    assert "none/such: no such run" in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_run_with_damaged_settings_is_named_in_plain_words(
    copied: Run, train_command: Command, tmp_path: Path, sweep: list[str]
) -> None:
    """Hydra reads them while it composes the name of the new folder."""
    copied.config_file.write_text("{{")
    done = train_command(*sweep, f"init_from={copied.folder}", *other_text(tmp_path))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"train.py: {copied.config_file}: not a configuration (")
    assert "interpolation" not in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_run_without_weights_is_refused(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    copied.checkpoint("best").unlink()
    done = train_command(f"init_from={copied.folder}", *other_text(tmp_path))
    assert done.code == 2
    assert "best.safetensors: no such checkpoint" in done.err
    assert not (tmp_path / "outputs").exists()
    assert "preparing" not in done.err


def test_its_own_folder_is_refused(copied: Run, train_command: Command, tmp_path: Path) -> None:
    """Above all with overwrite=true, which would remove the weights first."""
    before = weights(copied)
    done = train_command(
        f"init_from={copied.folder}",
        *other_text(tmp_path),
        f"hydra.run.dir={copied.folder}",
        "overwrite=true",
    )
    assert done.code == 2
    assert "expected another folder" in done.err
    assert weights(copied).keys() == before.keys()


def test_resume_with_other_text_names_it(
    copied: Run, train_command: Command, tmp_path: Path
) -> None:
    done = train_command(f"resume={copied.folder}", "data.train.source=x")
    assert (done.code, f"init_from={copied.folder}" in done.err) == (2, True)


def test_resume_with_changed_text_names_it(train_here: Any, tmp_path: Path) -> None:
    settings = [*text(tmp_path / "text"), "data.target_language=en", f"data.root={tmp_path / 'p'}"]
    run = train_here(tmp_path / "run", *settings, "trainer.max_updates=1")
    text(tmp_path / "text", 70, 9)
    config: Config = train_here.config(*settings, "trainer.max_updates=2")
    config.resume = str(run.folder)
    with pytest.raises(RunError, match=rf"trained on other text: .*init_from={run.folder}"):
        train(config, run)


def test_languages_are_those_of_the_other_run(
    train_here: Any, train_command: Command, tmp_path: Path
) -> None:
    first = train_here(tmp_path / "first", "data.source_language=de", "trainer.max_updates=1")
    more = other_text(tmp_path)
    assert train_command(f"init_from={first.folder}", *more).code == 0
    run = only_run(tmp_path)
    assert (run.config().data.source_language, run.config().data.target_language) == ("de", "en")
    other = train_command(
        f"init_from={first.folder}", *more, "data.source_language=nl", "--cfg=job"
    )
    assert "source_language: nl" in other.out


def test_damaged_weights_are_named(copied: Run, train_command: Command, tmp_path: Path) -> None:
    best = copied.checkpoint("best")
    best.write_bytes(best.read_bytes()[:-1] + b"?")
    done = train_command(f"init_from={copied.folder}", *other_text(tmp_path))
    assert done.code == 2
    assert "best.safetensors: damaged or truncated checkpoint (SHA-256 is" in done.err


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.origin() is None
    run.origin_file.write_text('{"run": 1}')
    with pytest.raises(RunError, match=r"origin\.json: damaged"):
        run.origin()
    Origin("a", "b", "c").write(run.origin_file)
    assert run.origin() == Origin("a", "b", "c")
