"""The short answer and the table of norms, for runs with known scores."""

import re
from dataclasses import replace

import pytest
from short_answers import scored_runs as runs
from short_answers import short_answer
from synthetic import SEEDS, curve, group, record
from typed import present

from seq2seq.config import DataConfig
from seq2seq.report import norms as summary
from seq2seq.report.answers import overview
from seq2seq.report.experiments import charts, verdicts
from seq2seq.report.groups import Group
from seq2seq.report.norms import norm_cells, norm_rows, norms_table
from seq2seq.report.page import training_times
from seq2seq.report.texts import glossary
from seq2seq.rnn import Statistics


def test_the_answer_names_a_significantly_better_norm() -> None:
    text, table = short_answer(
        group(runs({"none": (30, 31, 32), "batch": (29, 30, 32), "layer": (40, 41, 42)}))
    )
    assert (
        text
        == "toy, quick: test BLEU layer 41.0, none 31.0, batch 30.3 (means over 3 seeds). The best,"
        " layer, is significantly better than none and batch."
    )
    assert list(table) == ["batch", "layer"]
    assert table["batch"]["test BLEU difference (95%)"] == "-0.7 (-2.1 to +0.8)"
    assert table["batch"]["significant?"] == "no (detectable: 1.9)"
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0 (+10.0 to +10.0)"
    assert table["layer"]["significant?"] == "yes, better"


def test_where_bleu_is_equal_another_score_tells_norms_apart() -> None:
    """Names and transliterations have BLEU 0 whatever was learnt."""
    found = list(runs({"none": (0, 0), "layer": (0, 0), "batch": (0, 1)}))
    text, _ = short_answer(group(found))
    assert "BLEU does not tell none and layer apart: their loss is 1.000 and 1.000. " in text
    for run, chrf in zip(found, (40, 42, 61, 63, 9, 9), strict=True):
        results = present(run.results)
        results.test = replace(present(results.test), chrf=chrf)
    text, _ = short_answer(group(found))
    assert "BLEU does not tell none and layer apart: their chrF is 41.0 and 62.0. " in text
    assert "apart" not in short_answer(group(runs({"none": (30,), "layer": (31,)})))[0]


@pytest.mark.parametrize(
    ("p_values", "printed"),
    [
        ({}, "–"),
        ({2: 0.01}, "seed 2: 0.010"),
        ({1: 0.001, 2: 0.001}, "0.001 each"),
        ({1: 0.001, 2: 0.2}, "seed 1: 0.001, seed 2: 0.200"),
    ],
)
def test_p_values_have_their_seeds(p_values: dict[int, float], printed: str) -> None:
    row = replace(norm_rows(group(runs({"none": (30, 31)})))[0], p_values=p_values)
    assert norm_cells(row)["p against none, by seed"] == printed


def test_a_row_has_the_means_over_seeds() -> None:
    found = list(runs({"none": (30, 31, 33)}))
    for run, loss, speed in zip(found, (1.0, 2.0, 6.0), (100.0, 200.0, 600.0), strict=True):
        results = present(run.results)
        results.valid_loss, results.tokens_per_second = loss, speed
        results.test = replace(present(results.test), chrf=10 * loss)
    cells = norm_cells(norm_rows(group(found))[0])
    assert (cells["seeds"], cells["valid loss (nats/token)"]) == ("3", "3.000")
    assert (cells["target tokens/s"], cells["test chrF"]) == ("300", "30.0")
    assert cells["test BLEU (95%)"].startswith("31.3 ± ")


def test_the_answer_names_a_significantly_worse_norm() -> None:
    _, table = short_answer(group(runs({"none": (30, 31, 32), "layer": (20, 21, 22)})))
    assert table["layer"]["significant?"] == "yes, worse"


def test_the_answer_names_norms_without_a_significant_difference_from_the_best() -> None:
    text, _ = short_answer(
        group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (39, 42, 41)}))
    )
    assert (
        "test BLEU layer 41.0, rms 40.7, none 31.0 (means over 3 seeds). The best, layer, is"
        " significantly better than none. " in text
    )
    assert text.endswith(" The difference of rms from layer is not significant.")
    text, _ = short_answer(
        group(runs({"none": (30, 31, 32), "layer": (40, 41, 42), "rms": (5, 45, 20)}))
    )
    assert (
        "test BLEU layer 41.0, none 31.0, rms 23.3 (means over 3 seeds). The best, layer, is"
        " significantly better than none. The difference of rms from layer is not" in text
    )


