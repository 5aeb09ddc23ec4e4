"""Groups of runs: their members, their names, and the runs that are left out."""

import math
from pathlib import Path

import pytest
from synthetic import SEEDS, group, record
from typed import present

from seq2seq.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ProbeConfig,
    ProbeKind,
    SplitConfig,
    TextOrigin,
)
from seq2seq.report.experiments import groups
from seq2seq.report.groups import by_seed
from seq2seq.rnn import Statistics
from seq2seq.runs.entries import GradientFlow, LengthBucket


def test_a_group_has_one_experiment_size_and_corpus() -> None:
    runs = [
        record(experiment=e, size=s)
        for e, s in (("length", "quick"), ("length", "real"), (None, None))
    ]
    assert [(g.experiment, g.size, g.corpus) for g in groups(runs)] == [
        ("length", "quick", "toy"),
        ("length", "real", "toy"),
        (None, None, "toy"),
    ]
    assert [g.label for g in groups(runs)] == ["toy, quick", "toy, real", "toy"]


def test_norms_are_ordered_and_variants_named_by_their_differences() -> None:
    runs = [
        record("layer"),
        record("batch", norm_settings={"gain": 1.0}),
        record("none"),
        record("batch"),
    ]
    found = group(runs)
    assert found.norms == ["none", "batch (gain 1.0)", "batch (gain None)", "layer"]
    assert [found.kind(norm) for norm in found.norms] == ["none", "batch", "batch", "layer"]
    assert [found.variant(norm) for norm in found.norms] == [0, 0, 1, 0]


def test_runs_are_found_by_their_settings_in_order_of_seed() -> None:
    found = group(
        record(norm, seed, lr=lr)
        for seed in (3, 1, 2)
        for norm in ("none", "layer")
        for lr in (0.1, 0.2)
    )
    assert [run.config.seed for run in found.where({"norm": "layer", "optimizer.lr": 0.1})] == [
        1,
        2,
        3,
    ]
    assert found.values("optimizer.lr") == [0.1, 0.2]
    assert found.by_seed(
        lambda run: run.config.seed * 2.0, {"norm": "none", "optimizer.lr": 0.2}
    ) == {
        1: 2.0,
        2: 4.0,
        3: 6.0,
    }
    assert found.by_seed(lambda run: None, {"norm": "none", "optimizer.lr": 0.2}) == {}
    with pytest.raises(ValueError, match="expected one run of each seed"):
        found.by_seed(lambda run: 1.0, {"norm": "none"})


def test_a_quantity_by_norm_is_that_of_each_norm_by_seed() -> None:
    runs = [
        record(norm, seed, lr=lr)
        for lr in (1e-3, 1e-2)
        for norm in ("layer", "none")
        for seed in (2, 1)
    ]
    found = group(runs)
    for lr in (1e-3, 1e-2):
        wanted = {"optimizer.lr": lr, "cell": "lstm"}
        values = found.by_norm(lambda run: run.seed + run.settings["optimizer.lr"], wanted)
        assert list(values) == ["none", "layer"]
        for norm, by_norm in values.items():
            assert list(by_norm.items()) == [(1, 1 + lr), (2, 2 + lr)], norm


def test_the_plain_variant_of_a_norm_comes_first() -> None:
    runs = [
        record("layer", norm_settings={"gain": 1.0}),
        record("layer", norm_settings={"gain": 0.3}),
        record(
            "batch", norm_settings={"gain": 0.1, "statistics": Statistics.shared, "min_rows": 8}
        ),
        record(
            "batch",
            norm_settings={"gain": 0.1, "statistics": Statistics.sequence_input, "min_rows": 8},
        ),
    ]
    found = group(runs)
    assert found.norms == [
        "batch (per step)",
        "batch (shared)",
        "layer (gain 0.3)",
        "layer (gain 1.0)",
    ]
    assert found.variants("batch", {"norm.statistics": "shared"}) == ["batch (shared)"]
    assert found.variants("rms") == []


