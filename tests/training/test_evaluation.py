import json
import math
import platform
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TrainHere, final_results
from torch import Tensor
from typed import present

from seq2seq import __version__
from seq2seq.config import Config, Metric
from seq2seq.data.batches import BatchSampler
from seq2seq.data.dataset import ParallelDataset, Prepared
from seq2seq.data.preparation import prepare
from seq2seq.data.shortlist import Shortlist, shortlist_for
from seq2seq.data.text import text_sha256
from seq2seq.device import processor
from seq2seq.model import Translator
from seq2seq.probes import Subject
from seq2seq.rnn import NormConfig, NormKind, Statistics, batch_statistics
from seq2seq.runs.checkpoint import (
    average_weights,
    group,
    load_checkpoint,
    load_weights,
    read_state,
)
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import evaluation
from seq2seq.training.commit import code_commit
from seq2seq.training.evaluation import (
    recalibrate,
    standing_of,
    teacher_forced_loss,
    training_batches,
    use_best,
    validation_bleu,
)
from seq2seq.translation.loading import build_translator, load_translator
from seq2seq.translation.scores import score

CPU = torch.device("cpu")
BATCH = ["norm=batch", "norm.min_rows=2", "norm.cell=output"]


def opened(run: Run, name: str = "best") -> tuple[Config, Prepared, Translator]:
    """Return a run's configuration, prepared corpus and model."""
    config = run.config()
    model, _ = load_translator(run, CPU, name)
    return config, prepare(config.data, config.tokenizer, progress=False), model


