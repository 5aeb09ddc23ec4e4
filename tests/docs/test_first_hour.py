"""docs/first-hour.md: every command is run, and prints what the page says.

Where a command says `python`, a fork of a process that has imported torch runs the program.
"""

import os
import shlex
from pathlib import Path

import pytest

from docs.transcript import BLOCK, PUBLISHED, Command, as_documented, commands, printed, shell

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
BLOCKS: list[str] = BLOCK.findall(PAGE)

pytest_plugins = ["process_fixtures"]


@pytest.fixture
def fast_python(forked_python: list[str], tmp_path: Path) -> Path:
    """Return a folder with a `python` that forks the program."""
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin" / "python"
    file.write_text(f'#!/bin/sh\nexec {shlex.join(forked_python)} "$@"\n')
    file.chmod(0o755)
    return file.parent


def leave_text(folder: Path) -> None:
    """Leave text of the built-in corpus where `make compare` does; the page must not read it."""
    for name in ("one", "two"):
        text = folder / "data" / "prepared" / "grammar_en_zh" / f"text-{name}"
        text.mkdir(parents=True)
        for file in ("train.en", "train.zh", "test.en", "test.zh"):
            (text / file).write_text("other text\n")


def check(blocks: list[str], python: Path, mirror: Path | None = None) -> None:
    """Run the commands of blocks, one after the other; their output is that of the page."""
    folder = python.parent / "work"
    folder.mkdir()
    leave_text(folder)
    variables = shell(folder, str(mirror) if mirror else None)
    variables["PATH"] = f"{python}{os.pathsep}{variables['PATH']}"
    for command in (command for block in blocks for command in commands(block)):
        output = printed(command, folder, variables)
        assert command.prints(output), f"$ {command.text}\n{output}"


def test_commands_on_own_text_print_what_the_page_says(fast_python: Path) -> None:
    check([block for block in BLOCKS if not PUBLISHED.search(block)], fast_python)


def test_commands_on_published_corpora_print_what_the_page_says(
    fast_python: Path, mirror: Path
) -> None:
    published = [block for block in BLOCKS if PUBLISHED.search(block)]
    assert len(published) >= 3
    check(published, fast_python, mirror)


def test_commands_of_several_lines_are_read_whole() -> None:
    block = "$ cat <<'END' > a\none\nEND\n$ cp a \\\n    b\n$ cat b\none\n"
    assert commands(block) == [
        Command("cat <<'END' > a\none\nEND", ""),
        Command("cp a \\\n    b", ""),
        Command("cat b", "one\n"),
    ]


@pytest.mark.parametrize(
    ("output", "documented"),
    [
        ("took 12.5 s at 1,234 tokens/s\n", "took ... s at ... tokens/s\n"),
        ("BLEU 12.5\n", "BLEU 12.5\n"),
    ],
)
def test_what_differs_from_run_to_run_is_left_open(output: str, documented: str) -> None:
    assert as_documented(output) == documented
    assert Command("train", documented).prints(output)
    assert not Command("train", documented).prints("another text\n")


def test_a_models_figures_may_differ_and_counts_may_not() -> None:
    command = Command("evaluate", "test, 200 sentences, BLEU 12.5\n")
    assert command.prints("test, 200 sentences, BLEU 9.75\n")
    assert not command.prints("test, 100 sentences, BLEU 12.5\n")
    translations = Command("translate.py", "one\ntwo\n")
    assert translations.prints("another\ntext\n")
    assert not translations.prints("one\n")
