"""Options of the search as a user types them: translate.py and evaluate.py."""

import json
import re
import shutil
from itertools import pairwise
from operator import eq
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import Command, Runs, Script, printed_lines

from seq2seq.app import foreign
from seq2seq.app.arguments import parser
from seq2seq.app.options import add_search_options
from seq2seq.data.shortlist import Shortlist

pytest_plugins = ["run_fixtures"]
DOCS = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


# -- rules ---


def test_the_length_of_translations_is_bounded(two_runs: Runs, translate: Command) -> None:
    asked = "\n".join(two_runs.sources)
    longest = printed_lines(
        translate(two_runs.layer, "--json-lines", "--max-length", "3", stdin=asked)
    )
    found = [json.loads(line)["translations"][0] for line in longest]
    assert {len(one["pieces"]) for one in found} == {3}
    assert {one["length"] for one in found} == {3}  # cut, so without an end
    shortest = printed_lines(
        translate(two_runs.layer, "--json-lines", "--min-length", 12, stdin=asked)
    )
    found = [json.loads(line)["translations"][0] for line in shortest]
    assert min(len(one["pieces"]) for one in found) >= 12
    one_per_piece = translate(two_runs.layer, "--json-lines", "--max-length", "0.5x+1", stdin=asked)
    for entry in map(json.loads, printed_lines(one_per_piece)):
        limit = len(entry["source_pieces"]) // 2 + 1
        assert len(entry["translations"][0]["pieces"]) <= limit


def test_a_length_penalty_without_effect_is_reported(
    two_runs: Runs, translate: Command, script: Script
) -> None:
    """With a beam of 1 there is one hypothesis: its score changes, its words do not."""
    asked, remark = "\n".join(two_runs.sources), ": chooses nothing with a beam of 1 (--beam N"
    plain, some, much = (
        translate(two_runs.none, "--beam", 1, *options, stdin=asked)
        for options in ((), ("--length-penalty", 0), ("--length-penalty", 9))
    )
    assert plain.out == some.out == much.out
    assert (plain.err, some.err.count(remark), much.err.count(remark)) == ("", 1, 1)
    for options in (("--scores", "--beam", 1), ("--beam", 2), ("--sample",)):
        done = translate(two_runs.none, "--length-penalty", 2, *options, stdin=asked)
        assert (done.code, done.err) == (0, "")
    done = script("evaluate")(two_runs.none, "--beam", 1, "--length-penalty", 2)
    assert (done.code, done.out.count(f"note: --length-penalty 2{remark}")) == (0, 1)


def test_no_ngram_occurs_twice(two_runs: Runs, translate: Command) -> None:
    asked = "\n".join(two_runs.sources)
    options = ("--json-lines", "--min-length", 12, "--no-repeat-ngram", 2)
    for entry in map(json.loads, printed_lines(translate(two_runs.layer, *options, stdin=asked))):
        pieces = entry["translations"][0]["pieces"]
        pairs = list(pairwise(pieces))
        assert len(set(pairs)) == len(pairs) >= 11


