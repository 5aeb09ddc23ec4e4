"""Every command in a locale without UTF-8: its streams and files are UTF-8 all the same."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

LOCALES = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "streams in ascii": {"PYTHONIOENCODING": "ascii"},
    "streams in latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
}
TEXT = "一 二\n三 四 é\n五 六\n"


@dataclass
class Ended:
    """What a process left."""

    code: int
    out: str
    err: str


def start(locale: dict[str, str], folder: Path, file: str, *words: str) -> Ended:
    """Run a script of the repository in a locale and a folder; its output has to be UTF-8."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    environment = {**known, "PYTHONPATH": str(ROOT), **locale}
    command = [sys.executable.encode(), str(ROOT / file).encode(), *(w.encode() for w in words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return Ended(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


@pytest.fixture
def corpus(tmp_path: Path) -> list[str]:
    """Settings of text in files with names that are not ASCII."""
    (tmp_path / "文.zh").write_text(TEXT, encoding="utf-8")
    sides = [f"data.{split}.{side}=文.zh" for split in ("train", "valid") for side in FILES]
    return ["data=files", "data.name=名é", *sides, "tokenizer=word"]


FILES = ("source", "target")


@pytest.mark.parametrize(
    "locale",
    ["ascii", "streams in ascii", pytest.param("streams in latin-1", marks=pytest.mark.slow)],
)  # the last one has a fast test below
def test_preparing_a_corpus(locale: str, corpus: list[str], tmp_path: Path) -> None:
    done = start(LOCALES[locale], tmp_path, "scripts/prepare_data.py", *corpus)
    assert done.code == 0, done.err
    assert "text        一 二\n" in done.out
    assert "\ndata/prepared/名é/" in done.out
    [kept] = (tmp_path / "data" / "prepared" / "名é").glob("*/valid.source.txt")
    assert kept.read_text(encoding="utf-8") == TEXT


@pytest.mark.parametrize("locale", ["ascii", "streams in latin-1"])
def test_an_error_and_help(locale: str, tmp_path: Path) -> None:
    settings = ["data=files", "data.train.source=没有.zh"]
    done = start(LOCALES[locale], tmp_path, "scripts/prepare_data.py", *settings)
    assert done.code == 2
    missing = f"data.train.source=没有.zh: no such file in {tmp_path}"
    assert done.err == f"prepare_data.py: {missing}\n"
    for file in ("scripts/compare.py", "scripts/evaluate.py"):
        done = start(LOCALES[locale], tmp_path, file, "跑 é")
        assert (done.code, "跑 é: no such " in done.err) == (2, True), done.err


def test_settings_are_shown_as_typed(corpus: list[str], tmp_path: Path) -> None:
    done = start(LOCALES["ascii"], tmp_path, "train.py", *corpus, "--cfg", "job")
    assert done.code == 0
    assert "name: 名é\n" in done.out
    assert "source: 文.zh\n" in done.out


@pytest.mark.slow
def test_a_run_and_what_is_done_with_it(corpus: list[str], tmp_path: Path) -> None:
    locale = LOCALES["ascii"]
    tiny = [
        "model=tiny",
        "trainer.max_epochs=1",
        "trainer.progress=false",
        "data.test.source=文.zh",
    ]
    run = "跑,é=1"
    settings = [*corpus, *tiny, "data.test.target=文.zh", f"hydra.run.dir={run}"]
    assert start(locale, tmp_path, "train.py", *settings).code == 0
    for file, words in {
        "train.py": [f"resume={run}"],
        "scripts/evaluate.py": [run, "--json=得.json"],
        "scripts/compare.py": [run, "--out", "报告"],
    }.items():
        done = start(locale, tmp_path, file, *words)
        assert (done.code, run in done.out) == (0, True), (file, done.err)
    assert run in (tmp_path / "得.json").read_text(encoding="utf-8")
    assert "跑" in (tmp_path / "报告" / "report.html").read_text(encoding="utf-8")
