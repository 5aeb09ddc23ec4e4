"""evaluate.py with several references, other systems' translations, and sacreBLEU's own command."""

import errno
import json
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from runs import Command, Runs, Script

from seq2seq.app.evaluate import changed_text
from seq2seq.app.evaluation_table import table
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def evaluate(script: Script) -> Command:
    return script("evaluate")


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def scored(evaluate: Command, file: Path, *arguments: object) -> dict[str, Any]:
    """Return the JSON of an evaluation that succeeds."""
    done = evaluate(*arguments, "--json", file)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_several_references(two_runs: Runs, evaluate: Command, tmp_path: Path) -> None:
    source = write(tmp_path / "a.en", two_runs.sources)
    other = [line.replace("看见", "看到了") for line in two_runs.references]
    files = [write(tmp_path / "a.zh", two_runs.references), write(tmp_path / "b.zh", other)]
    found = scored(
        evaluate,
        tmp_path / "a.json",
        *(two_runs.none, "--beam", 1, "--source", source, "--reference", *files),
        *("--save", tmp_path / "saved"),
    )
    assert found["references"] == [str(file) for file in files]
    (row,) = found["runs"]
    assert "nrefs:2|" in row["bleu_signature"]
    hypotheses = next((tmp_path / "saved").glob("1-*")).read_text(encoding="utf-8").splitlines()
    references = [two_runs.references, other]
    assert row["bleu"] == sacrebleu.corpus_bleu(hypotheses, references, tokenize="zh").score
    assert row["bleu"] > sacrebleu.corpus_bleu(hypotheses, [other], tokenize="zh").score