ONE_SEED = "One seed cannot tell whether the norm is the reason: train more (seed=1,2,3)."


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.001, "the model with layer is significantly better than none (p = 0.001)"),
        (0.2, "the model with layer is not significantly different from none (p = 0.200)"),
    ],
)
def test_one_seed_compares_two_models_and_not_the_norms(
    p: float, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "bootstrap_p_values", lambda runs, none: {"layer": {1: p}})
    found, table = short_answer(group(runs({"none": (30,), "layer": (40,)})))
    assert found == (
        "toy, quick: test BLEU layer 40.0, none 30.0 (one seed each). On this test set"
        f" {text}, by paired bootstrap. {ONE_SEED}"
    )
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0"
    assert table["layer"]["significant?"] == "one seed cannot tell"


def test_one_seed_has_no_means_and_no_intervals() -> None:
    captions = {}
    for count in (1, 3):
        made = group(runs({"none": (30, 31, 32)[:count], "layer": (40, 41, 42)[:count]}))
        rows = norm_rows(made)
        [answer] = overview([made], [rows])
        tables = [present(answer.table), norms_table(made, rows)]
        captions[count] = [t.caption for t in tables] + [c.caption for c in charts(made)]
    for one, several in zip(captions[1], captions[3], strict=True):
        assert re.match("One seed of each norm|There is no interval", one)
        assert not re.search("Means?|±|Student|shaded|Detectable", one)
        assert re.match("Means? over seeds", several)


def test_without_stored_text_one_seed_does_not_compare_models() -> None:
    found, _ = short_answer(group(runs({"none": (30,), "layer": (20,)})))
    assert found.endswith(f"none 30.0, layer 20.0 (one seed each). {ONE_SEED}")


def test_a_significantly_worse_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "bootstrap_p_values", lambda runs, none: {"layer": {1: 0.01}})
    found, _ = short_answer(group(runs({"none": (30,), "layer": (20,)})))
    assert "the model with layer is significantly worse than none (p = 0.010)" in found


def test_one_common_seed_gives_no_answer() -> None:
    text, table = short_answer(group(runs({"none": (30, 31, 32), "layer": (40,)})))
    assert " (the one seed that all have). One seed cannot tell none from layer." in text
    assert table["layer"]["test BLEU difference (95%)"] == "+10.0"
    assert table["layer"]["significant?"] == "one seed cannot tell"


def test_norms_without_a_common_seed_are_not_compared() -> None:
    found = group([record("none", 1), record("layer", 2)])
    text, table = short_answer(found)
    assert text.endswith(
        "test BLEU none 30.0, layer 30.0 (means over different seeds). "
        "There is no common seed to compare layer with none."
    )
    assert set(table["layer"].values()) == {"layer", "–", "no common seed"}


def test_undecided_differences_name_their_reason() -> None:
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
    text, _ = short_answer(group(found))
    assert (
        "One seed cannot tell none from layer. The difference of batch from layer is not"
        " significant." in text
    )
    assert "There is no common seed to compare rms with layer." in text


def test_the_answer_states_that_each_norm_has_its_best_rate() -> None:
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


def test_only_common_seeds_determine_the_order() -> None:
    """The third seed is a good one for none, and is missing for layer norm."""
    text, table = short_answer(group(runs({"none": (20, 21, 40), "layer": (25, 26.01)})))
    assert (
        text
        == "toy, quick: test BLEU layer 25.5, none 20.5 (means over the 2 common seeds). The best,"
        " layer, is significantly better than none."
    )
    assert table["layer"]["significant?"] == "yes, better"


def test_norms_are_compared_within_the_same_cell() -> None:
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
        (row,) = present(answer.table).rows
        assert row[f"compared with none (cell.kind {cell})"] == f"layer (cell.kind {cell})"
        assert row["test BLEU difference (95%)"].startswith("+1.0 (")


def test_rates_without_a_search_are_not_called_the_best() -> None:
    found = group(
        [
            record(norm, seed, lr=lr, experiment=None)
            for norm, lr in (("none", 0.1), ("layer", 0.2))
            for seed in SEEDS
        ]
    )
    assert "best of" not in short_answer(found)[0]