def test_lists_of_a_probe_distinguish_runs() -> None:
    runs = [
        record(experiment=None, probe=ProbeConfig([ProbeKind.gradient_flow], lengths=lengths))
        for lengths in ([10, 20], [10])
    ]
    assert group(runs).norms == ["none (probe.lengths [10, 20])", "none (probe.lengths [10])"]


def test_a_run_that_is_left_out_changes_no_names() -> None:
    begun = record("layer", norm_settings={"gain": 1.0})
    begun.status, begun.results = "unfinished", None
    found = group([record("layer", seed=1), record("layer", seed=2), begun])
    assert found.norms == ["layer"]
    assert begun.norm == "layer"


def test_all_runs_are_scored_on_the_same_split() -> None:
    without = record(seed=2)
    results = present(without.results)
    results.test, results.valid.bleu = None, 7.0
    assert group([record(seed=1)]).split == "test"
    assert group([record(seed=1), without]).notes == [
        f"scores on the validation set are compared: no score on the test set in {without.name}"
    ]
    assert group([without]).notes == []
    found = group([record(seed=1), without])
    assert found.split == "valid"
    assert found.scores(without).bleu == 7.0


def test_a_run_with_other_settings_is_left_out_with_a_reason() -> None:
    odd = record("layer", 4, model=ModelConfig(hidden_size=6))
    found = group([*(record(norm, seed) for norm in ("none", "layer") for seed in SEEDS), odd])
    (run,) = found.left_out
    reason = run.left_out
    assert run is odd
    assert reason == "differs in more than what is compared: model.hidden_size=6 (the others: 512)"
    assert odd not in found.runs
    assert found.notes == []


def test_settings_that_an_experiment_compares_leave_out_no_run() -> None:
    runs = [record(lr=lr, seed=seed) for lr in (0.1, 0.2) for seed in SEEDS]
    assert group(runs).left_out == []
    other = group(
        record(experiment="length", lr=lr, seed=s) for lr, s in ((0.1, 1), (0.1, 2), (0.2, 3))
    )
    assert [run.config.seed for run in other.left_out] == [3]


def test_failed_unfinished_and_repeated_runs_are_left_out() -> None:
    failed, begun, twin = record(seed=2), record(seed=3), record(seed=1)
    failed.status, failed.results, failed.failure = "failed", None, "loss is not finite"
    begun.status, begun.results, twin.name = "unfinished", None, "copy"
    found = group([record(seed=1), failed, begun, twin])
    assert [run.config.seed for run in found.runs] == [1]
    reasons = {run.name: run.left_out for run in found.left_out}
    assert reasons[failed.name] == "failed: loss is not finite"
    assert "resume it with: python train.py resume=" in reasons[begun.name]
    assert reasons["copy"] == "has the seed and the compared settings of none-lstm-1-None-0.001"


def test_a_repeated_run_is_recognised_in_another_folder_or_with_another_warm_up() -> None:
    for experiment, changes in (
        ("batch_size", {"optimizer": OptimizerConfig(warmup_updates=7)}),
        (None, {"data": DataConfig(name="toy", root="elsewhere")}),
    ):
        first, copy = (
            record(experiment=experiment, batch=None),
            record(experiment=experiment, **changes),
        )
        copy.name = "copy"
        found = group([first, copy])
        assert [run.name for run in found.runs] == [first.name]
        assert [run.name for run in found.left_out] == ["copy"]


def test_another_mirror_folder_does_not_make_another_run() -> None:
    """data.mirror_folder begins like data.mirror, which is another setting."""
    first, copy = (
        record(
            experiment=None,
            data=DataConfig(
                name="toy",
                origin=TextOrigin.published,
                train=SplitConfig("a", "b", "0", "0"),
                mirror_folder=folder,
            ),
        )
        for folder in (None, "x")
    )
    found = group([first, copy])
    assert (len(found.runs), found.norms, found.notes) == (1, ["none"], [])


