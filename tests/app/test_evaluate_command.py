"""scripts/evaluate.py as a user runs it: scores of sacreBLEU, and fair comparisons of runs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from conftest import final_results
from runs import Command, Runs, Script, settings, trained
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest, Result
from typed import present

from seq2seq.config import Config, DataConfig, SplitConfig
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def evaluate(script: Script) -> Command:
    return script("evaluate")


@pytest.fixture
def translated(two_runs: Runs, script: Script) -> dict[Path, list[str]]:
    """Return each run's translations of the test set, with a beam of 3."""
    translate = script("translate")
    return {
        run: translate(run, "--beam", 3, stdin="\n".join(two_runs.sources)).out.splitlines()
        for run in (two_runs.none, two_runs.layer)
    }


def relabelled(two_runs: Runs, folder: Path, **changes: Any) -> Path:
    """Copy a run with another corpus in its configuration; return the copy's folder."""
    shutil.copytree(two_runs.none, folder)
    run = Run(folder)
    config: Config = run.config()
    run.save_config(replace(config, data=replace(config.data, **changes)))
    return folder


# -- one run ---


def test_scores_equal_sacrebleu_on_the_translations(
    two_runs: Runs, evaluate: Command, translated: dict[Path, list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "scores.json"
    done = evaluate(two_runs.none, "--beam", 3, "--json", file)
    assert done.code == 0, done.err
    results = json.loads(file.read_text(encoding="utf-8"))
    (row,) = results["runs"]
    hypotheses = translated[two_runs.none]
    bleu = sacrebleu.corpus_bleu(hypotheses, [two_runs.references], tokenize="zh")
    assert row["bleu"] == bleu.score
    assert row["chrf"] == sacrebleu.corpus_chrf(hypotheses, [two_runs.references]).score
    assert 5 < row["bleu"] < 95
    assert (results["test_set"], results["sentences"], row["run"]) == (
        "test",
        30,
        str(two_runs.none),
    )
    assert row["decode"] == {
        "beam_size": 3,
        "min_length": 0,
        "no_repeat_ngram": 0,
        "length_penalty": 1.0,
        "max_length": "2.0x+10",
        "batch_size": None,
        "replace_unk": False,
        "shortlist": 0,
    }
    assert "paired_bootstrap" not in results


def test_scores_equal_those_of_sacrebleus_command_line(
    two_runs: Runs, evaluate: Command, translated: dict[Path, list[str]], tmp_path: Path
) -> None:
    for name, text in (
        ("reference", two_runs.references),
        ("hypotheses", translated[two_runs.none]),
    ):
        (tmp_path / name).write_text("".join(line + "\n" for line in text), encoding="utf-8")
    theirs = subprocess.run(
        [
            sys.executable,
            "-m",
            "sacrebleu",
            tmp_path / "reference",
            "-i",
            tmp_path / "hypotheses",
            "-m",
            "bleu",
            "chrf",
            "-tok",
            "zh",
            "-w",
            "6",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    bleu, chrf = json.loads(theirs.stdout)
    evaluate(two_runs.none, "--beam", 3, "--json", tmp_path / "ours.json")
    (row,) = json.loads((tmp_path / "ours.json").read_text())["runs"]
    assert [round(row["bleu"], 6), round(row["chrf"], 6)] == [bleu["score"], chrf["score"]]
    assert row["bleu_signature"] == f"BLEU|{bleu['signature']}"
    assert row["chrf_signature"] == f"chrF2|{chrf['signature']}"


def test_evaluate_gives_the_scores_that_training_stored(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    results = final_results(Run(two_runs.none))
    for split in ("test", "valid"):
        evaluate(two_runs.none, "--split", split, "--json", tmp_path / "a.json")
        (row,) = json.loads((tmp_path / "a.json").read_text())["runs"]
        assert {key: row[key] for key in results[split]} == results[split]


def test_the_table_shows_scores_and_signatures(two_runs: Runs, evaluate: Command) -> None:
    done = evaluate(two_runs.layer)
    assert done.code == 0
    title, headings, row, bleu, chrf, ter, words, compared, _, command = (
        line.strip() for line in done.out.splitlines()
    )
    assert title == "test, 30 sentences"
    assert headings.split() == ["run", "BLEU", "chrF", "TER"]
    assert row.split() == [str(two_runs.layer), "100.00", "100.00", "0.00"]
    assert bleu.startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:zh|")
    assert chrf.startswith("chrF2|nrefs:1|")
    assert ter.startswith("TER|nrefs:1|case:lc|tok:tercom|norm:yes|punct:yes|asian:yes|")
    assert words == (
        "BLEU on Chinese characters, and words of other scripts (tokenizer zh), with regard to case"
    )
    assert compared.startswith("systems and references are compared in Unicode NFC, with HTML")
    assert command.startswith(
        "sacrebleu reference.txt -i 1-layer-lstm-tiny-seed1.txt -m bleu chrf ter -tok zh"
    )


def test_any_split_of_the_corpus_can_be_scored(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    for split, count in (("valid", 20), ("test_other", 10), ("train", 240)):
        assert (
            evaluate(
                two_runs.layer, "--split", split, "--beam", 1, "--json", tmp_path / "a.json"
            ).code
            == 0
        )
        results = json.loads((tmp_path / "a.json").read_text())
        assert (results["test_set"], results["sentences"]) == (split, count)
        assert results["runs"][0]["decode"]["beam_size"] == 1
    done = evaluate(two_runs.layer, "--split", "tset")
    assert (done.code, done.out) == (2, "")
    assert "--split tset: " in done.err
    expected = "expected one of train, valid, test, test_other; did you mean test?"
    assert f"has no such split; {expected} (any text: --source FILE" in done.err


# -- own text ---


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_users_own_text_can_be_scored(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.en", ["one dogs see two cats", "", "two cats like two dogs"])
    reference = write(tmp_path / "a.zh", ["一狗看见二猫。", "", "二猫喜欢二狗。"])
    done = evaluate(
        two_runs.layer, "--source", source, "--reference", reference, "--json", tmp_path / "a.json"
    )
    assert done.code == 0
    results = json.loads((tmp_path / "a.json").read_text())
    assert results["runs"][0]["bleu"] == pytest.approx(100)
    assert (results["test_set"], results["sentences"]) == (str(source), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "a"], "--source {tmp}/a: expected --reference FILE with it"),
        (["--reference", "a"], "--reference {tmp}/a: expected --source FILE with it"),
        (
            ["--split=valid", "--source", "two", "--reference", "two"],
            "--split valid: --source {tmp}/two takes its place; leave one of them out",
        ),
        (
            ["--source", "two", "--reference", "three"],
            "two has 2 lines, {tmp}/three has 3; expected the same number",
        ),
        (["--source", "bad", "--reference", "two"], "bad:2: invalid UTF-8 at byte 1 (0xff)"),
        (["--source", "nothing", "--reference", "two"], "nothing: no such file"),
        (
            ["--source", "empty", "--reference", "empty"],
            "empty: empty; expected one sentence on each line",
        ),
    ],
)
def test_invalid_text_files_are_named(
    two_runs: Runs, evaluate: Command, tmp_path: Path, options: list[str], message: str
) -> None:
    write(tmp_path / "two", ["a", "b"])
    write(tmp_path / "three", ["a", "b", "c"])
    write(tmp_path / "empty", [])
    (tmp_path / "bad").write_bytes(b"a\n\xff\n")
    done = evaluate(two_runs.layer, *(o if o.startswith("--") else tmp_path / o for o in options))
    assert (done.code, done.out) == (2, "")
    assert message.format(tmp=tmp_path) in done.err.splitlines()[-1]


# -- several runs ---


def test_runs_are_compared_by_paired_bootstrap(
    two_runs: Runs, evaluate: Command, translated: dict[Path, list[str]], tmp_path: Path
) -> None:
    done = evaluate(two_runs.none, two_runs.layer, "--beam", 3, "--json", tmp_path / "a.json")
    assert done.code == 0
    results = json.loads((tmp_path / "a.json").read_text())
    assert [row["run"] for row in results["runs"]] == [str(two_runs.none), str(two_runs.layer)]
    named: list[tuple[str, Sequence[str]]] = [
        (str(run), lines) for run, lines in translated.items()
    ]
    metric = BLEU(tokenize="zh", references=[two_runs.references])
    signatures, theirs = PairedTest(
        named, {"BLEU": metric}, references=[two_runs.references], test_type="bs"
    )()
    expected = [r for r in theirs["BLEU"] if isinstance(r, Result)]
    first, other = results["paired_bootstrap"]["runs"]
    assert results["paired_bootstrap"]["signature"] == str(signatures["BLEU"])
    assert (first["bleu"], other["bleu"]) == tuple(r.score for r in expected)
    assert first["p_value"] is None
    assert other["p_value"] == present(expected[1].p_value) < 0.05
    assert (other["mean"], other["interval"]) == (expected[1].mean, expected[1].ci)
    lines = done.out.splitlines()
    assert lines[1].split() == [
        *("run", "BLEU", "chrF", "TER", "95%", "interval", "p", "p", "(chrF)"),
    ]
    assert lines[2].split() == [
        str(two_runs.none),
        f"{first['bleu']:.2f}",
        f"{results['runs'][0]['chrf']:.2f}",
        f"{results['runs'][0]['ter']:.2f}",
        f"{first['mean']:.2f}",
        "±",
        f"{first['interval']:.2f}",
    ]
    chrf = results["paired_bootstrap_chrf"]["runs"][1]
    assert lines[3].split()[-2:] == [f"{other['p_value']:.4f}", f"{chrf['p_value']:.4f}"]
    assert any(line.startswith("p: probability of a difference") for line in lines)


def test_a_run_is_not_compared_with_itself(two_runs: Runs, evaluate: Command) -> None:
    for twin in (
        two_runs.none,
        f"{two_runs.none}/",
        two_runs.none.parent / "." / "x" / ".." / two_runs.none.name,
    ):
        done = evaluate(two_runs.none, twin)
        assert (done.code, done.out) == (2, "")
        assert "a run is named twice" in done.err


def test_other_references_cannot_be_compared(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    data: DataConfig = two_runs.data
    lines = two_runs.references[::-1]
    target = str(write(tmp_path / "test.zh", lines))
    other = relabelled(two_runs, tmp_path / "other", test=SplitConfig(data.test.source, target))
    done = evaluate(two_runs.none, other)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"evaluate.py: {other}: has other test references than")
    assert (
        evaluate(
            two_runs.none, other, "--source", data.test.source, "--reference", data.test.target
        ).code
        == 0
    )


@pytest.mark.parametrize("changed", [["source"], ["reference"], ["source", "reference"]])
def test_text_that_has_changed_since_the_training_is_reported(
    changed: list[str], two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    """The table has the scores of the present text, results.json those of the earlier one."""
    texts = {"source": two_runs.sources, "reference": two_runs.references}
    files = [
        str(write(tmp_path / side, lines[::-1] if side in changed else lines))
        for side, lines in texts.items()
    ]
    other = relabelled(two_runs, tmp_path / "other", test=SplitConfig(*files))
    done = evaluate(other, "--beam", 1, "--json", tmp_path / "a.json")
    verb = "has" if len(changed) == 1 else "have"
    remark = (
        f"{other}: the test {' and '.join(changed)} {verb} changed since results.json was written;"
        " its scores are those of the earlier text"
    )
    assert done.code == 0
    assert done.out.count(f"note: {remark}\n") == 1
    assert json.loads((tmp_path / "a.json").read_text())["remarks"] == [remark]
    Run(other).results_file.write_text("{}")  # damaged: it is not needed here
    done = evaluate(other, "--beam", 1)
    assert (done.code, "changed since" in done.out) == (0, False)


def test_text_that_is_as_it_was_is_not_reported(two_runs: Runs, evaluate: Command) -> None:
    assert "changed since" not in evaluate(two_runs.none, "--beam", 1).out


def test_other_languages_cannot_be_compared(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    other = relabelled(two_runs, tmp_path / "other", target_language="en")
    done = evaluate(two_runs.none, other)
    assert (done.code, done.out) == (2, "")
    assert f"{other}: translates into en, {two_runs.none} into zh" in done.err


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("zh", "zh"), ("ja", "ja-mecab"), ("de", "13a"), ("en", "13a")]
)
def test_the_target_language_determines_the_bleu_tokenizer(
    two_runs: Runs, evaluate: Command, tmp_path: Path, language: str, tokenizer: str
) -> None:
    run = relabelled(two_runs, tmp_path / "run", target_language=language)
    done = evaluate(run, "--json", tmp_path / "a.json")
    assert done.code == 0, done.err
    (row,) = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert f"|tok:{tokenizer}" in row["bleu_signature"]


def test_a_missing_run_or_split_is_named(two_runs: Runs, evaluate: Command, tmp_path: Path) -> None:
    assert "no such run" in evaluate(tmp_path).err
    config = settings(replace(two_runs.data, test=SplitConfig()), updates=1)
    run = trained(tmp_path / "run", config)
    done = evaluate(run)
    assert done.code == 2
    assert f"--split test: {run} has no such split" in done.err
    assert "expected one of train, valid, test_other" in done.err
    assert evaluate(run, "--split", "valid").code == 0


def test_without_its_corpus_other_text_can_be_scored(
    two_runs: Runs, evaluate: Command, tmp_path: Path
) -> None:
    """A run that was copied to another machine has no corpus there: the error names the way out."""
    gone = SplitConfig(str(tmp_path / "gone.en"), two_runs.data.test.target)
    run = relabelled(two_runs, tmp_path / "run", test=gone)
    done = evaluate(run)
    assert (done.code, done.out) == (2, "")
    assert f"data.test.source={tmp_path / 'gone.en'}: no such file; " in done.err
    assert done.err.endswith("; --source FILE --reference FILE scores any other text\n")


def test_help_describes_every_option(evaluate: Command) -> None:
    done = evaluate("--help")
    assert done.code == 0
    for part in (
        "--split NAME",
        "--source FILE",
        "--reference FILE",
        "--json FILE",
        "--beam N",
        "--batch-size N",
        "--length-penalty X",
        "--precision",
        "--device",
        "--threads",
        "paired bootstrap",
    ):
        assert part in done.out