def test_runs_of_the_users_own_experiment_are_compared_like_runs_without_one() -> None:
    found = group(
        [record(norm, seed, experiment="mine") for norm in ("none", "layer") for seed in SEEDS]
    )
    text, table = short_answer(found)
    assert text.startswith("toy, quick: test BLEU ")
    assert set(table) == {"layer"}


def test_scores_of_the_validation_set_have_no_p_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        summary, "bootstrap_p_values", lambda runs, none: {norm: {1: 0.001} for norm in runs}
    )
    scored = {"none": (30, 31, 32), "layer": (40, 41, 42)}
    assert [row.p_values for row in norm_rows(group(runs(scored)))] == [{1: 0.001}] * 2
    assert [row.p_values for row in norm_rows(group(runs(scored, split="valid")))] == [{}, {}]


def test_without_runs_of_no_norm_the_other_norms_are_ranked() -> None:
    text, table = short_answer(group(runs({"batch": (29, 30, 32), "layer": (40, 41, 42)})))
    assert (text, table) == (
        "toy, quick: test BLEU layer 41.0, batch 30.3 (means over 3 seeds). The best, layer, is"
        " significantly better than batch.",
        {},
    )


def test_scores_of_the_validation_set_are_named() -> None:
    found = group(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, split="valid"))
    text, table = short_answer(found)
    assert "valid BLEU layer 41.0" in text
    assert "valid BLEU difference (95%)" in table["layer"]
    assert {row.split for row in norm_rows(found)} == {"valid"}


def test_the_answer_gives_the_same_cost_as_the_verdict() -> None:
    found = group(
        runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1})
    )
    part = float(
        present(re.match(r"× ([\d.]+) \(", short_answer(found)[1]["layer"]["updates to it"]))[1]
    )
    factor = next(
        f.interval.mean for f in verdicts(found)[0].findings if "fewer updates" in f.statement
    )
    assert part == pytest.approx(2**factor, abs=0.005)
    assert part < 0.6


def test_the_common_loss_is_in_the_table() -> None:
    found = group(
        runs({"none": (30, 31, 32), "layer": (40, 41, 42)}, rates={"none": 0.05, "layer": 0.1})
    )
    lowest = min(found.where({"norm": "none"})[0].series("valid", "loss")[1])
    assert short_answer(found)[1]["layer"]["common loss"] == f"{lowest:.2f}"


def test_speed_is_given_with_its_interval() -> None:
    found = list(runs({"none": (30, 31, 32), "layer": (40, 41, 42)}))
    for run, speed in zip(found, (1000, 1000, 1000, 250, 500, 1000), strict=True):
        present(run.results).tokens_per_second = speed
    printed = short_answer(group(found))[1]["layer"]["target tokens/s"]
    mean, low, high = map(
        float, present(re.fullmatch(r"× ([\d.]+) \(([\d.]+) to ([\d.]+)\)", printed)).groups()
    )
    assert (mean, low < 0.25, high > 1) == (0.5, True, True)


def test_updates_are_not_seconds() -> None:
    """Layer norm needs half the updates, and each takes twice as long."""
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
    assert factors == pytest.approx(
        [0.5, 1.0, 0.5], abs=0.01
    )  # updates, seconds, and updates to the halfway loss
    cells = [
        list(row.values())[7:9] for row in norms_table(group(found), norm_rows(group(found))).rows
    ]
    assert cells == [["–", "–"], ["50 / 100", "10.0 / 10.0"]]


def words_of(*found: Group) -> set[str]:
    return set(glossary(found))


def test_the_glossary_has_the_words_of_the_page() -> None:
    always = words_of(group([record(experiment="invariance", size=None)]))
    assert {"seed", "BLEU, chrF", "exploratory"} <= always
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


def test_the_hours_of_each_machine_are_added_up() -> None:
    hour = {"wall_seconds": 3600.0}
    runs = [record(seed=seed, results=hour) for seed in (1, 2)]
    other = record(results={**hour, "threads": 8})
    results = [run.results for run in (*runs, other) if run.results]
    lines = training_times(results)
    assert [line.rpartition(": ")[2] for line in lines] == [
        "2 runs, 2 hours one after the other",
        "1 run, 1 hour one after the other",
    ]
    assert "8 threads" in lines[1]
