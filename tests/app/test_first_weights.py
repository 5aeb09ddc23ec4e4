"""Pretrained embeddings and tokenizer models as a user names them on the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS
from invented_text import corpus, letters, sentences
from sentencepiece import SentencePieceTrainer

from seq2seq.app import prepare as prepare_module
from seq2seq.config import Config
from seq2seq.data.embeddings import vocabulary
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

Command = Callable[..., Any]


def vectors(path: Path, words: list[str], size: int = 32) -> str:
    lines = [f"{len(words)} {size}"]
    for number, word in enumerate(words):
        lines.append(" ".join([word, *(f"{0.01 * (number + i):.3f}" for i in range(size))]))
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def start(toy: list[str], folder: Path, train_command: Command, *overrides: str) -> Any:
    limits = ["trainer.max_updates=1", "optimizer.schedule=constant"]  # so that it can go on
    return train_command(*toy, f"hydra.run.dir={folder}", *limits, *overrides)


@pytest.mark.parametrize(
    "more",
    [[], ["tokenizer.joint=false"], ["model.tying=target", "model.hidden_size=32"]],
    ids=["joint", "apart", "tied"],
)
def test_embeddings_are_taken_and_their_coverage_is_printed(
    toy: list[str], train_command: Command, tmp_path: Path, more: list[str]
) -> None:
    source = vectors(tmp_path / "a.vec", [*WORDS[:6], "unseen"])
    target = vectors(tmp_path / "b.vec", list(reversed(WORDS)))
    named = [f"model.source_embeddings={source}", f"model.target_embeddings={target}"]
    done = start(toy, tmp_path / "run", train_command, *named, *more, "optimizer.lr=0")
    assert done.code == 0, done.err
    assert f"model.source_embeddings={source}: 6 of 8 words (75.0%)" in done.out
    assert f"model.target_embeddings={target}: 8 of 8 words (100.0%)" in done.out
    weights, _ = load_checkpoint(Run(tmp_path / "run").checkpoint("last"))
    tokenizers = Tokenizers.load(tmp_path / "run")
    ids = vocabulary(tokenizers.source)
    rows = weights["model.src_embedding.weight"]
    for number, word in enumerate(WORDS[:6]):
        expected = torch.tensor([0.01 * (number + i) for i in range(32)])
        torch.testing.assert_close(rows[ids[word]], expected)
    assert rows[ids[WORDS[7]]].abs().max() <= 0.1, "drawn as without a file"
    if "model.tying=target" in more:
        first = weights["model.output.weight"][vocabulary(tokenizers.target)[WORDS[-1]]]
        torch.testing.assert_close(first, torch.tensor([0.01 * i for i in range(32)]))


def test_a_run_goes_on_without_its_embeddings_file(
    toy: list[str], train_command: Command, tmp_path: Path
) -> None:
    file = vectors(tmp_path / "a.vec", list(WORDS))
    done = start(toy, tmp_path / "run", train_command, f"model.source_embeddings={file}")
    assert done.code == 0, done.err
    Path(file).unlink()
    resumed = train_command(f"resume={tmp_path / 'run'}", "trainer.max_updates=2")
    assert resumed.code == 0, resumed.err


@pytest.mark.parametrize(
    ("words", "size", "more", "reason"),
    [
        (["do"], 16, [], "16 dimensions; expected model.embedding_size=32"),
        (["unseen"], 32, [], "has none of the 8 words of the source"),
        (["do"], 32, ["tokenizer=bpe", "tokenizer.vocab_size=30"], "only with tokenizer=word"),
        (["do"], 32, ["model.tying=all", "model.hidden_size=32", "BOTH"], "one matrix"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    toy: list[str],
    train_command: Command,
    tmp_path: Path,
    words: list[str],
    size: int,
    more: list[str],
    reason: str,
) -> None:
    file = vectors(tmp_path / "a.vec", words, size)
    more = [f"model.target_embeddings={file}" if part == "BOTH" else part for part in more]
    done = start(toy, tmp_path / "run", train_command, f"model.source_embeddings={file}", *more)
    assert done.code == 2
    assert reason in done.err
    assert "model.source_embeddings" in done.err or "a.vec:1" in done.err
    assert done.err.count("\n") <= 2


# -- a tokenizer model of one's own ---


def model(path: Path, **options: Any) -> str:
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), *(f"{w} {w}" for w in WORDS)] * 5),
        model_prefix=str(path),
        minloglevel=2,
        hard_vocab_limit=False,
        **{"vocab_size": 40, **options},
    )
    return f"{path}.model"


def without_tokenizer(toy: list[str]) -> list[str]:
    return [override for override in toy if not override.startswith("tokenizer")]


@pytest.mark.parametrize("target", [None, "char"])
def test_a_run_trains_with_models_of_ones_own(
    toy: list[str], train_command: Command, tmp_path: Path, target: str | None
) -> None:
    """With SentencePiece's own special ids, and a copy in the folder of the run."""
    source = model(tmp_path / "a")
    named = [f"tokenizer.model={source}"]
    if target is not None:
        named.append(f"tokenizer.target_model={model(tmp_path / 'b', model_type=target)}")
    run, own = Run(tmp_path / "run"), without_tokenizer(toy)
    done = start(own, run.folder, train_command, *named)
    assert done.code == 0, done.err
    name = "tokenizer.model" if target is None else "tokenizer.source.model"
    assert (run.folder / name).read_bytes() == Path(source).read_bytes()
    Path(source).unlink()
    resumed = train_command(f"resume={run.folder}", "trainer.max_updates=2")
    assert resumed.code == 0, resumed.err
    weights, _ = load_checkpoint(run.checkpoint("last"))
    size = Tokenizers.load(run.folder).target.vocab_size
    assert len(weights["model.tgt_embedding.weight"]) == size


