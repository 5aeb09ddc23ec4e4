"""The short answer, of runs whose figures are known."""

import re

import pytest
from synthetic import SEEDS, curve, group, record

from seq2seq.experiments import verdicts
from seq2seq.summary import norm_rows, overview


def runs(scores, split="test", rates=None):
    """Runs with these scores of each norm, a seed each."""
    for norm, values in scores.items():
        for seed, bleu in zip(SEEDS, values, strict=False):
            run = record(norm, seed, metrics=curve((rates or {}).get(norm, 0.05)))
            run.results[split] = run.results[split] | {"bleu": bleu}
            if split == "valid":
                del run.results["test"]
            yield run


def short_answer(found):
    return overview([found], [norm_rows(found)])


def test_a_norm_ahead_of_all_others_has_won():
    said = short_answer(group(runs({"none": (30, 31, 32), "batch": (29, 30, 32), "layer": (40, 41, 42)})))[0]
    assert "layer won: it has the highest test BLEU, 41.0. Beside none: " in said
    assert "layer +10.0, significant (95% from +10.0 to +10.0" in said
    assert "batch -0.7, not significant" in said


def test_a_norm_that_can_not_be_told_from_the_best_is_named():
    said = short_answer(group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (39, 42, 41)})))[0]
    assert "layer has the highest test BLEU, 41.0, but 3 seeds can't tell rms from it." in said


def test_one_seed_is_said_to_be_no_answer():
    said = short_answer(group(runs({"none": (30,), "layer": (40,)})))[0]
    assert "layer won" in said
    assert "From one seed that can't be told from chance" in said


def test_scores_of_the_validation_set_are_called_so():
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, split="valid"))
    assert "highest valid BLEU, 41.0" in short_answer(found)[0]
    assert {row.split for row in norm_rows(found)} == {"valid"}


def test_the_cost_is_that_of_the_verdict():
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1}))
    part = float(re.search(r"took ([\d.]+) of its updates", short_answer(found)[1]).group(1))
    factor = next(f.interval.mean for f in verdicts(found)[0].findings if "fewer updates" in f.statement)
    assert part == pytest.approx(2 ** -factor, abs=0.005)
    assert part < 0.6
