"""scripts/prepare_data.py as a user runs it: once as a process, else in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import Script

pytest_plugins = ["run_fixtures"]

ROOT = Path(__file__).resolve().parents[2]


def run(tmp_path: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("HYDRA_FULL_ERROR", "COLUMNS")
    }
    environment.pop("SEQ2SEQ_DATA_MIRROR", None)
    return subprocess.run(
        [sys.executable, "scripts/prepare_data.py", f"data.root={tmp_path}/prepared", *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
    )


def files(tmp_path: Path, src: bytes, tgt: bytes) -> list[str]:
    paths = []
    for side, text in (("source", src), ("target", tgt)):
        path = tmp_path / side
        path.write_bytes(text)
        paths.append(f"data.train.{side}={path}")
    return ["data=files", "data.name=mine", "data.target_language=de", *paths]


def test_it_shows_the_counts_of_cleaning_and_the_steps_of_a_sentence(tmp_path: Path) -> None:
    lines = [f"the dog\u00a0no {i} runs" for i in range(120)]
    src = "\n".join([*lines, lines[0], ""]).encode() + b"\n"
    tgt = "\n".join([*(line.upper() for line in lines), lines[0].upper(), "x"]).encode() + b"\n"
    done = run(
        tmp_path,
        *files(tmp_path, src, tgt),
        f"data.valid.source={tmp_path}/source",
        f"data.valid.target={tmp_path}/target",
        "data.target_language=en",
        "tokenizer.vocab_size=70",
        "model.embedding_size=24",
    )
    assert done.returncode == 0, done.stderr
    rows = {
        line.split()[0]: line.split()[1:]
        for line in done.stdout.splitlines()
        if line[:5] in ("train", "valid")
    }
    train, valid = ([int(cell) for cell in rows[name]] for name in ("train", "valid"))
    assert train == [122, 1, 0, 0, 1, 0, 120]
    assert valid == [122, 0, 0, 0, 0, 0, 122]
    [changed] = [line for line in done.stdout.splitlines() if "U+00A0" in line]
    assert changed.split() == ["U+00A0", "no-break", "space", "U+0020", "space", "242", "242"]
    shown = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in done.stdout.splitlines()
        if line.startswith("  ")
    }
    ids = shown["ids"].strip("[]").split(", ")
    assert len(shown["pieces"].split()) == len(ids)
    assert shown["decoded"] == shown["text"].replace("\u00a0", " ")
    assert shown["embeddings"].startswith(f"(1, {len(ids) + 1}, 24)")
    folder = Path(done.stdout.splitlines()[-1])
    assert (folder / "manifest.json").is_file()
    assert not list(ROOT.glob("outputs/mine*"))


@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        (b"a\nb\n", b"x\n", "source has 2 lines, "),
        (b"", b"", "source: empty"),
        (b"a\n\xff\n", b"x\ny\n", "source:2: invalid UTF-8"),
    ],
)
def test_bad_text_is_one_message_and_exit_code_2(
    script: Script, tmp_path: Path, src: bytes, tgt: bytes, message: str
) -> None:
    done = script("prepare")(f"data.root={tmp_path}/prepared", *files(tmp_path, src, tgt))
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_an_unknown_corpus_names_known_ones(script: Script) -> None:
    done = script("prepare")("data=multi30k_en")
    assert done.code == 2
    assert "did you mean multi30k_fr_en? expected multi30k_fr_en, multi30k_en_" in done.err
    assert done.err.endswith(" or another of the 12 that --help lists\n")
    assert "Traceback" not in done.err


def test_help_describes_every_option(script: Script) -> None:
    done = script("prepare")("--help")
    assert done.code == 0
    for part in (
        "scripts/prepare_data.py data=multi30k_de_en",
        "data.mirror=DIR",
        "tokenizer=word",
        "tatoeba_en_zh",
    ):
        assert part in done.out