def test_norms_are_compared_with_the_run_without_norm_of_equal_settings() -> None:
    runs = [
        record(norm, cell=cell, experiment=None)
        for cell in ("lstm", "gru")
        for norm in ("none", "layer")
    ]
    assert group(runs).comparisons == {
        "none (cell.kind gru)": ["none (cell.kind gru)", "layer (cell.kind gru)"],
        "none (cell.kind lstm)": ["none (cell.kind lstm)", "layer (cell.kind lstm)"],
    }
    assert group(runs[:3]).comparisons == {
        "none (cell.kind gru)": ["none (cell.kind gru)"],
        "none (cell.kind lstm)": ["none (cell.kind lstm)", "layer"],
    }


def test_norms_without_such_a_run_are_compared_with_the_usual_one() -> None:
    apart = [record("none", lr=0.1, experiment=None), record("layer", lr=0.2, experiment=None)]
    assert group(apart).comparisons == {"none": ["none", "layer"]}
    searched = [record(norm, lr=lr) for norm in ("none", "layer") for lr in (0.1, 0.2)]
    assert group(searched).comparisons == {"none": ["none", "layer"]}
    assert group([record("batch"), record("layer")]).comparisons == {"": ["batch", "layer"]}


def test_the_most_common_settings_are_those_of_whole_runs() -> None:
    """Setting by setting, the most common values may belong to no run."""
    sizes = [(6, 8), (6, 8), (6, 9), (4, 9), (4, 9)]
    runs = [
        record(seed=seed, model=ModelConfig(hidden_size=hidden, embedding_size=embedding))
        for seed, (hidden, embedding) in enumerate(sizes, 1)
    ]
    assert [run.config.seed for run in group(runs).runs] == [1, 2]


def test_the_usual_settings_are_those_of_runs_that_have_ended() -> None:
    ended = [record(seed=seed) for seed in (1, 2)]
    begun = [record(seed=seed, model=ModelConfig(hidden_size=6)) for seed in (3, 4, 5)]
    for run, status in zip(begun, ("unfinished", "failed", "unfinished"), strict=True):
        run.status, run.results, run.failure = status, None, "loss is not finite"
    assert group([*begun, *ended]).runs == ended


