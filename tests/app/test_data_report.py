"""scripts/data_report.py: what it finds, says, draws and writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Done
from corpus_files import write
from rich.text import Text
from runs import Command
from small_corpora import sentences

from seq2seq.app import data_report
from seq2seq.config import DataConfig, SplitConfig, TokenizerConfig
from seq2seq.data_report.advice import advice
from seq2seq.data_report.survey import Survey

Report = Callable[..., Done]

TRAIN = [(line, line.upper() + ".") for line in dict.fromkeys(sentences(400))]
FOUND = {
    "long": ("a dog sees a house 1", "EIN HUND " * 20),
    "copy": ("the same line 77", "the same line 77"),
    "lost": ("a lost \ufffd letter", "EIN BUCHSTABE"),
}
VALID = [(line, line.upper() + ".") for line in sentences(40, seed=5)]


def survey(tmp_path: Path, **splits: list[tuple[str, str]]) -> Survey:
    data = DataConfig(name="mine", source_language="en", target_language="de")
    for name, pairs in splits.items():
        text = "".join(f"{src}\t{tgt}\n" for src, tgt in pairs)
        setattr(data, name, SplitConfig(str(write(tmp_path / name, text))))
    return Survey(data, None, lambda text: None)


def test_what_is_planted_is_found_on_its_line(tmp_path: Path) -> None:
    train = [*TRAIN[:50], FOUND["long"], *TRAIN[50:], FOUND["copy"], FOUND["lost"], *TRAIN[:7]]
    test = [
        ("a new one", "EIN NEUES ß"),
        TRAIN[3],
        (TRAIN[60][0], "NEU"),
        ("neu", TRAIN[70][1]),
        ("", ""),
    ]
    found = survey(tmp_path, train=train, valid=VALID, test=test)
    by_name = {split.name: split for split in found.splits}
    assert list(by_name) == ["train", "valid", "test"]
    learnt, tested = by_name["train"], by_name["test"]
    assert (learnt.pairs, learnt.repeated, learnt.copies) == (len(train), 7, 1)
    assert learnt.source.damaged == 1
    assert learnt.worst[0].line == 51
    assert learnt.worst[0].found.startswith("target ")
    overlap = tested.in_train
    assert overlap is not None
    assert (overlap.source, overlap.target, overlap.pair) == (2, 2, 1)
    assert [(e.line, e.found) for e in overlap.examples] == [
        (2, "pair = train:4"),
        (3, "source = train:62"),
        (4, "target = train:72"),
    ]
    assert tested.target.unknown_characters == {"ß": 1}
    assert (tested.source.empty, tested.target.empty) == (1, 1)
    assert learnt.in_train is None


def test_lines_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    """A header and blank lines count, and so do the lines of a part that is held out."""
    rows = [*TRAIN[:20], FOUND["long"], *TRAIN[20:]]
    text = "en\tde\n\n" + "".join(f"{src}\t{tgt}\n" for src, tgt in rows)
    data = DataConfig(name="mine", source_language="en", target_language="de")
    data.train = SplitConfig(str(write(tmp_path / "t.tsv", text)))
    [worst] = [e for split in Survey(data, None, lambda text: None).splits for e in split.worst]
    assert worst.line == 23


def test_advice_is_about_what_was_found(tmp_path: Path) -> None:
    clean = survey(tmp_path, train=TRAIN, valid=VALID)
    overlap = clean.splits[1].in_train
    assert overlap is not None
    assert overlap.source == 0
    assert advice(clean.splits, clean.data, TokenizerConfig()) == ["Nothing unusual was found."]
    other = [(src, "Маленькая собака бежит") for src, _ in TRAIN]
    found = survey(tmp_path, train=[*other, *other], valid=[TRAIN[0], ("", "x")])
    said = "\n".join(advice(found.splits, found.data, TokenizerConfig()))
    assert "valid: of 2 pairs, the source of 1, the target of 0 and 0 as a whole" in said
    assert f"of the first {2 * len(other):,} lines with letters, {2 * len(other):,} are not" in said
    assert f"{len(other):,} repeated pairs, dropped in training" in said
    assert "valid, source: nothing is in 1 line, which will be scored too" in said
    assert "\n" not in max(advice(found.splits, found.data, TokenizerConfig()))


# -- the command ---


@pytest.fixture
def report(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Report:
    monkeypatch.chdir(tmp_path)
    command = Command("data_report", monkeypatch, capfd)
    named = ["data=files", "data.name=mine", "data.target_language=de", f"data.root={tmp_path}/p"]
    return lambda *options: command(*named, "tokenizer.vocab_size=90", *options)


def test_the_command_prints_writes_and_draws(tmp_path: Path, report: Report) -> None:
    for name, pairs in (("train", [*TRAIN, FOUND["long"]]), ("test", [*VALID, TRAIN[0]])):
        write(tmp_path / name, "".join(f"{src}\t{tgt}\n" for src, tgt in pairs))
    settings = [f"data.{name}.source={tmp_path / name}" for name in ("train", "test")]
    quiet = "trainer.progress=false"
    done = report(*settings, quiet, "--json", "found.json", "--figure", "lengths.png")
    assert (done.code, done.err) == (0, "")
    for part in (
        "lengths (words)",
        "lengths (pieces)",
        "test:41  pair = train:1",
        "\nadvice\n  - test",
    ):
        assert part in done.out
    values: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    assert [split["name"] for split in values["splits"]] == ["train", "test", "valid"]
    assert values["splits"][1]["in_train"]["pair"] >= 1
    assert values["advice"]
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("options", "advised"),
    [
        ([], "3 characters that train does not have (ß Q X). Each becomes <unk>; tokenizer.byte_"),
        (["tokenizer.byte_fallback=true", "tokenizer.vocab_size=350"], None),
        (
            ["tokenizer=char"],
            "3 characters that train does not have (ß Q X). Each becomes <unk>.\n",
        ),
        (
            ["tokenizer=word", "tokenizer.vocab_size=50"],
            "3 characters that train does not have (ß Q X). Each word that has one becomes <unk>.",
        ),
        (
            ["tokenizer.joint=false"],
            "4 characters that train does not have (ß Q X a). Each becomes <unk>; tokenizer.byte_",
        ),
    ],
)
def test_advice_about_unknown_characters_can_be_followed(
    tmp_path: Path, report: Report, options: list[str], advised: str | None
) -> None:
    write(tmp_path / "train", "".join(f"{src}\t{tgt}\n" for src, tgt in TRAIN))
    write(tmp_path / "test", "".join(f"{src}\t{tgt}\n" for src, tgt in [*VALID, ("q", "ß QX a")]))
    settings = [f"data.{name}.source={tmp_path / name}" for name in ("train", "test")]
    done = report(*settings, "trainer.progress=false", *options)
    assert done.code == 0, done.err
    about = [line for line in done.out.splitlines() if line.startswith("  - test, target: ")]
    if advised is None:
        assert not any("does not have" in line for line in about)
    else:
        assert f"  - test, target: {advised}" in done.out
    if "byte_fallback=true spells" in done.out:
        followed = report(*settings, "tokenizer.byte_fallback=true", "tokenizer.vocab_size=350")
        assert (followed.code, "<unk>" in followed.out) == (0, False)


def test_a_character_of_the_other_side_is_known_to_a_joint_tokenizer(
    tmp_path: Path, report: Report
) -> None:
    write(tmp_path / "train", "".join(f"{src}\t{tgt}\n" for src, tgt in TRAIN))
    write(tmp_path / "test", "".join(f"{src}\t{tgt} a\n" for src, tgt in VALID))
    settings = [f"data.{name}.source={tmp_path / name}" for name in ("train", "test")]
    done = report(*settings, "trainer.progress=false")
    assert done.code == 0, done.err
    assert "does not have (" not in done.out


def test_a_corpus_that_cannot_be_prepared_is_reported_too(tmp_path: Path, report: Report) -> None:
    write(tmp_path / "train", "".join(f"{src}\tМаленькая собака\n" for src, _ in TRAIN))
    done = report(f"data.train.source={tmp_path / 'train'}")
    assert done.code == 0, done.err
    assert "It cannot be prepared for training: " in done.out
    assert "lengths (pieces)" not in done.out


def test_text_that_cannot_be_read_is_one_message(tmp_path: Path, report: Report) -> None:
    done = report(f"data.train.source={tmp_path / 'nothing'}")
    assert done.code == 2
    assert "nothing: no such file" in done.err.splitlines()[-1]


def test_help_names_the_options(report: Report) -> None:
    done = report("--help")
    assert done.code == 0
    assert "--json FILE" in done.out
    assert "--figure PNG" in done.out


def test_progress_shows_the_name_of_a_split_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich takes brackets in a string for commands."""
    shown: list[object] = []

    class Terminal:
        is_terminal = True

        def status(self, text: str) -> "Terminal":
            return self

        def __enter__(self) -> "Terminal":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, text: object) -> None:
            shown.append(text)

    monkeypatch.setattr(data_report, "console", lambda stderr: Terminal())
    with data_report.progress() as show:
        show("[red]\x1b[2J: 10 pairs")
    [text] = shown
    assert isinstance(text, Text)
    assert text.plain == r"[red]\x1b[2J: 10 pairs"
