"""Comparisons count how many there are."""

from pathlib import Path
from typing import Any

import pytest
from short_answers import scored_runs as runs
from short_answers import short_answer
from synthetic import group, record

from seq2seq.report import norms as summary
from seq2seq.report.experiments.verdict import Finding, Verdict, correct, difference, less_than_half
from seq2seq.report.statistics import Outcome, outcome, outcomes
from seq2seq.runs.examples import write_lines
from seq2seq.runs.folder import Run
from seq2seq.translation import scores as of_text
from seq2seq.translation.scores import Comparison


def test_the_best_of_many_equal_norms_is_not_significantly_better() -> None:
    """Alone its difference from the worst would be; but the two were chosen among four."""
    scores = {
        "none": (30.0, 31.0, 32.0),
        "batch": (30.6, 30.9, 32.5),
        "layer": (31.2, 32.6, 32.7),
        "rms": (30.2, 31.9, 31.4),
    }
    by_norm = {norm: dict(enumerate(values)) for norm, values in scores.items()}
    assert outcome(difference(by_norm["layer"], by_norm["none"])) is Outcome.supported
    text, table = short_answer(group(runs(scores)))
    assert "The best" not in text
    assert "The difference of batch, rms and none from layer is not significant." in text
    assert table["layer"]["significant?"].startswith("no")
    alone, table = short_answer(group(runs({norm: scores[norm] for norm in ("none", "layer")})))
    assert "The best, layer, is significantly better than none." in alone
    assert table["layer"]["significant?"] == "yes, better"


def test_all_pairs_count_where_the_best_is_known_afterwards() -> None:
    """Three tests, of the best with the others, would find three differences; six find none."""
    scores = {
        "none": (29.6, 29.5, 30.2),
        "batch": (30.1, 30.4, 29.4),
        "layer": (31.7, 32.1, 31.7),
        "rms": (30.1, 30.5, 29.4),
    }
    by_norm = {norm: dict(enumerate(values)) for norm, values in scores.items()}
    ahead = {norm: difference(by_norm["layer"], by_norm[norm]) for norm in ("none", "batch", "rms")}
    assert set(outcomes(ahead).values()) == {Outcome.supported}
    assert "The best" not in short_answer(group(runs(scores)))[0]


def test_models_of_one_seed_are_tested_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"layer": {1: 0.03}, "batch": {1: 0.04}}
    monkeypatch.setattr(summary, "bootstrap_p_values", lambda runs, none: found)
    text, _ = short_answer(group(runs({"none": (30,), "layer": (40,), "batch": (41,)})))
    assert "batch is not significantly different from none (p = 0.060)" in text
    assert "layer is not significantly different from none (p = 0.060)" in text
    assert "by paired bootstrap, corrected for their number." in text


def test_the_first_seeds_that_both_have_are_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tested(systems: dict[str, list[str]], *_: Any) -> tuple[str, list[Comparison]]:
        asked.append(list(systems))
        return "", [Comparison(n, 30.0, 30.0, 1.0, None if n == "none" else 0.5) for n in systems]

    asked: list[list[str]] = []
    monkeypatch.setattr(of_text, "paired_bootstrap", tested)
    every = [record(norm, seed) for norm in ("none", "layer", "rms") for seed in range(1, 7)]
    group(every)
    for run in every:
        run.run = Run(tmp_path / run.name)
        for name in ("test.txt", "test.reference.txt"):
            write_lines(run.run.translations / name, ["a"])
    by_norm = {"none": every[:6], "layer": [every[7], every[9], every[11]], "rms": every[12:]}
    found = summary.bootstrap_p_values(by_norm, "none")
    assert {norm: list(of) for norm, of in found.items()} == {
        "none": [],
        "layer": [2, 4, 6],
        "rms": [1, 2, 3],
    }
    assert asked[1] == ["none", "layer", "rms"]
    assert asked[3] == ["none", "layer"]


def test_what_the_correction_makes_undecided_is_not_established() -> None:
    loses = Finding("it loses", "nats", [0.9, 1.0, 1.3])
    half = less_than_half("less", {1: 0.1, 2: 0.1, 3: 0.2}, {1: 0.9, 2: 1.0, 3: 1.3}, loses)
    assert "not established" not in half.in_words
    others = [Finding(str(n), "nats", [0.9, 1.0, 1.3]) for n in range(9)]
    correct([Verdict("claim", [loses, half, *others])])
    assert (loses.alone, loses.outcome) == (Outcome.supported, Outcome.undecided)
    assert "it is not established that the other norm loses more at all" in half.in_words