def test_a_reference_of_another_length_is_named(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    source, short = write(tmp_path / "a", ["x", "y"]), write(tmp_path / "b", ["x"])
    done = evaluate(two_runs.none, "--source", source, "--reference", source, short)
    assert done.code == 2
    assert f"{source} has 2 lines, {short} has 1; expected the same number" in done.err


def test_other_systems_stand_in_the_same_table(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    peer = write(tmp_path / "peer.txt", [line.replace("狗", "猫") for line in two_runs.references])
    perfect = write(tmp_path / "a=b.txt", two_runs.references)
    found = scored(
        evaluate, tmp_path / "a.json", two_runs.none, "--beam", 1,
        "--hypotheses", f"Moses={peer}", perfect,
    )  # fmt: skip
    names = [str(two_runs.none), "Moses", str(perfect)]
    assert [row["run"] for row in found["runs"]] == names
    assert found["runs"][1]["hypotheses"] == str(peer)
    assert found["runs"][2]["bleu"] == pytest.approx(100)
    for test in ("paired_bootstrap", "paired_bootstrap_chrf"):
        assert [row["name"] for row in found[test]["runs"]] == names
        assert found[test]["runs"][2]["p_value"] < 0.05
    out = evaluate(two_runs.none, "--beam", 1, "--hypotheses", f"Moses={peer}").out
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][0] == "system"
    assert lines[3][0] == "Moses"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["short"],
            "--hypotheses {tmp}/short: has 2 lines; expected 30, one for each line of test",
        ),
        (["missing"], "{tmp}/missing: no such file"),
        (["short", "short"], "--hypotheses {tmp}/short: a system is already named {tmp}/short"),
    ],
)
def test_translations_that_do_not_fit_are_named(
    files: list[str], message: str, two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    write(tmp_path / "short", ["a", "b"])
    done = evaluate(
        two_runs.none, "--beam", 1, "--hypotheses", *(tmp_path / file for file in files)
    )
    assert (done.code, done.out) == (2, "")
    assert message.format(tmp=tmp_path) in done.err
    assert done.err.startswith("evaluate.py: "), "nothing is translated first"


def test_two_systems_with_one_name_are_refused(
    two_runs: Runs, evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none, layer = two_runs.none, two_runs.layer
    named = f"a + b={write(tmp_path / 'other', two_runs.references)}"
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(none)
    (tmp_path / "a + b").symlink_to(layer)
    for arguments, said in (
        ([none, layer, "--ensemble", none], "expected two runs or more"),
        ([none, "--ensemble", none], f"--ensemble {none}: expected two runs or more"),
        (["--ensemble", none], "expected two runs or more"),
        (["--ensemble", "a", "b", "--hypotheses", named], "a system is already named a + b;"),
        (["a + b", "--ensemble", "a", "b"], "--ensemble: a run is already named a + b;"),
    ):
        done = evaluate(*arguments)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert done.err.count("\n") == 1
        assert done.err.startswith("evaluate.py: "), "nothing is translated first"


def printed_by(command: str) -> str:
    """Run one line of sacreBLEU, as it is printed, with 8 decimals; return what it prints."""
    program, *arguments = shlex.split(command)
    assert program == "sacrebleu"
    line = [sys.executable, "-m", "sacrebleu", *arguments, "-w", "8"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def repeated(command: str) -> dict[str, float]:
    """Run one line of sacreBLEU; return its scores by metric."""
    found = json.loads(printed_by(command))
    scores = found if isinstance(found, list) else [found]
    return {score["name"]: score["score"] for score in scores}


def test_sacrebleus_own_command_repeats_the_figures(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    """Also where a reference is not in NFC, and where case is ignored."""
    source = write(tmp_path / "a.en", two_runs.sources)
    decomposed = [unicodedata.normalize("NFD", f"Élan {x}") for x in two_runs.references]
    reference = write(tmp_path / "a.zh", decomposed)
    options = ("--lowercase", "--tokenize", "intl", "--chrf++", "--save", tmp_path / "my files")
    found = scored(
        evaluate,
        tmp_path / "a.json",
        *(two_runs.none, "--beam", 1, "--source", source, "--reference", reference, *options),
    )
    (row,), (command, words) = found["runs"], found["sacrebleu"]
    assert {k: round(v, 8) for k, v in repeated(command).items()} == {
        "BLEU": round(row["bleu"], 8),
        "chrF2": round(row["chrf"], 8),
        "TER": round(row["ter"], 8),
    }
    assert repeated(words) == {"chrF2++": round(row["chrf++"], 8)}
    assert "|case:lc|eff:no|tok:intl|" in row["bleu_signature"]
    assert (found["tokenizer"], found["lowercase"]) == ("intl", True)


def test_the_command_of_several_systems_tests_them_too(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    options = ("--save", tmp_path / "saved", "--json", tmp_path / "a.json")
    done = evaluate(two_runs.none, two_runs.layer, "--beam", 1, *options)
    command = done.out.splitlines()[-1].strip()
    assert "--paired-bs" in command
    theirs = printed_by(command)
    row = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    for test, key in (("paired_bootstrap", "bleu"), ("paired_bootstrap_chrf", "chrf")):
        first, second = row[test]["runs"]
        for found in (first, second):
            mean, interval = found["mean"], found["interval"]
            assert f"{found[key]:.8f} ({mean:.8f} ± {interval:.8f})" in theirs
        assert f"(p = {second['p_value']:.4f})" in theirs


def test_what_is_tested_are_the_scores_of_the_table(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    """Of all references, and without regard to case where that is asked for."""
    source = write(tmp_path / "source", two_runs.sources)
    one = [f"the first reference of line {i} is this" for i in range(len(two_runs.sources))]
    other = [f"another one for number {i} reads so" for i in range(len(two_runs.sources))]
    files = [write(tmp_path / "one", one), write(tmp_path / "other", other)]
    right = [(one, other)[i % 2][i].upper() for i in range(len(one))]
    found = scored(
        evaluate,
        tmp_path / "a.json",
        *(two_runs.none, "--beam", 1, "--source", source, "--reference", *files),
        *("--hypotheses", write(tmp_path / "right", right), "--lowercase", "--tokenize", "13a"),
    )
    assert found["runs"][1]["bleu"] == pytest.approx(100)
    for test, key in (("paired_bootstrap", "bleu"), ("paired_bootstrap_chrf", "chrf")):
        tested = [row[key] for row in found[test]["runs"]]
        assert tested == pytest.approx([row[key] for row in found["runs"]])


def test_each_column_of_the_table_has_its_own_figure() -> None:
    rows = [
        {"run": name, "decode": {}, "bleu": first, "chrf": first + 1, "ter": first + 2}
        for name, first in (("a", 10.0), ("b", 20.0))
    ]
    results = {"test_set": "test", "sentences": 3, "runs": rows}
    tests = [
        {
            "runs": [
                {"mean": first + n, "interval": n / 10 + first / 100, "p_value": p}
                for n, p in ((1, None), (2, first / 100))
            ]
        }
        for first in (30.0, 40.0)
    ]
    found = table(results, tests)
    assert {str(column.header): list(column.cells) for column in found.columns} == {
        "run": ["a", "b"],
        "BLEU": ["10.00", "20.00"],
        "chrF": ["11.00", "21.00"],
        "TER": ["12.00", "22.00"],
        "95% interval": ["31.00 ± 0.40", "32.00 ± 0.50"],
        "p": ["", "0.3000"],
        "p (chrF)": ["", "0.4000"],
    }


def test_text_of_an_older_run_that_stored_no_checksum_is_not_said_to_have_changed(
    two_runs: Runs, tmp_path: Path
) -> None:
    texts = two_runs.sources, two_runs.references
    content = json.loads(Run(two_runs.none).results_file.read_text(encoding="utf-8"))
    older = Run(tmp_path)
    for missing in ([], ["source_sha256"], ["source_sha256", "reference_sha256"]):
        for key in missing:
            content["test"].pop(key, None)
        older.results_file.write_text(json.dumps(content), encoding="utf-8")
        assert changed_text("a", older, "test", *texts) == []
    assert changed_text("a", older, "valid", *texts) == [
        "a: the valid source and reference have changed since results.json was written; its scores"
        " are those of the earlier text"
    ]


def test_the_words_below_the_table(two_runs: Runs, evaluate: Command, tmp_path: Path) -> None:
    done = evaluate(two_runs.none, "--beam", 1, "--tokenize", "none", "--lowercase")
    assert "BLEU on what spaces separate (tokenizer none), without regard to case" in done.out
    assert "note: 30 of 30 references have fewer than 4 tokens" in done.out
    assert "(--save DIR writes these files)" in done.out


def test_an_unknown_tokenizer_is_refused(two_runs: Runs, evaluate: Command) -> None:
    done = evaluate(two_runs.none, "--tokenize", "moses")
    assert done.code == 2
    assert "--tokenize moses: expected one of 13a, intl" in done.err


def test_scores_are_printed_though_they_cannot_be_written(
    two_runs: Runs, evaluate: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("seq2seq.app.evaluate.write_text", fail)
    done = evaluate(two_runs.none, "--beam", 1, "--json", tmp_path / "a.json")
    assert done.code == 1
    assert "a.json: No space left on device" in done.err
    assert "BLEU" in done.out
    assert str(two_runs.none) in done.out
