"""The short answer about long sentences, for runs with known scores."""

from collections.abc import Iterator, Mapping, Sequence

from short_answers import short_answer
from synthetic import SEEDS, group, record

from seq2seq.report.answers import overview
from seq2seq.runs.entries import LengthBucket
from seq2seq.runs.records import RunRecord


def length_runs(beyond: Mapping[str, Sequence[float]]) -> Iterator[RunRecord]:
    """Yield runs with these BLEU scores beyond the trained length; within it BLEU is 50."""
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


def test_the_answer_names_the_loss_on_long_sentences_and_its_significance() -> None:
    of_all = {
        "none": (30, 31, 32),
        "batch": (10, 12, 11),
        "layer": (40, 41, 43),
        "rms": (32, 29, 33),
    }
    text, table = short_answer(group(length_runs(of_all)))
    assert (
        text
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
    text, _ = short_answer(group(length_runs({"none": (30,), "batch": (10,)})))
    assert text.endswith(
        ": 40% with none and 80% with batch (one seed each). One seed cannot tell batch from none."
        " Not tested: layer and rms."
    )
    text, table = short_answer(group(length_runs({"batch": (10, 11)})))
    assert text.endswith(": 79% with batch (means over 2 seeds). Not tested: none, layer and rms.")
    assert list(table["batch"].values()) == ["batch", "50.0", "10.5", "79 ± 13%"]
    _, table = short_answer(group(length_runs({"none": (30, 31)})))
    assert list(table["none"].values()) == ["none", "50.0", "30.5", "39 ± 13%"]
    assert overview([group([record(experiment="length")])], [[]]) == []


def test_for_long_sentences_only_common_seeds_count() -> None:
    """The third seed is a good one for none, has no BLEU to lose for batch norm, and is missing for layer norm."""
    found = list(length_runs({"none": (30, 30.1, 50), "batch": (20, 20.1, 0), "layer": (25, 25.1)}))
    found[5].probed(LengthBucket)[0].bleu = 0.0
    text, table = short_answer(group(found))
    assert (
        ": 40% with none, 60% with batch and 50% with layer (means over the 2 common"
        " seeds)." in text
    )
    assert [row["on longer ones"] for row in table.values()] == ["30.1", "20.1", "25.1"]
    assert [row["significant?"] for row in table.values()] == ["–", "yes, more", "yes, more"]


def test_norms_without_a_length_probe_are_listed_as_not_tested() -> None:
    found = [
        *length_runs({"none": (30, 31), "batch": (10, 12)}),
        record("layer", experiment="length"),
    ]
    assert short_answer(group(found))[0].endswith(" Not tested: layer and rms.")


def test_norms_without_a_common_seed_are_not_judged_on_long_sentences() -> None:
    found = list(length_runs({"none": (30, 31, 32), "batch": (10, 12, 11)}))
    text, table = short_answer(group([found[0], found[1], found[5]]))
    assert (
        "(means over different seeds). There is no common seed to compare batch with none. Not"
        " tested: " in text
    )
    assert table["batch"]["significant?"] == "no common seed"
