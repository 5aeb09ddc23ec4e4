"""Batch norm's statistics: their rows and steps, when they are used and when they change.

The vectors that a term normalises come from the naive oracle, whose outputs are compared with the
layer's; the statistics are NumPy's.
"""

import copy

import pytest
import torch
from oracles import CELLS, Oracle, config, parts, random_state, randomised, run, sentences_of
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import LSTM, batch_statistics, recalibrating

EPS = 0.05
MOMENTUM = 0.3
STEPS = 7
BATCHES = [[5, 2, 4, 5], [3, 6, 6, 3, 2], [1, 2, 2]]
STATISTICS = ["per_step", "sequence_input", "shared"]


def layer_of(cell="lstm", layers=1, bidirectional=False, seed=0, **options):
    options = {"eps": EPS, "momentum": MOMENTUM, "max_steps": STEPS} | options
    layer = CELLS[cell](
        3, 4, num_layers=layers, bidirectional=bidirectional, norm=config("batch", **options)
    )
    return randomised(layer, seed)


def buffers_of(layer):
    return {name: b.clone() for name, b in layer.named_buffers()}


def assert_buffers(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def rows_of(vectors):
    return torch.stack(vectors).numpy()


def averaged(buffers, term, index, mean, var, momentum=MOMENTUM):
    """Average a new mean and variance into the buffers: what a layer should have done."""
    weight = momentum if buffers[f"num_updates_{term}"][index] else 1.0
    for name, new in (("mean", mean), ("var", var)):
        running = buffers[f"running_{name}_{term}"]
        running[index] = (1 - weight) * running[index] + weight * torch.from_numpy(new)
    buffers[f"num_updates_{term}"][index] += 1


def pooled(samples):
    """Row-weighted mean and pooled unbiased variance of groups of rows."""
    sizes = [len(rows) for rows in samples]
    mean = sum(n * rows.mean(0) for n, rows in zip(sizes, samples, strict=True)) / sum(sizes)
    var = sum((n - 1) * rows.var(0, ddof=1) for n, rows in zip(sizes, samples, strict=True))
    return mean, var / sum(n - 1 for n in sizes)


def steps_seen_after(buffers, raw, min_rows=2):
    for term, steps in raw.items():
        name = "steps_seen_" + term.partition("_")[2]
        shared = len(buffers[f"num_updates_{term}"]) == 1
        seen = [1 if shared else t + 1 for t, vectors in steps.items() if len(vectors) >= min_rows]
        buffers[name] = torch.tensor(max([int(buffers[name]), *seen]))


def update_expected(buffers, raw, statistics, min_rows=2):
    """The buffers after one training call that normalised `raw`."""
    for term, steps in raw.items():
        counted = {t: rows_of(vectors) for t, vectors in steps.items() if len(vectors) >= min_rows}
        if statistics == "shared" and counted:
            averaged(buffers, term, 0, *pooled(list(counted.values())))
        elif statistics != "shared":
            for t, rows in counted.items():
                averaged(buffers, term, t, rows.mean(0), rows.var(0, ddof=1))
    steps_seen_after(buffers, raw, min_rows)


# -- what a training call leaves behind ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_update_averages_the_active_rows_of_each_step(cell, statistics, given):
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    expected = buffers_of(layer)
    for seed, lengths in enumerate(BATCHES):
        sentences = sentences_of(lengths, 3, seed)
        state = random_state(layer, len(lengths), seed) if given else None
        oracle = Oracle(layer)
        torch.testing.assert_close(run(layer, sentences, state)[0], oracle(sentences, state)[0])
        update_expected(expected, oracle.raw, statistics)
        assert_buffers(buffers_of(layer), expected)


def test_the_reverse_directions_first_step_is_each_sentences_last_word():
    layer = layer_of(bidirectional=True)
    sentences = sentences_of([5, 2, 4], 3)
    run(layer, sentences)
    last_words = torch.stack([s[-1] for s in sentences]) @ layer.weight_ih_l0_reverse.T
    first_words = torch.stack([s[0] for s in sentences]) @ layer.weight_ih_l0.T
    torch.testing.assert_close(layer.running_mean_ih_l0_reverse[0], last_words.mean(0))
    torch.testing.assert_close(layer.running_var_ih_l0_reverse[0], last_words.var(0))
    torch.testing.assert_close(layer.running_mean_ih_l0[0], first_words.mean(0))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_plain_tensor_has_no_padding(statistics):
    packed, plain = (layer_of(statistics=statistics) for _ in range(2))
    xs = sentences_of([4, 4, 4], 3)
    run(packed, xs)
    plain(torch.stack(xs, dim=1))
    assert_buffers(buffers_of(plain), buffers_of(packed))


@pytest.mark.parametrize("cell", CELLS)
def test_without_h_0_the_recurrent_terms_first_step_is_untouched(cell):
    layer = layer_of(cell, terms="separate")
    run(layer, sentences_of([3, 3, 3], 3))
    assert layer.num_updates_hh_l0.tolist() == [0, 1, 1, 0, 0, 0, 0]
    assert layer.num_updates_ih_l0.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert torch.equal(layer.running_mean_hh_l0[0], torch.zeros(layer.gates * 4).double())
    assert torch.equal(layer.running_var_hh_l0[0], torch.ones(layer.gates * 4).double())
    run(layer, sentences_of([3, 3, 3], 3), random_state(layer, 3))
    assert layer.num_updates_hh_l0[0] == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_without_h_0_the_recurrent_term_is_zero_whatever_its_statistics(cell, training):
    layer = layer_of(cell, terms="separate").train(training)
    layer.running_mean_hh_l0.fill_(3.0)
    x = torch.stack(sentences_of([1, 1, 1], 3), dim=1)
    output = layer(x)[0]
    with torch.no_grad():
        layer.gain_hh_l0.fill_(7.0)
    torch.testing.assert_close(layer(x)[0], output, rtol=0, atol=0)


def test_shapes_and_names_of_the_buffers():
    lstm = LSTM(3, 4, num_layers=2, bidirectional=True, norm="batch")
    shapes = {name: tuple(b.shape) for name, b in lstm.named_buffers()}
    expected = {}
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
def test_each_kind_of_statistics_keeps_its_number_of_steps(statistics, ih, others):
    layer = layer_of(statistics=statistics)
    assert [len(layer.get_buffer(f"running_var_{term}_l0")) for term in ("ih", "hh", "c")] == [
        ih,
        others,
        others,
    ]


def test_joint_terms_keep_one_set_of_statistics():
    assert not [name for name in buffers_of(layer_of("lstm", terms="joint")) if "_hh_" in name]
    assert layer_of("gru", terms="joint").running_mean_hh_l0.shape == (
        STEPS,
        4,
    )  # the n part stays separate
    assert "running_mean_hh_l0" not in buffers_of(layer_of("rnn_tanh"))


def test_sequence_input_makes_the_vanilla_cells_terms_separate():
    # Joint terms, its default, have no input term that could be normalised over all steps at once.
    assert layer_of("rnn_tanh", statistics="sequence_input").running_mean_hh_l0.shape == (STEPS, 4)


# -- training and eval mode ---


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_eval_mode_changes_no_buffer_and_reads_what_training_left(cell, statistics):
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


def test_steps_past_the_last_seen_one_use_its_statistics():
    layer = layer_of()
    for seed in range(2):
        run(layer, sentences_of([4, 3, 4], 3, seed))
    assert layer.steps_seen_l0 == 4
    layer.eval()
    x, state = torch.stack(sentences_of([1, 1], 3), dim=1), random_state(layer, 2)
    third, fourth, fifth, late = (layer(x, state, first_step=t)[0] for t in (2, 3, 4, 600))
    torch.testing.assert_close(fourth, fifth, rtol=0, atol=0)
    torch.testing.assert_close(fourth, late, rtol=0, atol=0)
    assert (third - fourth).abs().max() > 0.01


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_before_training_the_mean_is_0_and_the_variance_1(cell, statistics):
    layer = layer_of(cell, statistics=statistics, eps=3.0, terms="separate").eval()
    plain = CELLS[cell](3, 4, norm="none").double()
    terms = {
        name: getattr(layer, f"gain_{name}_l0")[:, None] / 2 for name in ("ih", "hh")
    }  # 1 / sqrt(1 + eps)
    plain.load_state_dict(
        {
            "weight_ih_l0": terms["ih"] * layer.weight_ih_l0,
            "weight_hh_l0": terms["hh"] * layer.weight_hh_l0,
            "bias_ih_l0": layer.bias_ih_l0,
            "bias_hh_l0": layer.bias_hh_l0,
        }
    )
    if cell == "lstm":
        with torch.no_grad():
            layer.gain_c_l0.fill_(2.0)
            layer.bias_c_l0.fill_(0.0)
    x, state = torch.stack(sentences_of([9, 9, 9], 3), dim=1), random_state(layer, 3)
    torch.testing.assert_close(layer(x, state), plain(x, state))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_longer_than_max_steps_raises_where_statistics_would_be_kept(statistics):
    layer = layer_of(statistics=statistics)
    x = torch.randn(STEPS + 1, 3, 3, dtype=torch.double)
    before = buffers_of(layer)
    if statistics == "shared":
        layer(x)
    else:
        with pytest.raises(ValueError, match=f"{STEPS + 1} time steps.*max_steps={STEPS}"):
            layer(x)
        with recalibrating(layer.eval()), pytest.raises(ValueError, match=f"max_steps={STEPS}"):
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
def test_statistics_survive_saving(cell, statistics):
    layer, other = (layer_of(cell, layers=2, statistics=statistics, seed=s) for s in (0, 1))
    for seed, lengths in enumerate(BATCHES):
        run(layer, sentences_of(lengths, 3, seed))
    other.load_state_dict(layer.state_dict(), strict=True)
    sentences = sentences_of(BATCHES[0], 3, 9)
    torch.testing.assert_close(
        run(other.eval(), sentences), run(layer.eval(), sentences), rtol=0, atol=0
    )
    run(layer.train(), sentences)
    run(other.train(), sentences)  # and training goes on from them: this is no first update
    assert_buffers(buffers_of(other), buffers_of(layer))


# -- few rows ---


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("min_rows", [2, 3])
def test_a_step_with_too_few_rows_uses_running_statistics_and_leaves_them_alone(
    cell, statistics, min_rows
):
    layer = layer_of(cell, layers=2, statistics=statistics, min_rows=min_rows)
    expected = buffers_of(layer)
    # The second batch has one row at steps 2 and 3, which have statistics, and at 4 and 5, which
    # don't.
    for seed, lengths in enumerate([[4, 4, 4], [6, 2, 2, 1], [2], [1]]):
        sentences, before = sentences_of(lengths, 3, seed), buffers_of(layer)
        found = run(layer, sentences)[0]
        oracle = Oracle(layer, buffers=before)  # what this call adds is for the next one
        torch.testing.assert_close(found, oracle(sentences)[0])
        update_expected(expected, oracle.raw, statistics, min_rows)
        assert_buffers(buffers_of(layer), expected)


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_single_sentence_trains_like_eval_mode(cell, statistics):
    layer = layer_of(cell, statistics=statistics, min_rows=6)
    before = buffers_of(layer)
    x = sentences_of([5], 3)[0].requires_grad_()
    unbatched, batched = layer(x)[0], layer(x[:, None])[0]
    torch.testing.assert_close(unbatched, batched[:, 0])
    torch.testing.assert_close(unbatched, layer.eval()(x)[0])
    assert_buffers(buffers_of(layer), before)
    unbatched.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("lengths", [[1, 1, 1], [1, 1], [3, 1, 1, 1], [4, 3, 2, 1]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_one_step_and_one_last_row_train(cell, lengths, statistics):
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    for seed in range(2):
        output, last = layer(pack_sequence(sentences_of(lengths, 3, seed)))
        sum(t.square().sum() for t in (output.data, *parts(last))).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())
    assert all(b.isfinite().all() for b in layer.buffers())
    assert layer.steps_seen_l0 == (
        1 if statistics == "shared" else sum(n >= 2 for n in batch_sizes(lengths))
    )


def batch_sizes(lengths):
    return [sum(n > t for n in lengths) for t in range(max(lengths))]


# -- batch statistics in eval mode ---


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", CELLS)
def test_batch_statistics_normalise_and_leave_everything_alone(cell, statistics, training):
    layer = layer_of(cell, layers=2, bidirectional=True, statistics=statistics)
    run(layer, sentences_of([3, 3, 2], 3))
    layer.train(training)
    before, sentences = (
        buffers_of(layer),
        sentences_of([6, 5, 6], 3, seed=7),
    )  # longer than any seen
    in_training = run(copy.deepcopy(layer).train(), sentences)
    usual = run(copy.deepcopy(layer), sentences)
    with batch_statistics(torch.nn.ModuleList([layer])):
        torch.testing.assert_close(run(layer, sentences), in_training, rtol=0, atol=0)
    assert all(torch.equal(b, before[name]) for name, b in layer.named_buffers())
    torch.testing.assert_close(run(layer, sentences), usual, rtol=0, atol=0)


@pytest.mark.parametrize("mode", [batch_statistics, recalibrating])
@pytest.mark.parametrize("cell", CELLS)
def test_with_batch_statistics_too_few_rows_still_use_the_last_seen_steps(cell, mode):
    layer = layer_of(cell)
    run(layer, sentences_of([3, 3, 2], 3))
    oracle, sentences = Oracle(layer, training=True), sentences_of([7, 5, 2], 3, seed=7)
    with mode(layer.eval()):
        torch.testing.assert_close(run(layer, sentences)[0], oracle(sentences)[0])


def recalibrated(raws, buffers, statistics, min_rows):
    """The buffers after a recalibration whose calls normalised `raws`."""
    for term in raws[0]:
        steps = {}
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
def test_recalibration_stores_pooled_means_and_variances(cell, statistics, trained):
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


def test_recalibration_of_one_batch_makes_eval_mode_its_training_mode():
    layer = layer_of(bidirectional=True, eps=1e-12).eval()
    sentences = sentences_of([4, 4, 4, 3, 3], 3)
    with recalibrating(layer):
        expected = run(layer, sentences)
    for name, buffer in layer.named_buffers():
        if name.startswith("running_var"):  # the unbiased variance again as the biased one
            sizes = torch.tensor([5, 5, 5, 3] + [1] * 3).double()
            buffer.mul_(((sizes - 1) / sizes).clamp(min=0.1)[:, None])
    torch.testing.assert_close(run(layer, sentences), expected)


def test_a_recalibration_that_fails_stores_nothing():
    layer = layer_of().eval()
    before = buffers_of(layer)
    with pytest.raises(ValueError, match="features"), recalibrating(layer):
        [layer(x) for x in (torch.ones(2, 2, 3).double(), torch.ones(2, 2, 9).double())]
    assert_buffers(buffers_of(layer), before)
    run(layer, sentences_of([4, 4], 3))
    assert_buffers(buffers_of(layer), before)


def test_contexts_pass_over_layers_without_batch_norm():
    layer = randomised(LSTM(3, 4, norm="layer")).eval()
    x = torch.randn(3, 2, 3, dtype=torch.double)
    with recalibrating(torch.nn.ModuleList([layer, torch.nn.Linear(3, 3)])):
        found = layer(x)
    torch.testing.assert_close(found, layer(x), rtol=0, atol=0)


def test_resetting_the_norm_forgets_its_training():
    layer, fresh = layer_of(), LSTM(3, 4, norm=config("batch", max_steps=STEPS), dtype=torch.double)
    run(layer, sentences_of([3, 3], 3))
    weight = layer.weight_hh_l0.clone()
    layer.reset_norm()
    assert torch.equal(layer.weight_hh_l0, weight)
    for name, tensor in layer.state_dict().items():
        if not name.startswith(("weight", "bias_ih", "bias_hh")):
            assert torch.equal(tensor, fresh.state_dict()[name]), name
