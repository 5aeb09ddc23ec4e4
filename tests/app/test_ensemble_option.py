"""Several runs as one: --ensemble."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from runs import Command, Runs, Script, printed_lines, settings, trained, translation

from seq2seq.config import DecodeConfig, TokenizerConfig
from seq2seq.runs.folder import Run

pytest_plugins = ["run_fixtures"]


def right(translations: list[str], sources: list[str]) -> int:
    """Return how many translations are correct."""
    return sum(map(str.__eq__, translations, map(translation, sources)))


def test_an_ensemble_translates_with_the_mean_of_its_members(
    two_runs: Runs, translate: Command
) -> None:
    asked = "\n".join(two_runs.sources)
    weak, strong = (
        printed_lines(translate(run, stdin=asked)) for run in (two_runs.none, two_runs.layer)
    )
    both = printed_lines(translate("--ensemble", two_runs.none, two_runs.layer, stdin=asked))
    assert both == printed_lines(
        translate("--ensemble", two_runs.layer, two_runs.none, stdin=asked)
    )
    assert right(weak, two_runs.sources) < right(both, two_runs.sources)
    assert right(both, two_runs.sources) > 0.8 * right(strong, two_runs.sources)
    twice = printed_lines(translate("--ensemble", two_runs.none, two_runs.none, stdin=asked))
    assert twice == weak == printed_lines(translate("--ensemble", two_runs.none, stdin=asked))


def test_an_ensemble_takes_the_options_of_the_search(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    png = tmp_path / "map.png"
    options = ("--n-best", 3, "--scores", "--min-length", 9, "--attention", png)
    found = printed_lines(
        translate("--ensemble", two_runs.none, two_runs.layer, *options, stdin="one dogs\n")
    )
    assert len(found) == 3
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = printed_lines(
        translate("--sample", "--ensemble", two_runs.none, two_runs.layer, stdin="one dogs\n")
    )
    assert len(drawn) == 1


def test_one_run_or_an_ensemble_has_to_be_named(two_runs: Runs, translate: Command) -> None:
    for given in ([], [two_runs.none, "--ensemble", two_runs.layer]):
        done = translate(*given, stdin="one dogs\n")
        assert (done.code, done.out) == (2, "")
        assert "expected the folder of a run, or --ensemble RUN RUN ..." in done.err


def test_an_ensemble_is_scored_as_one_more_system(
    two_runs: Runs, script: Script, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    both = [two_runs.none, two_runs.layer]
    done = script("evaluate")(two_runs.none, "--ensemble", *both, "--json", file)
    assert done.code == 0, done.err
    results = json.loads(file.read_text(encoding="utf-8"))
    name = f"{two_runs.none} + {two_runs.layer}"
    assert [row["run"] for row in results["runs"]] == [str(two_runs.none), name]
    one, ensemble = (row["bleu"] for row in results["runs"])
    assert ensemble > one
    assert results["paired_bootstrap"]["runs"][1]["p_value"] < 0.05
    alone = script("evaluate")("--ensemble", *both, "--json", file)
    assert alone.code == 0, alone.err
    (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    assert (row["run"], row["bleu"]) == (name, ensemble)
    nothing = script("evaluate")()
    assert nothing.code == 2
    assert "expected the folder of a run, or --ensemble RUN RUN ..." in nothing.err


def test_the_first_run_of_an_ensemble_says_how_to_search(
    two_runs: Runs, script: Script, tmp_path: Path
) -> None:
    """The search that is stored beside the scores is the one that found the translations."""
    first, file = tmp_path / "runs" / "first", tmp_path / "results.json"
    shutil.copytree(two_runs.layer, first)
    config = Run(first).config()
    longest = DecodeConfig(beam_size=2, max_length="1")
    Run(first).save_config(replace(config, decode=longest))
    said, characters = [], []
    for both in ([first, two_runs.none], [two_runs.none, first]):
        saved = tmp_path / both[0].name
        done = script("evaluate")("--ensemble", *both, "--json", file, "--save", saved)
        assert done.code == 0, done.err
        (row,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
        said.append(row["decode"]["max_length"])
        [translations] = saved.glob("1-*")
        characters.append(len(translations.read_text(encoding="utf-8")))
    assert said == ["1", Run(two_runs.none).config().decode.max_length]
    assert characters[0] < 0.8 * characters[1]


def test_runs_with_other_tokenizers_are_no_ensemble(
    two_runs: Runs, translate: Command, tmp_path: Path
) -> None:
    config = settings(two_runs.data, updates=1, tokenizer=TokenizerConfig(vocab_size=50))
    other = trained(tmp_path / "other", config)
    done = translate("--ensemble", two_runs.none, other, stdin="one dogs\n")
    assert (done.code, done.out) == (2, "")
    assert f"{other}: has other tokenizers than {two_runs.none}; expected runs" in done.err
