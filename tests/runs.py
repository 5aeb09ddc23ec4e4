"""Small trained runs, and commands on them that run in this process."""

import importlib
import io
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import Done, exit_code

from seq2seq.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SplitConfig,
    TokenizerConfig,
    TrainerConfig,
)
from seq2seq.rnn import NormConfig, NormKind
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

ROOT = Path(__file__).resolve().parents[1]
LEXICON = {
    "one": "一",
    "two": "二",
    "three": "三",
    "four": "四",
    "five": "五",
    "dogs": "狗",
    "cats": "猫",
    "birds": "鸟",
    "see": "看见",
    "like": "喜欢",
    "find": "找到",
}
NUMBERS, NOUNS, VERBS = list(LEXICON)[:5], list(LEXICON)[5:8], list(LEXICON)[8:]


def sentence(chance: random.Random) -> str:
    """Return five English words, such as 'two dogs see three birds'."""
    return " ".join(chance.choice(words) for words in (NUMBERS, NOUNS, VERBS, NUMBERS, NOUNS))


def translation(line: str) -> str:
    """Return a sentence in Chinese, word by word."""
    return "".join(LEXICON[word] for word in line.split()) + "。"


def printed_lines(done: Done) -> list[str]:
    """Return the lines that a successful command printed."""
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("\n")
    return done.out.split("\n")[:-1]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return different sentences."""
    chance, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        found[sentence(chance)] = None
    return list(found)


def corpus(folder: Path) -> DataConfig:
    """Write a corpus of English and Chinese numerals, nouns and verbs; return its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, splits = sentences(300), {}
    for name, part in (
        ("train", lines[:240]),
        ("valid", lines[240:260]),
        ("test", lines[260:290]),
        ("test_other", lines[290:]),
    ):
        (folder / f"{name}.en").write_text("".join(line + "\n" for line in part), encoding="utf-8")
        (folder / f"{name}.zh").write_text(
            "".join(translation(line) + "\n" for line in part), encoding="utf-8"
        )
        splits[name] = SplitConfig(str(folder / f"{name}.en"), str(folder / f"{name}.zh"))
    return DataConfig(
        name="toy",
        root=str(folder / "prepared"),
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        more_tests={"test_other": splits["test_other"]},
        batch_tokens=None,
        batch_sentences=24,
    )


def settings(data: DataConfig, norm: str = "none", updates: int = 6, **changes: Any) -> Config:
    """Return the configuration of a very small run.

    It has learnt some words after 70 updates, and all words after 200.
    """
    config = Config(
        norm=NormConfig(NormKind[norm]),
        model=ModelConfig(24, 32, dropout=0.0, init_scale=0.3),
        data=data,
        tokenizer=TokenizerConfig(vocab_size=60, joint=False),
        optimizer=OptimizerConfig(lr=2e-2, warmup_updates=5),
        trainer=TrainerConfig(
            max_epochs=None,
            max_updates=updates,
            threads=1,
            progress=False,
            log_every=5,
            histograms=False,
            validate_every=max(updates // 3, 1),
        ),
    )
    return replace(config, **changes)


def trained(folder: Path, config: Config) -> Path:
    """Train a run into a folder; return the folder."""
    train(config, Run(folder))
    return folder


@dataclass
class Runs:
    """Two runs of one corpus that have learnt a little, and the corpus."""

    none: Path
    layer: Path
    data: DataConfig
    sources: list[str]
    references: list[str]


def two_runs(folder: Path) -> Runs:
    """Train two runs of one corpus."""
    data = corpus(folder / "corpus")
    none, layer = (
        trained(folder / f"{norm}-lstm-tiny-seed1", settings(data, norm, updates))
        for norm, updates in (("none", 60), ("layer", 200))
    )
    test = sentences(300)[260:290]
    return Runs(none, layer, data, test, [translation(line) for line in test])


def three_runs(folder: Path) -> dict[str, Path]:
    """Train one run of each norm: 12 updates, three validations, with histograms.

    Return their folders by norm, named as train.py names them.
    """
    data = corpus(folder / "corpus")
    found = {}
    for norm in ("none", "batch", "layer"):
        config = settings(data, norm, 12)
        config.trainer.histograms = True
        found[norm] = trained(folder / "outputs" / f"{norm}-lstm-tiny-seed1", config)
    return found


def script(name: str) -> ModuleType:
    """Return the module that a file of scripts/ runs the `main` of."""
    if name == "benchmark":
        return importlib.import_module("seq2seq.benchmark.command_line")
    return importlib.import_module(f"seq2seq.app.{name}")


class Command:
    """A script called in this process, with its own arguments and standard input."""

    def __init__(
        self, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.name, self.module = name, script(name)
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *arguments: object, stdin: str | bytes = b"") -> Done:
        """Return exit code, standard output and standard error."""
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        with self.monkeypatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", "0")
            patch.setattr(sys, "argv", [f"scripts/{self.name}.py", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
            self.capfd.readouterr()
            code = exit_code(self.module.main)
            captured = self.capfd.readouterr()
            return Done(code, captured.out, captured.err, tuple(map(str, arguments)))


Script = Callable[[str], Command]
"""The type of the fixture `script`."""
