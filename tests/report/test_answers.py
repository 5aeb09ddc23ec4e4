"""The short answer and the norms side by side, of runs whose figures are known."""

import re
from dataclasses import replace

import pytest
from synthetic import SEEDS, curve, group, record

from seq2seq.config import DataConfig
from seq2seq.report import norms as summary
from seq2seq.report.answers import overview
from seq2seq.report.experiments import verdicts
from seq2seq.report.glossary import glossary
from seq2seq.report.norms import norm_cells, norm_rows, norms_table
from seq2seq.rnn import Statistics


def runs(scores, split="test", rates=None):
    """Runs with these scores of each norm, a seed each."""
    for norm, values in scores.items():
        for seed, bleu in zip(SEEDS, values, strict=False):
            run = record(norm, seed, metrics=curve((rates or {}).get(norm, 0.05)))
            setattr(run.results, split, replace(getattr(run.results, split), bleu=bleu))
            if split == "valid":
                run.results.test = None
            yield run


def short_answer(found):
    """Its sentences, and its table's rows by their norm."""
    (answer,) = overview([found], [norm_rows(found)])
    rows = answer.table.rows if answer.table else []
    return " ".join(answer.sentences), {next(iter(row.values())): row for row in rows}


def test_a_norm_ahead_of_all_others_is_significantly_better():
    said, table = short_answer(
        group(runs({"none": (30, 31, 32), "batch": (29, 30, 32), "layer": (40, 41, 42)}))
    )
    assert (
        said
        == "toy, quick: test BLEU layer 41.0, none 31.0, batch 30.3 (means over 3 seeds). The best,"
        " layer, is significantly better than none and batch."
    )
    assert list(table) == ["batch", "layer"]
    assert table["batch"]["test BLEU difference (95%)"] == "-0.7 (-2.1 to +0.8)"
    assert table["batch"]["significant?"] == "no (detectable: 1.9)"
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0 (+10.0 to +10.0)"
    assert table["layer"]["significant?"] == "yes, better"


@pytest.mark.parametrize(
    ("p_values", "told"),
    [([], "–"), ([0.01], "0.010"), ([0.001, 0.001], "0.001 each"), ([0.001, 0.2], "0.001, 0.200")],
)
def test_a_p_value_of_all_seeds_is_told_once(p_values, told):
    row = replace(norm_rows(group(runs({"none": (30, 31)})))[0], p_values=p_values)
    assert norm_cells(row)["p against none, by seed"] == told


def test_a_norm_that_is_worse_is_said_to_be():
    _, table = short_answer(group(runs({"none": (30, 31, 32), "layer": (20, 21, 22)})))
    assert table["layer"]["significant?"] == "yes, worse"


def test_a_norm_that_can_not_be_told_from_the_best_is_named():
    said, _ = short_answer(
        group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (39, 42, 41)}))
    )
    assert (
        "test BLEU layer 41.0, rms 40.7, none 31.0 (means over 3 seeds). The best, layer, is"
        " significantly better than none. " in said
    )
    assert said.endswith(" The difference of rms from layer is not significant.")
    said, _ = short_answer(
        group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (5, 45, 20)}))
    )
    assert (
        "test BLEU layer 41.0, none 31.0, rms 23.3 (means over 3 seeds). The best, layer, is"
        " significantly better than none. The difference of rms from layer is not" in said
    )


ONE_SEED = "One seed cannot tell whether the norm is the reason: train more (seed=1,2,3)."


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.001, "the model with layer is significantly better than none (p = 0.001)"),
        (0.2, "the model with layer is not significantly different from none (p = 0.200)"),
    ],
)
def test_one_seed_says_whether_two_models_differ_and_no_more(p, said, monkeypatch):
    monkeypatch.setattr(summary, "bootstrap_p_values", lambda runs, none: {"layer": [p]})
    found, table = short_answer(group(runs({"none": (30,), "layer": (40,)})))
    assert found == (
        "toy, quick: test BLEU layer 40.0, none 30.0 (one seed each). On this test set"
        f" {said}, by paired bootstrap. {ONE_SEED}"
    )
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0"
    assert table["layer"]["significant?"] == "one seed cannot tell"


def test_without_stored_text_one_seed_says_nothing_of_the_models():
    found, _ = short_answer(group(runs({"none": (30,), "layer": (20,)})))
    assert found.endswith(f"none 30.0, layer 20.0 (one seed each). {ONE_SEED}")