def test_a_shortlist_is_learnt_once_and_kept_in_the_run(
    two_runs: Runs, translate: Command, script: Script, tmp_path: Path
) -> None:
    run, asked = tmp_path / "run", "\n".join(two_runs.sources)
    shutil.copytree(two_runs.layer, run)
    exact = printed_lines(translate(run, stdin=asked))
    first = translate(run, "--shortlist", 30, stdin=asked)
    assert (run / "shortlist.npz").is_file()
    few = translate(run, "--shortlist", 1, "--jobs", 2, stdin=asked)
    assert (few.code, few.err) == (0, "")  # it is not learnt again
    found = [printed_lines(done) for done in (first, few)]
    assert len(found[0]) == len(found[1]) == len(exact)
    assert sum(map(eq, found[0], exact)) >= len(exact) // 2
    file = tmp_path / "results.json"
    done = script("evaluate")(run, "--shortlist", 30, "--json", file)
    assert done.code == 0
    (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert row["decode"]["shortlist"] == 30


def test_a_shortlist_of_another_vocabulary_is_refused(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_runs.layer, run)
    Shortlist(np.zeros((7, 3), np.int32), np.array([3], np.int32), False).save(
        run / "shortlist.npz"
    )
    done = translate(run, "--shortlist", 3, stdin="one dogs\n")
    assert done.code == 2
    assert "shortlist.npz: for 7 source pieces, not the run's " in done.err


def test_the_first_run_of_an_ensemble_has_the_shortlist(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("none", "layer")]
    for folder, run in zip(folders, (two_runs.none, two_runs.layer), strict=True):
        shutil.copytree(run, folder)
    done = translate("--ensemble", *folders, "--shortlist", 30, stdin="one dogs\n")
    assert done.code == 0
    assert [(folder / "shortlist.npz").exists() for folder in folders] == [True, False]


def test_a_shortlist_needs_the_text_that_the_run_was_trained_on(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other.en"
    shutil.copytree(two_runs.layer, run)
    other.write_text("some quite different words\n" * 240, encoding="utf-8")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    config["data"]["train"]["source"] = str(other)
    config["data"]["cleaning"]["drop_duplicates"] = False
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = translate(run, "--shortlist", 30, stdin="one dogs\n")
    assert done.code == 2
    assert not (run / "shortlist.npz").exists()
    assert "expected the text that the run was trained on" in done.err or "vocab" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shortlist", "101"], "--shortlist 101: expected at least 0 and at most 100"),
        (["--max-length", "long"], "--max-length long: expected 'Ax+B'"),
        (["--max-length", "9999x"], "--max-length 9999x: expected 'Ax+B' with A at most 1000"),
        (["--min-length", "-1"], "--min-length -1: expected at least 0"),
        (["--no-repeat-ngram", "-1"], "--no-repeat-ngram -1: expected at least 0"),
        (
            ["--max-length", "3", "--min-length", "4"],
            "--min-length 4: expected at most --max-length 3",
        ),
        (["--sample", "--temperature", "0"], "--temperature 0: expected more than 0"),
        (["--sample", "--temperature", "nan"], "--temperature nan: expected more than 0"),
        (["--sample", "--top-k", "-1"], "--top-k -1: expected at least 0"),
        (["--sample", "--seed", "-1"], "--seed -1: expected at least 0"),
        (["--sample", "--beam", "3"], "--beam 3: with --sample there is no beam"),
        (["--temperature", "2"], "--temperature 2: has an effect only with --sample"),
        (["--seed", "123456789"], "--seed 123456789: has an effect only with --sample"),
        (["--temperature", "1.23456789"], "--temperature 1.23456789: has an effect only"),
        (["--seed", "2"], "--seed 2: has an effect only with --sample"),
        (["--sample", "--n-best", "0"], "--n-best 0: expected at least 1"),
        (["--json-lines", "--scores"], "not allowed with argument"),
    ],
)
def test_options_at_odds_are_refused(
    two_runs: Runs, translate: Command, options: list[str], message: str
) -> None:
    done = translate(two_runs.layer, *options, stdin="one dogs\n")
    assert (done.code, done.out) == (2, "")
    assert message in done.err


# -- JSON lines ---


def test_json_lines_tell_everything_about_each_translation(
    two_runs: Runs, translate: Command
) -> None:
    asked = [two_runs.sources[0], "", *two_runs.sources[1:4]]
    done = printed_lines(
        translate(
            two_runs.layer,
            *("--json-lines", "--n-best", 3, "--length-penalty", 0.5),
            stdin="\n".join(asked),
        )
    )
    entries = [json.loads(line) for line in done]
    assert [entry["line"] for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry["source"] for entry in entries] == asked
    assert entries[1]["source_pieces"] == []
    assert entries[1]["translations"] == [
        {
            "text": "",
            "score": 0.0,
            "log_probability": 0.0,
            "length": 0,
            "pieces": [],
            "alignment": [],
        }
    ]
    for entry in (entries[0], *entries[2:]):
        assert "".join(entry["source_pieces"]).replace("▁", " ").strip() == entry["source"]
        assert len(entry["translations"]) == 3
        for found in entry["translations"]:
            assert found["length"] == len(found["pieces"]) + 1
            assert "".join(found["pieces"]).replace("▁", " ").strip() == found["text"]
            score = found["log_probability"] / found["length"] ** 0.5
            assert found["score"] == pytest.approx(score)
            assert len(found["alignment"]) == len(found["pieces"])
            assert set(found["alignment"]) <= set(range(len(entry["source_pieces"])))
    plain = printed_lines(
        translate(two_runs.layer, "--length-penalty", 0.5, stdin="\n".join(asked))
    )
    assert [entry["translations"][0]["text"] for entry in entries] == plain


def test_the_alignment_follows_the_words(two_runs: Runs, translate: Command) -> None:
    """A model that has learnt its corpus attends to the words in their order."""
    asked = "\n".join(two_runs.sources)
    entries = map(json.loads, printed_lines(translate(two_runs.layer, "--json-lines", stdin=asked)))
    ordered = [
        found == sorted(found)
        for entry in entries
        for found in [entry["translations"][0]["alignment"][:5]]
    ]
    assert sum(ordered) > len(ordered) / 2


