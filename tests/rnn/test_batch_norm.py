"""Batch norm's statistics: their rows and steps, when they are used and when they change."""

import copy

import pytest
import torch
from expected_statistics import (
    BATCHES,
    STATISTICS,
    STEPS,
    assert_buffers,
    buffers_of,
    layer_of,
    update_expected,
)
from oracles import CELLS, Oracle, parts, random_state, run, sentences_of
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import LSTM, batch_statistics, recalibrating

# -- statistics after a training call ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_update_averages_the_active_rows_of_each_step(
    cell: str, statistics: str, given: bool
) -> None:
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    expected = buffers_of(layer)
    for seed, lengths in enumerate(BATCHES):
        sentences = sentences_of(lengths, 3, seed)
        state = random_state(layer, len(lengths), seed) if given else None
        oracle = Oracle(layer)
        torch.testing.assert_close(run(layer, sentences, state)[0], oracle(sentences, state)[0])
        update_expected(expected, oracle.raw, statistics)
        assert_buffers(buffers_of(layer), expected)


def test_the_first_step_of_the_reverse_direction_is_the_last_word() -> None:
    layer = layer_of(bidirectional=True)
    sentences = sentences_of([5, 2, 4], 3)
    run(layer, sentences)
    last_words = (
        torch.stack([s[-1] for s in sentences]) @ layer.get_parameter("weight_ih_l0_reverse").T
    )
    first_words = torch.stack([s[0] for s in sentences]) @ layer.get_parameter("weight_ih_l0").T
    torch.testing.assert_close(
        layer.get_buffer("running_mean_ih_l0_reverse")[0], last_words.mean(0)
    )
    torch.testing.assert_close(layer.get_buffer("running_var_ih_l0_reverse")[0], last_words.var(0))
    torch.testing.assert_close(layer.get_buffer("running_mean_ih_l0")[0], first_words.mean(0))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_plain_tensor_has_no_padding(statistics: str) -> None:
    packed, plain = (layer_of(statistics=statistics) for _ in range(2))
    xs = sentences_of([4, 4, 4], 3)
    run(packed, xs)
    plain(torch.stack(xs, dim=1))
    assert_buffers(buffers_of(plain), buffers_of(packed))


@pytest.mark.parametrize("cell", CELLS)
def test_without_h_0_the_recurrent_term_has_no_update_at_the_first_step(cell: str) -> None:
    layer = layer_of(cell, terms="separate")
    run(layer, sentences_of([3, 3, 3], 3))
    assert layer.get_buffer("num_updates_hh_l0").tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert layer.get_buffer("num_updates_ih_l0").tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert torch.equal(
        layer.get_buffer("running_mean_hh_l0")[0], torch.zeros(layer.gates * 4).double()
    )
    assert torch.equal(
        layer.get_buffer("running_var_hh_l0")[0], torch.ones(layer.gates * 4).double()
    )
    run(layer, sentences_of([3, 3, 3], 3), random_state(layer, 3))
    assert layer.get_buffer("num_updates_hh_l0")[0] == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_without_h_0_the_recurrent_term_is_zero_whatever_its_statistics(
    cell: str, training: bool
) -> None:
    layer = layer_of(cell, terms="separate").train(training)
    layer.get_buffer("running_mean_hh_l0").fill_(3.0)
    x = torch.stack(sentences_of([1, 1, 1], 3), dim=1)
    output = layer(x)[0]
    with torch.no_grad():
        layer.get_parameter("gain_hh_l0").fill_(7.0)
    torch.testing.assert_close(layer(x)[0], output, rtol=0, atol=0)


def test_shapes_and_names_of_the_buffers() -> None:
    lstm = LSTM(3, 4, num_layers=2, bidirectional=True, norm="batch")
    shapes = {name: tuple(b.shape) for name, b in lstm.named_buffers()}
    expected: dict[str, tuple[int, ...]] = {}
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        expected[f"steps_seen{suffix}"] = ()
        for term, size in (("ih", 16), ("hh", 16), ("c", 4)):
            expected |= {
                f"running_mean_{term}{suffix}": (512, size),
                f"running_var_{term}{suffix}": (512, size),
                f"num_updates_{term}{suffix}": (512,),
            }
    assert shapes == expected


