"""Batch statistics in eval mode, and statistics that are measured again."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from expected_statistics import (
    BATCHES,
    STATISTICS,
    STEPS,
    Buffers,
    Matrix,
    Raw,
    assert_buffers,
    buffers_of,
    layer_of,
    pooled,
    rows_of,
    steps_seen_after,
)
from oracles import CELLS, Oracle, config, randomised, run, sentences_of

from seq2seq.rnn import LSTM, TooFewRows, batch_statistics, recalibrating


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_batch_statistics_normalise_and_change_no_buffer(
    cell: str, statistics: str, training: bool
) -> None:
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    run(layer, sentences_of([3, 3, 2], 3))
    layer.train(training)
    before, sentences = (
        buffers_of(layer),
        sentences_of([6, 5, 6], 3, seed=7),
    )  # longer than in training
    in_training = run(copy.deepcopy(layer).train(), sentences)
    usual = run(copy.deepcopy(layer), sentences)
    with batch_statistics(torch.nn.ModuleList([layer])):
        torch.testing.assert_close(run(layer, sentences), in_training, rtol=0, atol=0)
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())
    torch.testing.assert_close(run(layer, sentences), usual, rtol=0, atol=0)


@pytest.mark.parametrize("mode", [batch_statistics, recalibrating])
@pytest.mark.parametrize("cell", CELLS)
def test_with_batch_statistics_too_few_rows_use_running_statistics(
    cell: str, mode: Callable[..., Any]
) -> None:
    layer = layer_of(cell)
    run(layer, sentences_of([3, 3, 2], 3))
    oracle, sentences = Oracle(layer, training=True), sentences_of([7, 5, 2], 3, seed=7)
    with mode(layer.eval()):
        torch.testing.assert_close(run(layer, sentences)[0], oracle(sentences)[0])


def recalibrated(raws: list[Raw], buffers: Buffers, statistics: str, min_rows: int) -> None:
    """Change buffers as a recalibration does whose calls normalised `raws`."""
    for term in raws[0]:
        steps: dict[int, list[Matrix]] = {}
        for raw in raws:
            for t, vectors in raw[term].items():
                if len(vectors) >= min_rows:
                    steps.setdefault(0 if statistics == "shared" else t, []).append(
                        rows_of(vectors)
                    )
        for t, samples in steps.items():
            mean, var = pooled(samples)
            buffers[f"running_mean_{term}"][t] = torch.from_numpy(mean)
            buffers[f"running_var_{term}"][t] = torch.from_numpy(var)
            buffers[f"num_updates_{term}"][t] += 1
    for raw in raws:
        steps_seen_after(buffers, raw, min_rows)


@pytest.mark.parametrize("trained", [[3, 3, 2], [7, 7]], ids=["on shorter", "on longer"])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_recalibration_stores_pooled_means_and_variances(
    cell: str, statistics: str, trained: list[int]
) -> None:
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    run(layer, sentences_of(trained, 3, seed=5))
    layer.eval()
    expected, raws = buffers_of(layer), []
    with recalibrating(layer):
        for seed, lengths in enumerate(BATCHES):
            oracle, sentences = Oracle(layer, training=True), sentences_of(lengths, 3, seed)
            torch.testing.assert_close(run(layer, sentences)[0], oracle(sentences)[0])
            raws.append(oracle.raw)
        assert_buffers(buffers_of(layer), expected)  # nothing changes before the end
    recalibrated(raws, expected, statistics, min_rows=2)
    assert_buffers(buffers_of(layer), expected)


def test_after_recalibration_on_one_batch_eval_mode_equals_training_mode() -> None:
    layer = layer_of(bidirectional=True, eps=1e-12).eval()
    sentences = sentences_of([4, 4, 4, 3, 3], 3)
    with recalibrating(layer):
        expected = run(layer, sentences)
    for name, buffer in layer.named_buffers():
        if name.startswith("running_var"):  # from the unbiased variance to the biased one
            sizes = torch.tensor([5, 5, 5, 3] + [1] * 3).double()
            buffer.mul_(((sizes - 1) / sizes).clamp(min=0.1)[:, None])
    torch.testing.assert_close(run(layer, sentences), expected)


def test_a_recalibration_that_fails_stores_nothing() -> None:
    layer = layer_of().eval()
    before = buffers_of(layer)
    with pytest.raises(ValueError, match="must be equal to input_size"), recalibrating(layer):
        [layer(x) for x in (torch.ones(2, 2, 3).double(), torch.ones(2, 2, 9).double())]
    assert_buffers(buffers_of(layer), before)
    run(layer, sentences_of([4, 4], 3))
    assert_buffers(buffers_of(layer), before)


@pytest.mark.parametrize("statistics", ["per_step", "shared"])
def test_a_recalibration_without_a_step_of_enough_rows_is_an_error(statistics: str) -> None:
    """Other steps keep their statistics, so that nothing would have changed."""
    norm = config("batch", statistics=statistics, min_rows=3)
    layer = LSTM(3, 4, norm=norm).eval()
    before = buffers_of(layer)
    model = torch.nn.ModuleDict({"rnn": layer})
    expected = r"recalibrating rnn: .* norm.min_rows=3 rows"
    with pytest.raises(TooFewRows, match=expected), recalibrating(model):
        layer(torch.randn(5, 2, 3))
    assert_buffers(buffers_of(layer), before)


def test_contexts_ignore_layers_without_batch_norm() -> None:
    layer = randomised(LSTM(3, 4, norm="layer")).eval()
    x = torch.randn(3, 2, 3, dtype=torch.double)
    with recalibrating(torch.nn.ModuleList([layer, torch.nn.Linear(3, 3)])):
        found = layer(x)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=0)


def test_resetting_the_norm_restores_its_initial_values() -> None:
    layer, fresh = layer_of(), LSTM(3, 4, norm=config("batch", max_steps=STEPS), dtype=torch.double)
    run(layer, sentences_of([3, 3], 3))
    weight = layer.get_parameter("weight_hh_l0").clone()
    layer.reset_norm()
    assert torch.equal(layer.get_parameter("weight_hh_l0"), weight)
    for name, tensor in layer.state_dict().items():
        if not name.startswith(("weight", "bias_ih", "bias_hh")):
            assert torch.equal(tensor, fresh.state_dict()[name]), name


def test_a_scope_within_a_scope_does_not_end_it() -> None:
    layer = layer_of("lstm").eval()
    x = torch.randn(4, 3, layer.input_size, dtype=torch.double)
    with torch.no_grad():
        with batch_statistics(layer):
            expected = layer(x)
            with batch_statistics(layer):
                pass
            torch.testing.assert_close(layer(x), expected, rtol=0, atol=0)
        with recalibrating(layer):
            with batch_statistics(layer):
                layer(x)
            layer(5 * x + 7)
            assert all(pool.rows[0] in (0, 6) for pool in layer.pools.values())
        assert not torch.equal(layer(x)[0], expected[0])