@pytest.mark.parametrize("override", ["tokenizer=word", "tokenizer.vocab_size=20"])
def test_settings_of_another_tokenizer_are_refused(
    toy: list[str], train_command: Command, tmp_path: Path, override: str
) -> None:
    named = f"tokenizer.model={model(tmp_path / 'a')}"
    done = start(without_tokenizer(toy), tmp_path / "run", train_command, named, override)
    assert done.code == 2
    assert "only with tokenizer.model=null" in done.err


def test_a_word_model_of_ones_own_takes_embeddings(
    toy: list[str], train_command: Command, tmp_path: Path
) -> None:
    own, file = without_tokenizer(toy), vectors(tmp_path / "a.vec", list(WORDS))
    for kind, code in (("word", 0), ("bpe", 2)):
        named = f"tokenizer.model={model(tmp_path / kind, model_type=kind)}"
        embeddings = f"model.source_embeddings={file}"
        done = start(own, tmp_path / f"run-{kind}", train_command, named, embeddings)
        assert done.code == code, done.err
    assert "expected a tokenizer of words; that of the source has pieces of kind bpe" in done.err


def test_placeholders_stay_whole_in_a_run(train_here: Any, tmp_path: Path) -> None:
    config: Config = train_here.config(
        "tokenizer.user_defined_symbols=do re", "trainer.max_updates=1", "data.valid.source=null",
        "data.valid.target=null", "data.valid_share=0.1",
    )  # fmt: skip
    train(config, Run(tmp_path / "run"))
    tokenizers = Tokenizers.load(tmp_path / "run")
    assert tokenizers.source.pieces("mi(do)") == ["mi(", "do", ")"]
    assert tokenizers.target.id_to_piece(4) == "▁do"


# -- prepare ---


def test_prepare_shows_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_command: Command
) -> None:
    """The corpus keeps the line, and the table counts it as too long."""
    data = corpus(tmp_path, [*sentences(), letters(70_000)])
    monkeypatch.setattr("seq2seq.app.train.main", prepare_module.main)
    done = train_command(
        "data=files", "data.name=own", f"data.root={tmp_path / 'p'}", "data.target_language=en",
        *(f"data.{s}.{side}={getattr(getattr(data, s), side)}" for s in ("train", "valid")
          for side in ("source", "target")),
        "tokenizer.vocab_size=80", 'tokenizer.user_defined_symbols="[num]"',
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "left out of the tokenizer's training: 2 lines (a word of over 7,500 bytes" in done.out
    assert "tokenizer.user_defined_symbols: [num] is not in the training text" in done.out
    assert "bpe vocabulary, joint: 80 pieces" in done.out


def test_prepare_takes_the_tokenizers_of_a_run(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_command: Command
) -> None:
    for side in ("source", "target"):
        shutil.copy(finished.folder / "translations" / "test.source.txt", tmp_path / side)
    files = [
        f"data.{s}.{side}={tmp_path / side}"
        for s in ("train", "valid")
        for side in ("source", "target")
    ]
    monkeypatch.setattr("seq2seq.app.train.main", prepare_module.main)
    done = train_command(
        f"init_from={finished.folder}", "data=files", "data.name=own", f"data.root={tmp_path / 'p'}",
        *files, "data.cleaning.drop_duplicates=false",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "word vocabulary, joint: 12 pieces" in done.out
    folder = Path(done.out.splitlines()[-1])
    record = json.loads((folder / "tokenizer.json").read_text())
    assert (
        record["sha256"] == json.loads((finished.folder / "tokenizer.json").read_text())["sha256"]
    )