def test_the_test_text_is_that_of_the_compared_runs() -> None:
    tested = {"bleu": 1.0, "chrf": 1.0, "bleu_signature": "B", "chrf_signature": "C"}
    runs = [
        record(
            seed=seed,
            results={"test": tested | {"reference_sha256": text}},
            model=ModelConfig() if seed in (1, 2, 6) else ModelConfig(hidden_size=2 * seed),
        )
        for seed, text in ((1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b"), (6, "b"))
    ]
    assert [run.config.seed for run in group(runs).runs] == [1, 2]


def test_without_an_experiment_every_difference_makes_a_line_and_a_note() -> None:
    runs = [record(experiment=None, lr=lr, seed=seed) for lr in (0.1, 0.2) for seed in SEEDS]
    found = group(runs)
    assert found.left_out == []
    assert found.norms == ["none (optimizer.lr 0.1)", "none (optimizer.lr 0.2)"]
    assert found.notes == ["optimizer.lr differs: 0.1 in 3 runs, 0.2 in 3 runs"]


def test_differences_that_follow_the_norm_are_noted_but_not_in_its_name() -> None:
    found = group([record(experiment=None, lr=0.1), record("layer", experiment=None, lr=0.2)])
    assert found.norms == ["none", "layer"]
    assert found.notes == [
        "optimizer.lr differs: 0.1 in none-lstm-1-None-0.1, 0.2 in layer-lstm-1-None-0.2"
    ]


def test_machines_and_versions_that_differ_are_noted() -> None:
    found = group(
        [record(seed=1), record(seed=2, results={"threads": 8, "versions": {"torch": "3"}})]
    )
    assert [note.partition(":")[0] for note in found.notes] == [
        "threads differs",
        "version of torch differs",
    ]


def test_commits_that_differ_are_noted() -> None:
    found = group([record(seed=1, results={"commit": "0123456789ab"}), record(seed=2)])
    assert [note.partition(":")[0] for note in found.notes] == ["commit differs"]


# -- what is not finite ---


def test_values_in_probes_that_are_not_finite_are_nan_and_counted(tmp_path: Path) -> None:
    run = record()
    del run.__dict__["probes"]
    run.run.probes_file = tmp_path / "probes.jsonl"
    run.run.probes_file.write_text(
        '{"probe": "length", "over": 0, "pieces": 5, "trained": 9, "nll": 1.0, "bleu": 2,'
        ' "length_ratio": 1.0}\n'
        '{"probe": "length", "over": 5, "pieces": 9, "trained": 9, "nll": null, "bleu": 2,'
        ' "length_ratio": 1.0}\n'
        '{"probe": "gradient_flow", "length": 2, "raw": [1.0, null], "gradient": [1.0, 1.0]}\n'
    )
    assert [math.isnan(p.nll) for p in run.probed(LengthBucket)] == [False, True]
    assert [math.isnan(value) for value in run.probed(GradientFlow)[0].raw] == [False, True]
    assert group([run]).notes == [
        f"{run.name}: probes.jsonl has lines with values that are not finite (2)"
    ]


def test_figures_that_are_not_finite_are_dropped() -> None:
    runs = [record(seed=seed) for seed in SEEDS]
    figures = {1: 1.0, 2: math.nan, 3: math.inf}
    assert by_seed(runs, lambda run: figures[run.config.seed]) == {1: 1.0}


# -- which figures belong side by side ---


def test_different_processors_are_noted_and_may_be_unknown() -> None:
    found = group(
        [
            record(seed=1, results={"processor": "A"}),
            record(seed=2, results={"processor": "B"}),
            record(seed=3),
        ]
    )
    assert found.notes == [
        "processor differs: A in none-lstm-1-None-0.001, B in none-lstm-2-None-0.001, "
        "unknown in none-lstm-3-None-0.001"
    ]


def test_a_run_scored_on_other_text_is_left_out() -> None:
    tested = {"bleu": 1.0, "chrf": 1.0, "bleu_signature": "B", "chrf_signature": "C"}
    texts = {
        1: {"reference_sha256": "a"},
        2: {"reference_sha256": "a"},
        3: {"reference_sha256": "b"},
        4: {},
    }
    found = group(
        record(seed=seed, experiment=None, results={"test": tested | text})
        for seed, text in texts.items()
    )
    assert [(run.config.seed, run.left_out) for run in found.left_out] == [
        (3, "was scored on another test set than the others")
    ]
    assert [run.config.seed for run in found.runs] == [1, 2, 4]  # an old run has stored no checksum


def test_runs_of_other_validation_text_or_another_bleu_are_left_out() -> None:
    scored = {"bleu": 1.0, "chrf": 1.0, "bleu_signature": "B", "chrf_signature": "C"}
    runs = [
        record(seed=seed, experiment=None, results={"valid": scored | {"reference_sha256": text}})
        for seed, text in ((1, "a"), (2, "a"), (3, "b"), (4, "a"))
    ]
    runs[3].config.data.bleu_tokenizer = "char"
    assert [(run.config.seed, run.left_out) for run in group(runs).left_out] == [
        (3, "was scored on another validation set than the others"),
        (4, "was scored by another BLEU than the others"),
    ]


def test_runs_of_other_training_text_have_a_note() -> None:
    texts = ("a", "a", "b", None)
    found = group(
        record(seed=seed, results={"train_sha256": text}) for seed, text in enumerate(texts)
    )
    assert found.left_out == []
    assert [note for note in found.notes if note.startswith("training text differs: a in")]
