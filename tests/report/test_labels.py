"""Labels of runs."""

from synthetic import group, record

from seq2seq.config import ModelConfig
from seq2seq.report.experiments import groups
from seq2seq.report.names import labels
from seq2seq.runs.records import RunRecord


def test_a_run_is_labelled_by_its_norm_if_that_is_enough() -> None:
    def names(*runs: RunRecord) -> list[str]:
        group(runs)
        return labels(runs)

    assert names(record(), record("layer")) == ["none", "layer"]
    assert names(record(seed=1), record(seed=2)) == ["none, seed 1", "none, seed 2"]
    assert names(record(lr=0.1, cell="lstm"), record(lr=0.1, cell="gru")) == [
        "none, cell lstm",
        "none, cell gru",
    ]
    rates = [record(seed=seed, lr=lr) for seed in (1, 2) for lr in (0.1, 0.2)]
    assert names(*rates)[:2] == ["none, seed 1, lr 0.1", "none, seed 1, lr 0.2"]
    many = ModelConfig(embedding_size=8, hidden_size=8, dropout=0.1)
    assert names(record(), record(lr=0.1, model=many)) == [
        "none-lstm-1-None-0.001",
        "none-lstm-1-None-0.1",
    ]


def test_labels_contain_the_experiment_and_corpus_if_these_differ() -> None:
    runs = [
        record(experiment=None, size=None),
        record("layer", experiment=None, size=None),
        record("layer", experiment=None, size="quick"),
    ]
    runs[1].config.data.name = "other"
    groups(runs)
    assert labels(runs) == ["none, toy", "layer, other", "layer, toy, quick"]
    runs = [record(experiment="length"), record("layer", experiment="convergence")]
    groups(runs)
    assert labels(runs) == ["none, length", "layer, convergence"]