@pytest.fixture(scope="module")
def with_batch_norm(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_here(tmp_path_factory.mktemp("batch") / "run", *BATCH)


@pytest.fixture(scope="module")
def without_recalibration(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_here(tmp_path_factory.mktemp("batch") / "run", *BATCH, "trainer.recalibrate=false")


def one_by_one(model: Translator, dataset: ParallelDataset) -> float:
    """Return the mean loss of a target piece, computed sentence by sentence."""
    found: list[float] = [
        model(b.src, b.src_lengths, b.tgt, b.tgt_lengths)[1].item()
        for i in range(len(dataset))
        for b in [dataset.batch(torch.tensor([i]).numpy())]
    ]
    return sum(found) / int(dataset.tgt_lengths.sum())


def test_the_loss_is_the_mean_over_pieces(finished: Run) -> None:
    config, prepared, model = opened(finished)
    valid = prepared.split("valid")
    expected = one_by_one(model, valid)
    assert teacher_forced_loss(model, valid, config) == pytest.approx(expected, rel=1e-5)
    few = replace(config, data=replace(config.data, batch_sentences=5))
    assert teacher_forced_loss(model, valid, few, by_batch=True) == pytest.approx(
        expected, rel=1e-5
    )
    assert final_results(finished)["valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_batch_and_stored_statistics(with_batch_norm: Run) -> None:
    config, prepared, model = opened(with_batch_norm)
    valid, results = prepared.split("valid"), final_results(with_batch_norm)
    assert results["valid_loss"] == pytest.approx(
        one_by_one(model, valid), rel=1e-4
    )  # its value does not depend on other sentences
    data = config.data
    total = 0.0
    sampler = BatchSampler(
        valid.src_lengths, valid.tgt_lengths, batch_sentences=data.batch_sentences, shuffle=False
    )
    for batch in valid.batches(sampler):
        with torch.no_grad(), batch_statistics(model):
            total += model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths)[1].item()
    expected = total / int(valid.tgt_lengths.sum())
    assert results["valid_loss_batch_statistics"] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - results["valid_loss"]) > 1e-4


def test_every_norm_trains_on_batches_of_any_length(finished: Run, with_batch_norm: Run) -> None:
    for run in (finished, with_batch_norm):
        config, prepared, _ = opened(run)
        train_set = prepared.split("train")
        assert training_batches(train_set, config).bucket_batches == 1
        asked = replace(config, data=replace(config.data, bucket_batches=7))
        assert training_batches(train_set, asked).bucket_batches == 7


def test_only_some_validation_sentences(finished: Run) -> None:
    config, prepared, model = opened(finished)
    valid = prepared.split("valid")
    few = replace(config, trainer=replace(config.trainer, validate_sentences=5))
    scores, texts = validation_bleu(Subject(model, few, prepared), valid)
    assert len(texts) == 5
    assert scores == score(texts, valid.lines("target")[:5], "13a")
    everything = validation_bleu(Subject(model, config, prepared), valid)[1]
    assert len(everything) == len(valid) == 24
    assert everything[:5] == texts


def statistics(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if "running_" in name}


def test_the_run_says_what_recalibration_did_to_the_loss(
    train_here: TrainHere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train_here(tmp_path / "run", *BATCH)
    valid = [e for e in read_metrics(run.metrics_file) if e["kind"] == "valid"]
    results = final_results(run)
    (before,) = [e["loss"] for e in valid if e["update"] == results["best_update"]]
    after = results["valid_loss"]
    assert before != after
    said = f"final model; validation loss {before:.3f} before, {after:.3f} after\n"
    assert capsys.readouterr().out.count(said) == 1
    train_here(tmp_path / "other", *BATCH, "trainer.recalibrate=false")
    assert "trainer.recalibrate=" not in capsys.readouterr().out


def test_recalibration_changes_only_the_statistics_of_best(
    with_batch_norm: Run, without_recalibration: Run
) -> None:
    recalibrated, plain = (
        group(load_checkpoint(run.checkpoint("best"))[0], "model")
        for run in (with_batch_norm, without_recalibration)
    )
    changed = {name for name in plain if not torch.equal(plain[name], recalibrated[name])}
    assert {name for name in changed if "num_updates" not in name} <= statistics(plain).keys()
    assert {name.rpartition(".")[2] for name in changed} >= {
        "running_mean_ih_l0",
        "running_var_hh_l0",
        "running_var_c_l0_reverse",
        "running_mean_ih_l0_reverse",
    }
    last = [
        load_checkpoint(run.checkpoint("last"))[0]
        for run in (with_batch_norm, without_recalibration)
    ]
    assert [name for name in last[0] if not torch.equal(last[0][name], last[1][name])] == []


def test_the_statistics_of_best_are_those_of_the_training_data(
    with_batch_norm: Run, without_recalibration: Run
) -> None:
    """Computed by hand for the same weights before they were recalibrated."""
    config, prepared, model = opened(without_recalibration)
    recalibrate(model, prepared.split("train"), config)
    best = group(load_checkpoint(with_batch_norm.checkpoint("best"))[0], "model")
    expected = statistics(model.state_dict())
    assert [name for name in expected if not torch.equal(best[name], expected[name])] == []


def test_an_average_is_recalibrated_though_the_best_checkpoint_was(
    with_batch_norm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a finished training that is extended: its `best` has been recalibrated."""
    run = Run(tmp_path / "run")
    shutil.copytree(with_batch_norm.folder, run.folder)
    assert read_state(run.checkpoint("best"))["recalibrated"]
    for update, name in ((8, "best"), (16, "last")):
        shutil.copy(run.checkpoint(name), run.checkpoint(f"update-{update:09}"))
    monkeypatch.setattr(evaluation, "take_standing", lambda *_: True)
    config, prepared, model = opened(run)
    use_best(run, Subject(model, config, prepared))
    average = average_weights(sorted(run.checkpoints.glob("update-*")))
    load_weights(model, average, run.folder)
    recalibrate(model, prepared.split("train"), config)
    found, expected = group(load_checkpoint(run.checkpoint("best"))[0], "model"), model.state_dict()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert any(not torch.equal(average[name], expected[name]) for name in statistics(expected))


def test_recalibration_takes_the_statistics_of_the_data_that_it_is_given(
    with_batch_norm: Run,
) -> None:
    config, prepared, model = opened(with_batch_norm)
    config = replace(
        config, data=replace(config.data, batch_sentences=240)
    )  # the whole training set in one batch
    recalibrate(model, prepared.split("train"), config)
    train_set = prepared.split("train")
    stored = teacher_forced_loss(model, train_set, config)
    by_batch = teacher_forced_loss(model, train_set, config, by_batch=True)
    assert stored == pytest.approx(by_batch, rel=0.01)  # running_var is the unbiased one


def test_recalibration_of_a_few_batches(
    with_batch_norm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, prepared, model = opened(with_batch_norm)
    model.train()
    config = replace(config, trainer=replace(config.trainer, recalibrate_batches=2))
    seen = []
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].size(0)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate(model, prepared.split("train"), config)
    handle.remove()
    assert seen == [30, 30]
    assert not model.training
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name, _ in model.named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in statistics(before))


def test_recalibration_changes_nothing_where_no_batch_has_enough_rows(finished: Run) -> None:
    config, prepared, _ = opened(finished)
    norm = NormConfig(NormKind.batch, statistics=Statistics.per_step, min_rows=3)
    config = replace(config, norm=norm, data=replace(config.data, batch_sentences=2))
    torch.manual_seed(0)
    model = build_translator(config, prepared.tokenizers)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate(model, prepared.split("train"), config)
    assert not model.training
    changed = [n for n, value in model.state_dict().items() if not torch.equal(before[n], value)]
    assert changed == []


@pytest.mark.parametrize("kind", list(Statistics))
def test_recalibration_has_the_rows_of_training(kind: Statistics, finished: Run) -> None:
    """With R-Drop each sentence counts twice: 6 of them are the 12 rows that min_rows asks for."""
    config, prepared, _ = opened(finished)
    norm = NormConfig(NormKind.batch, statistics=kind, min_rows=12)
    config = replace(config, norm=norm, data=replace(config.data, batch_sentences=6))
    twice = replace(config, trainer=replace(config.trainer, r_drop=1.0))
    torch.manual_seed(0)
    model, train_set = build_translator(config, prepared.tokenizers).eval(), prepared.split("train")
    recurrent = "encoder.layers.0.running_mean_hh_l0"
    stored = teacher_forced_loss(model, train_set, config)
    alone, both = (teacher_forced_loss(model, train_set, c, by_batch=True) for c in (config, twice))
    if kind is not Statistics.sequence_input:  # which has enough rows in all steps together
        assert alone == pytest.approx(stored, rel=1e-6)
    assert both != pytest.approx(alone, rel=1e-6)
    recalibrate(model, train_set, config)
    assert not model.state_dict()[recurrent].any()
    recalibrate(model, train_set, twice)
    assert model.state_dict()[recurrent].any()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", list(Metric))
def test_a_loss_that_is_not_finite_is_the_worst(loss: float, metric: Metric) -> None:
    config = replace(Config(), trainer=replace(Config().trainer, best_metric=metric))
    scores = score(["a b c d e"], ["a b c d e"], "13a")
    worst, bad = (standing_of(scores, x, config) for x in (loss, 1e30))
    assert worst < bad
    assert not worst > bad
    assert json.loads(json.dumps(worst, allow_nan=False)) == worst


@pytest.mark.parametrize("kind", list(Statistics))
def test_recalibration_works_without_training(kind: Statistics, finished: Run) -> None:
    config, prepared, _ = opened(finished)
    config = replace(config, norm=NormConfig(NormKind.batch, statistics=kind, min_rows=8))
    torch.manual_seed(0)
    model = build_translator(config, prepared.tokenizers).eval()
    before = teacher_forced_loss(model, prepared.split("train"), config)
    recalibrate(model, prepared.split("train"), config)
    assert math.isfinite(before)
    assert model.state_dict()["encoder.layers.0.running_mean_hh_l0"].abs().sum() > 0
    assert math.isfinite(teacher_forced_loss(model, prepared.split("train"), config))


@pytest.mark.parametrize("run_name", ["finished", "with_batch_norm"])
def test_results_hold_the_documented_values(run_name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(run_name)
    results = json.loads(run.results_file.read_text(encoding="utf-8"))
    config, _, model = opened(run)
    for split in ("valid", "test"):
        found = results[split]
        assert found["bleu_signature"].startswith(
            "BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
        )
        assert found["chrf_signature"].startswith("chrF2|nrefs:1|")
        texts = (run.translations / f"{split}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        with open(getattr(config.data, split).target, encoding="utf-8") as file:
            expected = score(texts, file.read().split("\n")[:-1], "13a")
        assert (found["bleu"], found["chrf"]) == (expected.bleu, expected.chrf)
        for side, key in (("source", "source_sha256"), ("target", "reference_sha256")):
            assert found[key] == text_sha256(Path(getattr(getattr(config.data, split), side)))
    assert results["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert results["versions"]["python"] == platform.python_version()
    assert results["versions"]["seq2seq"] == __version__
    assert results["versions"].keys() >= {"sentencepiece", "sacrebleu"}
    assert results.get("commit") == code_commit()
    assert results["parameters"] == sum(p.numel() for p in model.parameters())
    assert (results["seed"], results["corpus"], results["cell"], results["update"]) == (
        1,
        "toy",
        "lstm",
        16,
    )
    assert results["wall_seconds"] >= results["seconds"] > 0
    assert results["tokens_per_second"] == pytest.approx(results["tokens"] / results["seconds"])
    device = next(model.parameters()).device
    assert (results["device"], results["threads"]) == (str(device), 1)
    assert results["processor"] == processor(device)
    assert results["decode"] == asdict(config.decode)
    assert results["decode"]["max_length"] == "2.0x+10"
    assert ("valid_loss_batch_statistics" in results) is (results["norm"] == "batch")


def test_a_line_to_score_is_never_dropped(train_here: TrainHere, tmp_path: Path) -> None:
    """The test set has an empty line, a repeated one, and one longer than a training pair may be."""
    source, target = tmp_path / "source", tmp_path / "target"
    long = " ".join(["do re mi"] * 20)
    source.write_text(f"do re\n\ndo re\n{long}\n", encoding="utf-8")
    target.write_text(f"re do\nx\nre do\n{long}\n", encoding="utf-8")
    files = [
        f"data.{split}.{side}={tmp_path / side}"
        for split in ("valid", "test")
        for side in ("source", "target")
    ]
    run = train_here(tmp_path / "run", *files, "data.max_length=4", "trainer.max_epochs=1", *BATCH)
    for split in ("valid", "test"):
        lines = (run.translations / f"{split}.txt").read_text(encoding="utf-8").split("\n")
        assert len(lines) == 5
        assert lines[1] == ""
        assert lines[0] == lines[2]
        assert lines[3]
    counts = prepare(run.config().data, run.config().tokenizer).manifest.splits
    assert counts["train"].too_long > 0
    assert (counts["valid"].kept, counts["valid"].too_long) == (4, 0)


def test_no_test_set(train_here: TrainHere, tmp_path: Path) -> None:
    run = train_here(
        tmp_path / "run", "data.test.source=null", "data.test.target=null", "trainer.max_updates=1"
    )
    assert "test" not in final_results(run)
    assert [path.name for path in run.translations.iterdir()] == ["valid.txt"]


def test_a_run_keeps_the_shortlist_that_it_was_scored_with(
    train_here: TrainHere, tmp_path: Path
) -> None:
    run = train_here(tmp_path / "run", "decode.shortlist=5", "trainer.max_updates=1")
    found = shortlist_for(run.config().decode, opened(run)[1])
    assert np.array_equal(Shortlist.load(run.shortlist_file).candidates, present(found).candidates)


def test_the_scored_weights_are_those_of_best(train_here: TrainHere, tmp_path: Path) -> None:
    # At this learning rate the loss rises again after its first updates.
    run = train_here(
        tmp_path / "run",
        *("trainer.best_metric=loss", "optimizer.lr=0.3", "optimizer.schedule=constant"),
        *("optimizer.warmup_updates=0", "trainer.validate_every=2"),
    )
    best = group(load_checkpoint(run.checkpoint("best"))[0], "model")
    last = group(load_checkpoint(run.checkpoint("last"))[0], "model")
    assert not torch.equal(best["output.weight"], last["output.weight"])
    config, prepared, model = opened(run)
    assert (
        teacher_forced_loss(model, prepared.split("valid"), config)
        == final_results(run)["valid_loss"]
    )
    load_weights(model, last, run.checkpoint("last"))
    assert (
        teacher_forced_loss(model, prepared.split("valid"), config)
        != final_results(run)["valid_loss"]
    )