def test_a_worse_model_is_called_so(monkeypatch):
    monkeypatch.setattr(summary, "bootstrap_p_values", lambda runs, none: {"layer": [0.01]})
    found, _ = short_answer(group(runs({"none": (30,), "layer": (20,)})))
    assert "the model with layer is significantly worse than none (p = 0.010)" in found


def test_one_common_seed_is_no_answer():
    said, table = short_answer(group(runs({"none": (30, 31, 32), "layer": (40,)})))
    assert " (the one seed that all have). One seed cannot tell none from layer." in said
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0"
    assert table["layer"]["significant?"] == "one seed cannot tell"


def test_norms_without_a_seed_in_common_are_not_compared():
    found = group([record("none", 1), record("layer", 2)])
    said, table = short_answer(found)
    assert said.endswith(
        "test BLEU none 30.0, layer 30.0 (means over different seeds). "
        "There is no common seed to compare layer with none."
    )
    assert set(table["layer"].values()) == {"layer", "–", "no common seed"}


def test_what_one_seed_and_what_too_few_leave_open_is_told_apart():
    found = [
        record(norm, seed, metrics=curve(0.05), results={"test": {"bleu": bleu, "chrf": 1.0}})
        for norm, scores in {
            "none": {1: 30},
            "batch": {1: 41, 2: 29, 3: 35},
            "layer": {1: 40, 2: 30, 3: 36},
            "rms": {4: 1},
        }.items()
        for seed, bleu in scores.items()
    ]
    said, _ = short_answer(group(found))
    assert (
        "One seed cannot tell none from layer. The difference of batch from layer is not"
        " significant." in said
    )
    assert "There is no common seed to compare rms with layer." in said


def test_that_each_norm_has_its_own_rate_is_said():
    found = [
        record(norm, seed, lr=lr, results={"valid_loss": loss})
        for seed in SEEDS
        for norm, lr, loss in (
            ("none", 0.1, 1.0),
            ("none", 0.2, 2.0),
            ("layer", 0.1, 2.0),
            ("layer", 0.2, 1.0),
        )
    ]
    assert (
        "(means over 3 seeds, each at the best of 2 learning rates)"
        in short_answer(group(found))[0]
    )
    assert (
        "each at the rate with its lowest"
        in norms_table(group(found), norm_rows(group(found))).caption
    )
    alone = group(run for run in found if run.config.optimizer.lr == 0.1)
    assert "each at the rate" not in norms_table(alone, norm_rows(alone)).caption


def length_runs(beyond):
    """BLEU beyond the trained length of each norm, a seed each; within it is 50."""
    for norm, values in beyond.items():
        for seed, bleu in zip(SEEDS, values, strict=False):
            yield record(
                norm,
                seed,
                "length",
                probes=[
                    {
                        "probe": "length",
                        "statistics": "running",
                        "trained": 20,
                        "nll": 1.0,
                        "length_ratio": 1.0,
                        **line,
                    }
                    for line in (
                        {"over": 0, "pieces": 10, "bleu": 50.0},
                        {"over": 20, "pieces": 30, "bleu": bleu},
                    )
                ],
            )


def test_what_becomes_of_long_sentences_is_said_and_of_whom_it_is_sure():
    of_all = {
        "none": (30, 31, 32),
        "batch": (10, 12, 11),
        "layer": (40, 41, 43),
        "rms": (32, 29, 33),
    }
    said, table = short_answer(group(length_runs(of_all)))
    assert (
        said
        == "toy, quick: models trained on sentences of at most 20 pieces lose part of their BLEU"
        " on longer ones (21 to 30 pieces): 38% with none, 78% with batch, 17% with layer and"
        " 37% with rms (means over 3 seeds). Compared with none, significantly less is"
        " lost with layer and significantly more is lost with batch. The difference of rms from none is not"
        " significant."
    )
    assert list(table) == list(of_all)
    assert list(table["none"].values()) == ["none", "50.0", "31.0", "38 ± 5%", "–", "–"]
    assert list(table["batch"].values()) == [
        "batch",
        "50.0",
        "11.0",
        "78 ± 5%",
        "+40.0 (+35.0 to +45.0)",
        "yes, more",
    ]
    assert table["layer"]["significant?"] == "yes, less"
    assert table["rms"]["significant?"].startswith("no (detectable: ")
    said, _ = short_answer(group(length_runs({"none": (30,), "batch": (10,)})))
    assert said.endswith(
        ": 40% with none and 80% with batch (one seed each). One seed cannot tell batch from none."
        " Not tested: layer and rms."
    )
    said, table = short_answer(group(length_runs({"batch": (10, 11)})))
    assert said.endswith(": 79% with batch (means over 2 seeds). Not tested: none, layer and rms.")
    assert list(table["batch"].values()) == ["batch", "50.0", "10.5", "79 ± 13%"]
    _, table = short_answer(group(length_runs({"none": (30, 31)})))
    assert list(table["none"].values()) == ["none", "50.0", "30.5", "39 ± 13%"]
    assert overview([group([record(experiment="length")])], [[]]) == []