@pytest.mark.parametrize(
    ("statistics", "ih", "others"),
    [("per_step", STEPS, STEPS), ("sequence_input", 1, STEPS), ("shared", 1, 1)],
)
def test_each_kind_of_statistics_keeps_its_number_of_steps(
    statistics: str, ih: int, others: int
) -> None:
    layer = layer_of(statistics=statistics)
    assert [len(layer.get_buffer(f"running_var_{term}_l0")) for term in ("ih", "hh", "c")] == [
        ih,
        others,
        others,
    ]


def test_joint_terms_keep_one_set_of_statistics() -> None:
    assert not [name for name in buffers_of(layer_of("lstm", terms="joint")) if "_hh_" in name]
    assert layer_of("gru", terms="joint").running_mean_hh_l0.shape == (
        STEPS,
        4,
    )  # the n part stays separate
    assert "running_mean_hh_l0" not in buffers_of(layer_of("rnn_tanh"))


def test_sequence_input_makes_the_terms_of_the_rnn_separate() -> None:
    # Joint terms, its default, have no input term that could be normalised over all steps at once.
    assert layer_of("rnn_tanh", statistics="sequence_input").running_mean_hh_l0.shape == (STEPS, 4)


# -- training and eval mode ---


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_eval_mode_uses_running_statistics_and_changes_no_buffer(
    cell: str, statistics: str
) -> None:
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    for seed, lengths in enumerate(BATCHES):
        run(layer, sentences_of(lengths, 3, seed))
    sentences = sentences_of([6, 9, 1], 3, seed=9)
    in_training = run(copy.deepcopy(layer), sentences[:1] * 2)[0][0]
    before = buffers_of(layer)
    found = run(layer.eval(), sentences)
    torch.testing.assert_close([*found], [*Oracle(layer, training=False)(sentences)])
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())
    assert (found[0][0] - in_training).abs().max() > 0.01


def test_steps_after_the_last_seen_one_use_its_statistics() -> None:
    layer = layer_of()
    for seed in range(2):
        run(layer, sentences_of([4, 3, 4], 3, seed))
    assert layer.get_buffer("steps_seen_l0") == 4
    layer.eval()
    x, state = torch.stack(sentences_of([1, 1], 3), dim=1), random_state(layer, 2)
    third, fourth, fifth, late = (layer(x, state, first_step=t)[0] for t in (2, 3, 4, 600))
    torch.testing.assert_close(fourth, fifth, rtol=0, atol=0)
    torch.testing.assert_close(fourth, late, rtol=0, atol=0)
    assert (third - fourth).abs().max() > 0.01


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_before_training_the_mean_is_0_and_the_variance_1(cell: str, statistics: str) -> None:
    layer = layer_of(cell, statistics=statistics, eps=3.0, terms="separate").eval()
    plain = CELLS[cell](3, 4, norm="none").double()
    terms = {
        name: getattr(layer, f"gain_{name}_l0")[:, None] / 2 for name in ("ih", "hh")
    }  # 1 / sqrt(1 + eps)
    plain.load_state_dict(
        {
            "weight_ih_l0": terms["ih"] * layer.get_parameter("weight_ih_l0"),
            "weight_hh_l0": terms["hh"] * layer.get_parameter("weight_hh_l0"),
            "bias_ih_l0": layer.get_parameter("bias_ih_l0"),
            "bias_hh_l0": layer.get_parameter("bias_hh_l0"),
        }
    )
    if cell == "lstm":
        with torch.no_grad():
            layer.get_parameter("gain_c_l0").fill_(2.0)
            layer.get_parameter("bias_c_l0").fill_(0.0)
    x, state = torch.stack(sentences_of([9, 9, 9], 3), dim=1), random_state(layer, 3)
    torch.testing.assert_close(layer(x, state), plain(x, state))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_more_than_max_steps_raises_if_statistics_are_kept_by_step(statistics: str) -> None:
    layer = layer_of(statistics=statistics)
    x = torch.randn(STEPS + 1, 3, 3, dtype=torch.double)
    before = buffers_of(layer)
    if statistics == "shared":
        layer(x)
    else:
        with pytest.raises(ValueError, match=f"{STEPS + 1} time steps.*max_steps={STEPS}"):
            layer(x)
        with pytest.raises(ValueError, match=f"max_steps={STEPS}"), recalibrating(layer.eval()):
            layer(x)
        assert_buffers(buffers_of(layer), before)
        layer.train()
    layer(x[:STEPS])
    layer.eval()
    assert layer(x)[0].isfinite().all()
    with batch_statistics(layer):
        assert layer(x)[0].isfinite().all()


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_statistics_survive_saving(cell: str, statistics: str) -> None:
    layer, other = (layer_of(cell, layers=2, statistics=statistics, seed=s) for s in (0, 1))
    for seed, lengths in enumerate(BATCHES):
        run(layer, sentences_of(lengths, 3, seed))
    other.load_state_dict(layer.state_dict(), strict=True)
    sentences = sentences_of(BATCHES[0], 3, 9)
    torch.testing.assert_close(
        run(other.eval(), sentences), run(layer.eval(), sentences), rtol=0, atol=0
    )
    run(layer.train(), sentences)
    run(other.train(), sentences)  # training continues from them: this is not a first update
    assert_buffers(buffers_of(other), buffers_of(layer))


