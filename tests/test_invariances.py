"""What may be done to weights and data without changing the output: Ba et al. 2016, table 1 (section 5.1), for batch
and layer norm, and Zhang & Sennrich 2019, table 1, for rms norm.

The tables speak of one summed input W x. The recurrent layers have two, u = W_ih x_t and z = W_hh h_{t-1}:

- *weights* are W_ih, and for themselves W_hh, where the terms are normalised apart; with joint terms the summed input
  is u + z, whose weight matrix is (W_ih W_hh) and is transformed as a whole.
- *re-centring a matrix* adds one vector to the weights of every unit: it shifts all units of a row alike.
- *data* is the input x. With joint terms the state stands beside it in the summed input and doesn't scale along, so
  re-scaling x is no invariance; re-centring x under batch norm still is.
- a *training case* is a sentence, and what may not change is the whole batch's output.

Re-scaling by s is exact but for eps, which stands inside the root: N(s v) = s (v - mean) / sqrt(s^2 var + eps), as if
eps were eps / s^2. The relative change of N is at most eps / (2 var), so that at eps = 1e-12 and variances of order one
(down to 1e-3 for few rows that lie close) 1e-7 holds through all steps, in double. Shifts are exact at any eps, up to
rounding. Where a table says no, the output has to change by more than a hundredth.
"""

import itertools

import pytest
import torch
from oracles import CELLS, config, parts, random_state, randomised, run, sentences_of
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

LENGTHS = [5, 5, 4, 6, 3, 6]
INPUT, HIDDEN = 3, 4

# What changes nothing, by kind and terms; everything else has to change the output.
UNCHANGED = {
    ("batch", "separate"): {"matrix re-scaling", "vector re-scaling", "data re-scaling", "data re-centring"},
    ("layer", "separate"): {"matrix re-scaling", "matrix re-centring", "data re-scaling", "case re-scaling"},
    ("rms", "separate"): {"matrix re-scaling", "data re-scaling", "case re-scaling"},
    ("batch", "joint"): {"matrix re-scaling", "vector re-scaling", "data re-centring"},
    ("layer", "joint"): {"matrix re-scaling", "matrix re-centring"},
    ("rms", "joint"): {"matrix re-scaling"},
}
CHANGES = ("matrix re-scaling", "matrix re-centring", "vector re-scaling", "data re-scaling", "data re-centring",
           "case re-scaling")
SCALE = 3.0


def layer_of(cell, kind, **options):
    layer = CELLS[cell](INPUT, HIDDEN, norm=config(kind, eps=1e-12, cell="output", **options))
    return randomised(layer, seed=6)


def weights(layer, terms):
    """The weight matrices of the summed inputs: lists of parameters that stand side by side."""
    both = [layer.weight_ih_l0, layer.weight_hh_l0]
    return [both] if terms == "joint" else [[w] for w in both]


@torch.no_grad()
def change_weights(layer, terms, change):
    """Transform the weight matrices of every summed input, each in its own way."""
    for i, matrix in enumerate(weights(layer, terms)):
        for j, w in enumerate(matrix):
            if change == "matrix re-scaling":
                w.mul_(SCALE + i)
            elif change == "matrix re-centring":
                w.add_(sentences_of([1], w.size(1), seed=10 + i + 2 * j)[0])
            else:
                w[1].mul_(SCALE + i)  # the weights of one unit


def changed_data(sentences, change):
    if change == "data re-scaling":
        return [SCALE * s for s in sentences]
    if change == "data re-centring":
        return [s + torch.tensor([1.0, -2.0, 0.5]) for s in sentences]
    return [sentences[0] * SCALE, *sentences[1:]]


def outputs(layer, sentences, state=None):
    found, last = run(layer, sentences, state)
    return torch.cat([*found, *last[0]])


def difference(cell, kind, terms, change):
    """Largest change of an output or last state; in training mode, where batch norm normalises."""
    layer, sentences = layer_of(cell, kind, terms=terms), sentences_of(LENGTHS, INPUT)
    state = random_state(layer, len(LENGTHS))
    before = outputs(layer, sentences, state)
    if change.startswith(("matrix", "vector")):
        change_weights(layer, terms, change)
    else:
        sentences = changed_data(sentences, change)
    return (outputs(layer, sentences, state) - before).abs().max().item()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("kind", "terms"), UNCHANGED, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_the_output_changes_where_the_papers_tables_say_so_and_nowhere_else(cell, kind, terms, change):
    found = difference(cell, kind, terms, change)
    if change in UNCHANGED[kind, terms]:
        assert found < 1e-7
    else:
        assert found > 1e-2