def test_of_long_sentences_the_seeds_count_that_all_norms_have():
    """none's third seed is the lucky one; batch norm's has no BLEU that it could lose, and layer
    norm has none.
    """
    found = list(length_runs({"none": (30, 30.1, 50), "batch": (20, 20.1, 0), "layer": (25, 25.1)}))
    found[5].probes[0].bleu = 0.0
    said, table = short_answer(group(found))
    assert (
        ": 40% with none, 60% with batch and 50% with layer (means over the 2 common"
        " seeds)." in said
    )
    assert [row["on longer ones"] for row in table.values()] == ["30.1", "20.1", "25.1"]
    assert [row["significant?"] for row in table.values()] == ["–", "yes, more", "yes, more"]


def test_norms_of_which_no_length_was_measured_are_not_tested():
    found = [
        *length_runs({"none": (30, 31), "batch": (10, 12)}),
        record("layer", experiment="length"),
    ]
    assert short_answer(group(found))[0].endswith(" Not tested: layer and rms.")


def test_norms_without_a_seed_in_common_do_not_lose_more_or_less():
    found = list(length_runs({"none": (30, 31, 32), "batch": (10, 12, 11)}))
    said, table = short_answer(group([found[0], found[1], found[5]]))
    assert (
        "(means over different seeds). There is no common seed to compare batch with none. Not"
        " tested: " in said
    )
    assert table["batch"]["significant?"] == "no common seed"


def test_the_order_is_that_of_seeds_that_all_have():
    """none's third seed is the lucky one, and layer norm has none."""
    said, table = short_answer(group(runs({"none": (20, 21, 40), "layer": (25, 26.01)})))
    assert (
        said
        == "toy, quick: test BLEU layer 25.5, none 20.5 (means over the 2 common seeds). The best,"
        " layer, is significantly better than none."
    )
    assert table["layer"]["significant?"] == "yes, better"


def test_runs_of_several_cells_are_set_beside_the_same_cell():
    scores = {
        ("none", "lstm"): (30, 31, 32),
        ("layer", "lstm"): (31, 32, 33.1),
        ("none", "gru"): (20, 21, 22),
        ("layer", "gru"): (21, 22, 23.1),
    }
    found = group(
        [
            record(
                norm,
                seed,
                experiment=None,
                cell=cell,
                metrics=curve(0.05),
                results={"test": {"bleu": bleu, "chrf": 1.0}},
            )
            for (norm, cell), values in scores.items()
            for seed, bleu in zip(SEEDS, values, strict=True)
        ]
    )
    for answer, cell in zip(overview([found], [norm_rows(found)]), ("gru", "lstm"), strict=True):
        assert f"The best, layer (cell.kind {cell}), is significantly better" in answer.sentences[1]
        (row,) = answer.table.rows
        assert row[f"compared with none (cell.kind {cell})"] == f"layer (cell.kind {cell})"
        assert row["test BLEU difference (95%)"].startswith("+1.0 (")


def test_rates_that_were_not_searched_are_not_called_the_best():
    found = group(
        [
            record(norm, seed, lr=lr, experiment=None)
            for norm, lr in (("none", 0.1), ("layer", 0.2))
            for seed in SEEDS
        ]
    )
    assert "best of" not in short_answer(found)[0]


def test_runs_of_an_experiment_of_ones_own_are_compared_as_those_of_none():
    found = group(
        [record(norm, seed, experiment="mine") for norm in ("none", "layer") for seed in SEEDS]
    )
    said, table = short_answer(found)
    assert said.startswith("toy, quick: test BLEU ")
    assert set(table) == {"layer"}