# -- drawing ---


def test_draws_depend_on_the_seed_but_not_on_the_batch(
    two_runs: Runs, translate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = "\n".join(two_runs.sources)

    def drawn(*options: object) -> list[str]:
        return printed_lines(translate(two_runs.none, "--sample", *options, stdin=asked))

    first = drawn()
    assert drawn("--batch-size", 1) == drawn("--seed", 1) == drawn("--beam", 1) == first
    assert drawn("--seed", 2) != first
    monkeypatch.setattr(translate.module, "CHUNK_LINES", 7)
    assert drawn() == first
    greedy = printed_lines(translate(two_runs.none, "--beam", 1, stdin=asked))
    assert drawn("--top-k", 1) == drawn("--temperature", 0.01) == greedy != first


def test_more_draws_than_the_beam_can_be_asked_for(two_runs: Runs, translate: Command) -> None:
    options = ("--sample", "--n-best", 20, "--scores", "--temperature", 2)
    done = printed_lines(translate(two_runs.none, *options, stdin=two_runs.sources[0]))
    scores = [float(line.split("\t")[0]) for line in done]
    assert len(done) == 20
    assert scores == sorted(scores, reverse=True)
    assert len(set(done)) > 10


def test_evaluation_takes_the_options_too(two_runs: Runs, script: Script, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = script("evaluate")(
        two_runs.layer,
        *("--max-length", "2x+3", "--min-length", 2, "--no-repeat-ngram", 3, "--json", file),
    )
    assert done.code == 0
    (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert (row["decode"]["max_length"], row["decode"]["min_length"]) == ("2x+3", 2)
    assert row["decode"]["no_repeat_ngram"] == 3
    assert "sampling" not in row
    worse = script("evaluate")(two_runs.layer, "--sample", "--top-k", 3, "--json", file)
    assert worse.code == 0
    (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert row["sampling"] == {"temperature": 1.0, "top_k": 3, "seed": 1}


# -- other toolkits' options ---


def own_options() -> set[str]:
    """Return the options of this project's commands."""
    command = parser(None)
    add_search_options(command)
    return set(command._option_string_actions) | {
        *("--n-best", "--scores", "--json-lines", "--split", "--source", "--target")
    }


@pytest.mark.parametrize("option", [*foreign.OPTIONS, *foreign.SHORT])
def test_another_toolkits_option_is_answered_with_ours(
    option: str, two_runs: Runs, translate: Command
) -> None:
    done = translate(two_runs.layer, option, 5, stdin="one dogs\n")
    assert (done.code, done.out) == (2, "")
    name = foreign.SHORT.get(option, option)
    answer = foreign.OPTIONS[name]
    for nothing in ("no such option; ", "no option: "):
        answer = answer.removeprefix(nothing)
    instead = "" if answer != foreign.OPTIONS[name] else "instead: "
    assert f"{option}: not an option here; {instead}{answer}\n" in done.err


@pytest.mark.parametrize(
    "given", [["--beam_size", "5"], ["--beam-size=5"], ["--max_len_a=1.2", "--max_len_b", "3"]]
)
def test_underscores_and_values_do_not_hide_an_option(given: list[str], translate: Command) -> None:
    done = translate(*given)
    assert done.code == 2
    assert f"{given[0]}: not an option here; instead: --" in done.err


def test_the_answers_name_options_that_exist() -> None:
    named = re.findall(r"--[a-z][a-z-]*", " ".join(foreign.OPTIONS.values()))
    assert set(named) <= own_options()
    assert not own_options() & {*foreign.OPTIONS, *foreign.SHORT}
    assert set(foreign.SHORT.values()) <= foreign.OPTIONS.keys()


def test_the_documentation_has_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8").partition("## Coming from Marian or fairseq")[2]
    text = text.partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+`) \| (.+) \|$", text, re.MULTILINE)
    found = {option: answer for cell, answer in rows for option in re.findall("`([^`]+)`", cell)}
    assert {option: answer.replace("`", "") for option, answer in found.items()} == (
        foreign.OPTIONS | {short: foreign.OPTIONS[name] for short, name in foreign.SHORT.items()}
    )


@pytest.mark.parametrize("command", ["translate", "evaluate", "compare"])
def test_a_part_of_an_options_name_is_no_option(
    command: str, two_runs: Runs, script: Script
) -> None:
    part = "--ou" if command == "compare" else "--bea"
    done = script(command)(two_runs.layer, part, "1")
    assert done.code == 2
    assert f"unrecognized arguments: {part}" in done.err