@pytest.mark.parametrize("change", CHANGES[:3])
@pytest.mark.parametrize("cell", CELLS)
def test_without_norm_every_change_of_the_weights_shows(cell, change):
    assert difference(cell, "none", "separate", change) > 1e-2


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_at_the_default_eps_the_invariances_hold_to_its_size(kind, change):
    layer, sentences = randomised(CELLS["lstm"](INPUT, HIDDEN, norm=kind), seed=6), sentences_of(LENGTHS, INPUT)
    before = outputs(layer, sentences)
    if change.startswith(("matrix", "vector")):
        change_weights(layer, "separate", change)
    else:
        sentences = changed_data(sentences, change)
    found = (outputs(layer, sentences) - before).abs().max().item()
    if change in UNCHANGED[kind, "separate"]:
        # eps / (2 var), grown through the steps; a shift alone is exact.
        assert found < (1e-10 if change.endswith("re-centring") else 2e-3)
    else:
        assert found > 1e-2


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_scaling_one_gates_weights_changes_nothing_where_gates_are_normalised_apart(cell, kind):
    changes = {}
    for group in ("gate", "vector"):
        layer, sentences = layer_of(cell, kind, group=group), sentences_of(LENGTHS, INPUT)
        before = outputs(layer, sentences)
        with torch.no_grad():
            layer.weight_ih_l0[:HIDDEN].mul_(SCALE)
            layer.weight_hh_l0[HIDDEN : 2 * HIDDEN].mul_(SCALE)
        changes[group] = (outputs(layer, sentences) - before).abs().max()
    assert changes["gate"] < 1e-7
    assert changes["vector"] > 1e-2


# -- the batch around a sentence -----------------------------------------------------------------------------------

ROW_KINDS = ["none", "layer", "rms"]


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize(("cell", "kind"), itertools.product(CELLS, ROW_KINDS))
def test_padding_and_order_of_the_batch_change_nothing(cell, kind, given):
    layer = randomised(CELLS[cell](INPUT, HIDDEN, num_layers=2, bidirectional=True, norm=kind))
    sentences, state = sentences_of(LENGTHS, INPUT), parts(random_state(layer, len(LENGTHS)))

    def rows(order):
        hx = tuple(s[:, order] for s in state)
        output, last = layer(pack_sequence([sentences[i] for i in order], enforce_sorted=False),
                             None if not given else hx if layer.cell == "lstm" else hx[0])
        return unpack_sequence(output), [s.transpose(0, 1) for s in parts(last)]

    whole, whole_last = rows(list(range(len(LENGTHS))))
    order = [3, 0, 5, 2, 4, 1]
    permuted, permuted_last = rows(order)
    exact = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(permuted, [whole[i] for i in order], **exact)
    torch.testing.assert_close(permuted_last, [s[order] for s in whole_last], **exact)
    for i in range(len(LENGTHS)):
        alone, alone_last = rows([i])
        torch.testing.assert_close(alone[0], whole[i], **exact)
        torch.testing.assert_close(alone_last, [s[[i]] for s in whole_last], **exact)


@pytest.mark.parametrize("statistics", ["per_step", "sequence_input", "shared"])
@pytest.mark.parametrize("cell", CELLS)
def test_in_eval_mode_batch_norm_treats_every_sentence_by_itself(cell, statistics):
    layer = layer_of(cell, "batch", statistics=statistics)
    sentences = sentences_of(LENGTHS, INPUT)
    for seed in range(2):
        run(layer, sentences_of(LENGTHS, INPUT, seed))
    in_training = run(layer, sentences)[0]
    whole = run(layer.eval(), sentences)[0]
    alone = [run(layer, [s])[0][0] for s in sentences]
    torch.testing.assert_close(alone, [*whole], rtol=0, atol=1e-10)
    assert max((a - b).abs().max() for a, b in zip(in_training, whole, strict=True)) > 1e-2


@pytest.mark.parametrize("statistics", ["per_step", "sequence_input", "shared"])
@pytest.mark.parametrize("cell", CELLS)
def test_in_training_the_order_of_the_batch_changes_nothing_for_batch_norm(cell, statistics):
    layer = layer_of(cell, "batch", statistics=statistics)
    sentences, order = sentences_of(LENGTHS, INPUT), [3, 0, 5, 2, 4, 1]
    whole = run(layer, sentences)[0]
    permuted = run(layer, [sentences[i] for i in order])[0]
    torch.testing.assert_close([*permuted], [whole[i] for i in order], rtol=0, atol=1e-8)