# -- few rows ---


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("min_rows", [2, 3])
def test_a_step_with_too_few_rows_uses_running_statistics_unchanged(
    cell: str, statistics: str, min_rows: int
) -> None:
    layer = layer_of(cell, layers=2, statistics=statistics, min_rows=min_rows)
    expected = buffers_of(layer)
    # The second batch has one row at steps 2 and 3, which have statistics, and at 4 and 5, which
    # don't.
    for seed, lengths in enumerate([[4, 4, 4], [6, 2, 2, 1], [2], [1]]):
        sentences, before = sentences_of(lengths, 3, seed), buffers_of(layer)
        found = run(layer, sentences)[0]
        oracle = Oracle(layer, buffers=before)  # this call's update is used by the next one
        torch.testing.assert_close(found, oracle(sentences)[0])
        update_expected(expected, oracle.raw, statistics, min_rows)
        assert_buffers(buffers_of(layer), expected)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_single_sentence_is_normalised_as_in_eval_mode(cell: str, statistics: str) -> None:
    layer = layer_of(cell, statistics=statistics, min_rows=6)
    before = buffers_of(layer)
    x = sentences_of([5], 3)[0].requires_grad_()
    unbatched, batched = layer(x)[0], layer(x[:, None])[0]
    torch.testing.assert_close(unbatched, batched[:, 0])
    torch.testing.assert_close(unbatched, layer.eval()(x)[0])
    assert_buffers(buffers_of(layer), before)
    unbatched.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 1], [3, 1, 1, 1], [4, 3, 2, 1]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_sequences_with_one_step_or_one_last_row_can_be_trained(
    cell: str, lengths: list[int], statistics: str
) -> None:
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    for seed in range(2):
        output, last = layer(pack_sequence(sentences_of(lengths, 3, seed)))
        sum(t.square().sum() for t in (output.data, *parts(last))).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())
    assert all(b.isfinite().all() for b in layer.buffers())
    assert layer.get_buffer("steps_seen_l0") == (
        1 if statistics == "shared" else sum(n >= 2 for n in batch_sizes(lengths))
    )


def batch_sizes(lengths: list[int]) -> list[int]:
    return [sum(n > t for n in lengths) for t in range(max(lengths))]