def test_there_is_no_p_of_the_test_set_beside_scores_of_the_validation_set(monkeypatch):
    monkeypatch.setattr(
        summary, "bootstrap_p_values", lambda runs, none: {norm: [0.001] for norm in runs}
    )
    scored = {"none": (30, 31, 32), "layer": (40, 41, 42)}
    assert [row.p_values for row in norm_rows(group(runs(scored)))] == [[0.001], [0.001]]
    assert [row.p_values for row in norm_rows(group(runs(scored, split="valid")))] == [[], []]


def test_without_no_norm_the_others_are_put_in_order():
    said, table = short_answer(group(runs({"batch": (29, 30, 32), "layer": (40, 41, 42)})))
    assert (said, table) == (
        "toy, quick: test BLEU layer 41.0, batch 30.3 (means over 3 seeds). The best, layer, is"
        " significantly better than batch.",
        {},
    )


def test_scores_of_the_validation_set_are_called_so():
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, split="valid"))
    said, table = short_answer(found)
    assert "valid BLEU layer 41.0" in said
    assert "valid BLEU difference (95%)" in table["layer"]
    assert {row.split for row in norm_rows(found)} == {"valid"}


def test_the_cost_is_that_of_the_verdict():
    found = group(
        runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1})
    )
    part = float(
        re.match(r"× ([\d.]+) \(", short_answer(found)[1]["layer"]["updates to it"]).group(1)
    )
    factor = next(
        f.interval.mean for f in verdicts(found)[0].findings if "fewer updates" in f.statement
    )
    assert part == pytest.approx(2**factor, abs=0.005)
    assert part < 0.6


def test_the_loss_that_times_are_told_to_stands_beside_them():
    found = group(
        runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1})
    )
    lowest = min(found.where({"norm": "none"})[0].series("valid", "loss")[1])
    assert short_answer(found)[1]["layer"]["common loss"] == f"{lowest:.2f}"


def test_speed_is_told_with_what_seeds_differ_by():
    found = list(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}))
    for run, speed in zip(found, (1000, 1000, 1000, 250, 500, 1000), strict=True):
        run.results.tokens_per_second = speed
    told = short_answer(group(found))[1]["layer"]["target tokens/s"]
    mean, low, high = map(
        float, re.fullmatch(r"× ([\d.]+) \(([\d.]+) to ([\d.]+)\)", told).groups()
    )
    assert (mean, low < 0.25, high > 1) == (0.5, True, True)


def test_updates_are_not_seconds():
    """Layer norm takes half the updates, and twice as long for each."""
    found = [
        record(norm, seed, metrics=curve(rate, seconds, updates=range(101)))
        for seed in SEEDS
        for norm, rate, seconds in (("none", 0.05, 0.1), ("layer", 0.1, 0.2))
    ]
    row = short_answer(group(found))[1]["layer"]
    assert (row["updates to it"], row["time to it"]) == (
        "× 0.50 (0.50 to 0.50)",
        "× 1.00 (1.00 to 1.00)",
    )
    factors = [
        2**f.interval.mean for f in verdicts(group(found))[0].findings if "times" in f.in_words
    ]
    assert factors == pytest.approx([0.5, 1.0, 0.5], abs=0.01)  # updates, seconds; updates halfway
    cells = [
        list(row.values())[7:9] for row in norms_table(group(found), norm_rows(group(found))).rows
    ]
    assert cells == [["–", "–"], ["50 / 100", "10.0 / 10.0"]]


def words_of(*found):
    return set(glossary(found))


def test_the_words_are_those_that_the_page_has():
    always = words_of(group([record(experiment="invariance", size=None)]))
    assert {"seed", "BLEU, chrF", "reported only"} <= always
    assert not always & {
        "p",
        "greedy",
        "quick",
        "real",
        "gain",
        "per step",
        "shared",
        "stored statistics",
        "bucket",
    }
    assert {"p", "greedy", "quick"} <= words_of(group(runs({"none": (30, 31)})))
    assert {"p", "greedy"} <= words_of(group([record(experiment="mine")]))
    assert "real" in words_of(group([record(size="real")]))
    assert "real" not in words_of(group([record(data=DataConfig(name="surreal"))]))
    kinds = [record("batch", norm_settings={"statistics": kind}) for kind in Statistics]
    assert {"per step", "per step, the input too", "shared", "stored statistics"} <= words_of(
        group(kinds)
    )
    gains = [record("layer", norm_settings={"gain": gain}) for gain in (0.3, 1.0)]
    assert "gain" in words_of(group(gains))
