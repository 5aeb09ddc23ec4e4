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
    return dict(overview([found], [norm_rows(found)]))


def test_a_norm_ahead_of_all_others_has_won():
    said = short_answer(group(runs({"none": (30, 31, 32), "batch": (29, 30, 32), "layer": (40, 41, 42)})))
    assert said["Result"] == ("toy, quick: layer won: test BLEU layer 41.0, none 31.0, batch 30.3 (means of 3 seeds).")
    assert said["More than chance?"].startswith(
        "test BLEU beside none: batch -0.7 (95% from -2.1 to +0.8), not shown (")
    assert "; layer +10.0 (95% from +10.0 to +10.0), more than chance." in said["More than chance?"]


def test_a_norm_that_can_not_be_told_from_the_best_is_named():
    said = short_answer(group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (39, 42, 41)})))["Result"]
    assert "layer is ahead: test BLEU layer 41.0, rms 40.7, none 31.0 (means of 3 seeds)." in said
    assert said.endswith(" The seeds are too few to tell rms from layer.")


@pytest.mark.parametrize("of_none", [(30,), (30, 31, 32)])
def test_one_seed_is_said_to_be_no_answer(of_none):
    said = short_answer(group(runs({"none": of_none, "layer": (40,)})))
    assert "layer is ahead" in said["Result"]
    assert "too few to tell none from layer" in said["Result"]
    assert "means of 1 seed)" in said["Result"] or "means of 1 to 3 seeds)" in said["Result"]
    assert "+10.0, which one seed can't tell from chance" in said["More than chance?"]


def test_that_each_norm_has_its_own_rate_is_said():
    found = [record(norm, seed, lr=lr, results={"valid_loss": loss}) for seed in SEEDS
             for norm, lr, loss in (("none", 0.1, 1.0), ("none", 0.2, 2.0), ("layer", 0.1, 2.0), ("layer", 0.2, 1.0))]
    assert "(means of 3 seeds, each norm at its best learning rate)" in short_answer(group(found))["Result"]


def length_runs(beyond):
    """BLEU beyond the trained length of each norm, a seed each; within it is 50."""
    for norm, values in beyond.items():
        for seed, bleu in zip(SEEDS, values, strict=True):
            yield record(norm, seed, "length", probes=[
                {"probe": "length", "statistics": "running", "trained": 20, "nll": 1.0, "length_ratio": 1.0, **line}
                for line in ({"over": 0, "pieces": 10, "bleu": 50.0}, {"over": 20, "pieces": 30, "bleu": bleu})])


def test_what_becomes_of_long_sentences_is_said_and_of_whom_it_is_sure():
    said = short_answer(group(length_runs({"none": (30, 31, 32), "batch": (10, 12, 11), "layer": (40, 41, 43)})))
    assert "lost of the BLEU: none 38 ± 5 %, batch 78 ± 5 %, layer 17 ± 8 %." in said["Longer sentences"]
    assert said["Longer sentences"].endswith("Clearly more than none: batch. Clearly less than none: layer.")
    said = short_answer(group(length_runs({"none": (30, 31, 32), "batch": (31, 30, 33)})))
    assert said["Longer sentences"].endswith("No norm's part is clearly another than none's.")
    assert short_answer(group([record(experiment="length")])) == {}


def test_scores_of_the_validation_set_are_called_so():
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, split="valid"))
    assert "layer won: valid BLEU layer 41.0" in short_answer(found)["Result"]
    assert {row.split for row in norm_rows(found)} == {"valid"}


def test_the_cost_is_that_of_the_verdict():
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1}))
    part = float(re.search(r"takes ([\d.]+) \(.*\) of the updates", short_answer(found)["Cost"]).group(1))
    factor = next(f.interval.mean for f in verdicts(found)[0].findings if "fewer updates" in f.statement)
    assert part == pytest.approx(2 ** -factor, abs=0.005)
    assert part < 0.6
