"""Probes: each figure against an independent computation, and no influence on training."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TrainHere
from oracles import randomised
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from seq2seq.data.preparation import prepare
from seq2seq.probes import Subject, probe
from seq2seq.probes.gradient_flow import flow
from seq2seq.probes.invariance import EPS, LENGTH, change_weights, changed_data
from seq2seq.probes.length import buckets
from seq2seq.probes.length import length as by_length
from seq2seq.probes.train_eval_gap import batch_sets, distances, losses
from seq2seq.rnn import GRU, LSTM, RNN, NormKind, RecurrentLayers, batch_statistics
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training.evaluation import recalibrate
from seq2seq.translation.loading import load_translator
from seq2seq.translation.scores import score

ALL = "probe.kinds=[gradient_flow,train_eval_gap,invariance,length]"
SMALL = (
    ALL,
    "probe.sentences=8",
    "probe.batches=3",
    "probe.lengths=[3,6]",
    "probe.buckets=[4,5,9]",
)


BATCH = ["norm.min_rows=2", "norm.cell=output"]
"""Settings of batch norm: statistics of steps with few rows, and of the cell state."""
Probed = Callable[[str], Run]
"""Returns a trained run of the toy corpus with all probes, by norm."""


@pytest.fixture(scope="module")
def probed(train_here: TrainHere, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    """Return a function that trains a run with all probes, once for each norm."""
    folder, runs = tmp_path_factory.mktemp("probed"), {}

    def make(norm: str) -> Run:
        if norm not in runs:
            own = BATCH if norm == "batch" else []
            runs[norm] = train_here(folder / norm, f"norm={norm}", *own, *SMALL)
        return runs[norm]

    return make


def subject_of(run: Run) -> Subject:
    config = run.config()
    prepared = prepare(config.data, config.tokenizer, progress=False)
    return Subject(load_translator(run, torch.device("cpu"))[0], config, prepared)


# -- in a run ---


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_run_writes_the_entries_of_all_probes(probed: Probed, norm: str) -> None:
    run = probed(norm)
    entries = read_metrics(run.probes_file)
    flows = [e for e in entries if e["probe"] == "gradient_flow"]
    assert [(e["update"], e["length"]) for e in flows] == [
        (u, n) for u in (0, 8, 16) for n in (3, 6)
    ]
    assert not any(e["final"] for e in flows)
    assert {e["probe"] for e in entries if e["final"]} == {"train_eval_gap", "invariance", "length"}
    assert {e["update"] for e in entries if e["final"]} == {16}
    assert all(
        math.isfinite(v)
        for e in flows
        for key in ("raw", "summed", "hidden", "gradient")
        for v in e[key]
    )


def test_probes_do_not_change_the_training(
    probed: Probed, train_here: TrainHere, tmp_path: Path
) -> None:
    plain = train_here(tmp_path / "plain", "norm=batch", *BATCH)
    assert not plain.probes_file.exists()
    for name in ("last", "best"):
        assert (
            plain.checkpoint(name).read_bytes()[-1000:]
            == probed("batch").checkpoint(name).read_bytes()[-1000:]
        )
    ours, theirs = (
        load_translator(run, torch.device("cpu"))[0].state_dict()
        for run in (probed("batch"), plain)
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_longer_training_removes_the_final_entries_of_the_shorter(
    train_here: TrainHere, tmp_path: Path
) -> None:
    settings = [*SMALL, "optimizer.schedule=constant"]
    run = train_here(tmp_path / "run", *settings)
    before = read_metrics(run.probes_file)
    train_here(tmp_path / "run", *settings, "trainer.max_epochs=3", f"resume={tmp_path / 'run'}")
    after = read_metrics(run.probes_file)
    kept = [e for e in before if not e["final"]]
    assert after[: len(kept)] == kept
    flows = [e["update"] for e in after if e["probe"] == "gradient_flow"]
    assert flows == [update for update in (0, 8, 16, 24) for _ in (3, 6)], "each once"
    assert {e["update"] for e in after if e["final"]} == {24}
    assert len([e for e in after if e["final"]]) == len([e for e in before if e["final"]])


def test_probes_do_not_change_mode_and_random_numbers(probed: Probed) -> None:
    subject = subject_of(probed("batch"))
    subject.model.train()
    state, buffers = torch.get_rng_state(), copy.deepcopy(dict(subject.model.named_buffers()))
    assert list(probe(subject, final=True)) + list(probe(subject, final=False))
    assert subject.model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(b, buffers[name]) for name, b in subject.model.named_buffers())


# -- gradient_flow ---


def test_sums_and_gradients_of_a_plain_cell_agree_with_the_equations() -> None:
    """The gradient follows the chain rule: dL/dh_t = U^T diag(1 - h_{t+1}^2) dL/dh_{t+1}.

    The cell is h_t = tanh(W x_t + b + U h_{t-1} + d).
    """
    layer = randomised(RNN(3, 4, norm="none"), seed=1)
    x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = flow(layer, x)
    h, states, sums = torch.zeros(2, 4, dtype=torch.float64), [], []
    for x_t in x:
        v = x_t @ layer.get_parameter("weight_ih_l0").T + h @ layer.get_parameter("weight_hh_l0").T
        h = torch.tanh(v + layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0"))
        sums.append(v)
        states.append(h)
    gradient = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = [gradient]
    for h in reversed(states[1:]):
        gradient = (gradient * (1 - h**2)) @ layer.get_parameter("weight_hh_l0")
        gradients.insert(0, gradient)

    def size(values: list[Tensor]) -> list[float]:
        return [v.square().mean().sqrt().item() for v in values]

    assert found["raw"] == pytest.approx(size(sums))
    assert found["hidden"] == pytest.approx(size(states))
    assert found["gradient"] == pytest.approx([2 * s for s in size(gradients)])  # sqrt(H) times


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("cell", [LSTM, GRU, RNN])
def test_every_cell_and_norm_is_measured_and_not_changed(
    cell: type[GRU] | type[LSTM] | type[RNN], norm: str
) -> None:
    layer = cell(3, 4, norm=norm)
    before = copy.deepcopy(layer.state_dict())
    found = flow(layer, torch.randn(7, 5, 3))
    assert all(len(values) == 7 and all(map(math.isfinite, values)) for values in found.values())
    assert ("gradient_c" in found) == (cell is LSTM)
    assert all(p.grad is None and p.requires_grad for p in layer.parameters())
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_only_a_norm_scales_the_sums_that_enter_the_gates() -> None:
    x = torch.randn(6, 8, 3)
    none = flow(LSTM(3, 4, bias=False, norm="none"), x)
    assert none["summed"] == pytest.approx(none["raw"])
    layer = LSTM(3, 4, bias=False, norm="layer")
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").mul_(100)
    assert max(flow(layer, x)["summed"]) < 2.5 < min(flow(layer, x)["raw"])


def test_running_text_joins_the_sentences(probed: Probed) -> None:
    subject = subject_of(probed("none"))
    dataset, eos = subject.prepared.split("train"), subject.model.vocabulary.eos_id
    ids = [i for n in range(len(dataset)) for i in (*dataset.src(n).tolist(), eos)]
    for length in (4, 2000):
        rows = torch.tensor((ids * 20)[: 8 * length]).view(8, length)
        expected = subject.model.src_embedding(rows).transpose(0, 1)
        assert torch.equal(subject.running_text(length), expected)


# -- train_eval_gap ---


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_norms_over_features_have_no_gap(probed: Probed, norm: str) -> None:
    entries = read_metrics(probed(norm).probes_file)
    found = [entry for entry in entries if entry["probe"] == "train_eval_gap"]
    assert [entry["set"] for entry in found] == ["train", "test"]
    for entry in found:
        assert entry["batch"] == entry["evaluation"] != entry["training"]
        assert "term" not in entry


@torch.no_grad()
def test_losses_are_those_of_the_same_batches_in_each_mode(probed: Probed) -> None:
    subject = subject_of(probed("batch"))
    found = batch_sets(subject)
    assert {name: len(batches) for name, batches in found.items()} == {"train": 3, "test": 2}
    tokens = sum(b.tgt_tokens for b in found["test"])

    def loss() -> float:
        sums: list[float] = [
            subject.model(b.src, b.src_lengths, b.tgt, b.tgt_lengths)[1].item()
            for b in found["test"]
        ]
        return sum(sums) / tokens

    measured = losses(subject, found["test"])
    assert measured["evaluation"] == loss()
    with batch_statistics(subject.model):
        assert measured["batch"] == loss() != measured["evaluation"]
    assert not subject.model.training


def test_statistics_stored_from_the_same_batches_are_close(probed: Probed) -> None:
    subject = subject_of(probed("batch"))
    dataset = subject.prepared.split("train")
    config = copy.deepcopy(subject.config)
    config.data.batch_sentences, config.norm.kind = 8, NormKind.batch
    recalibrate(subject.model, dataset, config)  # of all training sentences
    sampler_batches = [dataset.batch(np.arange(i, i + 8)) for i in range(0, len(dataset), 8)]
    near = distances(subject, sampler_batches)
    far = distances(subject, batch_sets(subject)["test"][:1])
    assert near.keys() == far.keys() >= {"encoder.layers.0.hh_l0_reverse", "decoder.layers.0.c_l0"}
    for term in near:
        assert near[term]["steps"] == sorted(near[term]["steps"])
        for distance in ("mean_shift", "log_scale"):
            assert max(near[term][distance][:3]) < 0.3 * max(far[term][distance][:3])


def test_distances_are_those_of_their_definition(probed: Probed) -> None:
    """Of the input terms, which share their statistics over all steps; computed in numpy."""
    subject = subject_of(probed("batch"))
    layer = subject.first_layer()
    layer.norm = replace(layer.norm, eps=0.5)  # so that it counts
    found = batch_sets(subject)["test"]
    weight = layer.get_parameter("weight_ih_l0").detach().double().numpy()
    counts, means, variances = [], [], []
    for batch in found:
        inside = torch.arange(batch.src.size(1)) < batch.src_lengths[:, None]
        rows = subject.model.src_embedding(batch.src[inside]).detach().double().numpy() @ weight.T
        counts.append(len(rows))
        means.append(rows.mean(0))
        variances.append(rows.var(0, ddof=1))
    mean = np.average(means, axis=0, weights=counts)
    var = np.average(variances, axis=0, weights=np.array(counts) - 1)
    stored_mean, stored_var = (
        layer.get_buffer(f"running_{what}_ih_l0")[0].double().numpy() for what in ("mean", "var")
    )
    shift = (mean - stored_mean) / np.sqrt(stored_var + 0.5)
    scale = np.log(np.sqrt((var + 0.5) / (stored_var + 0.5)))
    measured = distances(subject, found)["encoder.layers.0.ih_l0"]
    assert (measured["steps"], measured["rows"]) == ([0], [sum(counts)])
    for name, expected in (("mean_shift", shift), ("log_scale", scale)):
        assert measured[name] == pytest.approx([np.sqrt(np.mean(expected**2))], rel=1e-4)


def test_later_steps_are_compared_with_the_last_stored_statistics(
    probed: Probed,
) -> None:
    subject = subject_of(probed("batch"))
    layer = subject.model.decoder.layers[0]
    seen = int(layer.get_buffer("steps_seen_l0"))
    with torch.no_grad():
        layer.get_buffer("running_mean_c_l0")[seen - 1 :] = 0.0
        layer.get_buffer("running_mean_c_l0")[seen - 1] = 1e3
        layer.get_buffer("running_var_c_l0").fill_(1.0)
    longer = subject.batch(["do re mi fa sol la si ut"] * 4, ["do re mi fa sol la si ut " * 3] * 4)
    found = distances(subject, [longer])["decoder.layers.0.c_l0"]
    assert found["steps"][-1] > seen
    assert min(found["mean_shift"][seen:]) > 900


# -- length and invariance ---


def test_every_sentence_is_in_the_bucket_of_its_length(probed: Probed) -> None:
    subject = subject_of(probed("none"))
    found = {(over, most): pairs for over, most, pairs in buckets(subject)}
    assert set(found) <= {(0, 4), (4, 5), (5, 9)}
    src, tgt = subject.lines("test")
    for (over, most), (sources, targets) in found.items():
        expected = [
            (s, t) for s, t in zip(src, tgt, strict=True) if over < len(s.split()) + 1 <= most
        ]  # eos counts
        assert list(zip(sources, targets, strict=True)) == expected
    assert sum(len(sources) for sources, _ in found.values()) == len(src)
    subject.config.probe.bucket_sentences = 1
    assert all(len(pairs[0]) == 1 for _, _, pairs in buckets(subject))


def test_quality_by_length(probed: Probed) -> None:
    run, subject = probed("batch"), subject_of(probed("batch"))
    entries = [e for e in read_metrics(run.probes_file) if e["probe"] == "length"]
    assert {e["statistics"] for e in entries} == {"running", "batch"}
    assert {e["trained"] for e in entries} == {6}  # five words and eos
    assert {
        e["statistics"] for e in read_metrics(probed("none").probes_file) if e["probe"] == "length"
    } == {"running"}
    found = {(over, most): pairs for over, most, pairs in buckets(subject)}
    for entry in entries:
        src, tgt = found[entry["over"], entry["pieces"]]
        batch, own = subject.batch(src, tgt), entry["statistics"] == "batch"
        decode = replace(subject.config.decode, batch_size=len(src))
        with torch.no_grad(), batch_statistics(subject.model) if own else nullcontext():
            nll = subject.model(batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths)[1]
            texts = [best[0].text for best in subject.session(decode).translate(src)]
        scores = score(texts, tgt, subject.config.data.splits_for_bleu)
        assert entry["nll"] == pytest.approx(nll.item() / batch.tgt_tokens)
        assert (entry["bleu"], entry["chrf"]) == (scores.bleu, scores.chrf)
        assert entry["length_ratio"] == len("".join(texts)) / len("".join(tgt))
        assert entry["sentences"] == len(src)
    assert len({e["nll"] for e in entries}) == len(entries) > len(found)


def test_a_bucket_is_one_batch_in_search(probed: Probed) -> None:
    subject = subject_of(probed("batch"))
    expected = list(by_length(subject))
    assert max(line["sentences"] for line in expected if line["statistics"] == "batch") > 3
    subject.config.decode.batch_size = 3
    assert list(by_length(subject)) == expected


def test_buckets_with_too_few_sentences_have_no_batch_statistics(
    probed: Probed,
) -> None:
    subject = subject_of(probed("batch"))
    assert {line["statistics"] for line in by_length(subject)} == {"running", "batch"}
    subject.config.norm.min_rows = subject.config.probe.sentences
    assert {b.src.size(0) for found in batch_sets(subject).values() for b in found} == {
        subject.config.norm.min_rows
    }
    subject.config.norm.min_rows = 100
    assert {line["statistics"] for line in by_length(subject)} == {"running"}
    assert batch_sets(subject) == {}


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "rms"])
def test_a_trained_layer_has_the_invariances_of_the_table(probed: Probed, norm: str) -> None:
    entries = [e for e in read_metrics(probed(norm).probes_file) if e["probe"] == "invariance"]
    assert len(entries) == 6
    assert sum(e["claimed"] for e in entries) == {"none": 0, "batch": 4, "layer": 4, "rms": 3}[norm]
    for e in entries:
        assert (e["change"] < 1e-6) == e["claimed"], e


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_change_is_the_largest_over_the_size_of_the_outputs(probed: Probed, norm: str) -> None:
    """With an eps that is negligible, and with that of the run."""
    entries = [e for e in read_metrics(probed(norm).probes_file) if e["probe"] == "invariance"]
    subject = subject_of(probed(norm))
    sentences = list(subject.running_text(LENGTH).double().unbind(1))

    def outputs(layer: RecurrentLayers, sentences: list[Tensor]) -> np.ndarray:
        rows, _ = layer(pack_sequence(sentences))
        half: np.ndarray = rows.data[:, : layer.hidden_size].detach().numpy()
        return half

    for e in entries:
        for key, eps in (("change", EPS), ("change_eps", subject.first_layer().norm.eps)):
            layer, name = copy.deepcopy(subject.first_layer()).double(), e["transformation"]
            layer.norm = replace(layer.norm, eps=eps) if norm == "layer" else layer.norm
            before = outputs(layer, sentences)
            if name.startswith(("data", "case")):
                after = outputs(layer, changed_data(sentences, name))
            else:
                change_weights(layer, name)
                after = outputs(layer, sentences)
            expected = np.abs(after - before).max() / np.sqrt(np.mean(before**2))
            assert e[key] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert any(e["change_eps"] > 10 * e["change"] for e in entries) is (norm == "layer")
