"""The observed steps of a recurrence are those that the layer computes."""

import pytest
import torch
from oracles import CELLS, config, parts, random_state, randomised, sentences_of
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import Layout, batch_statistics, steps

KINDS = ["none", "batch", "layer", "rms"]
LENGTHS = [5, 4, 4, 2]


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_observed_states_are_those_of_the_layer_and_follow_from_pre_activations(
    cell: str, kind: str, given: bool
) -> None:
    layer = randomised(CELLS[cell](3, 4, norm=kind, backend="reference"))
    packed = pack_sequence(sentences_of(LENGTHS, 3))
    state = random_state(layer, len(LENGTHS)) if given else None
    initial = None if state is None else tuple(s[0] for s in parts(state))
    with batch_statistics(layer):
        output = layer(packed, state)[0].data
        sizes = packed.batch_sizes.tolist()
        found = list(
            steps(packed.data, Layout.of_packed(sizes), initial, layer.cell_parameters("_l0"))
        )
    assert torch.equal(torch.cat([step.state[0] for step in found]), output)
    before = initial
    for step, u in zip(
        found, (packed.data @ layer.get_parameter("weight_ih_l0").T).split(sizes), strict=True
    ):
        z = 0 if before is None else before[0][: len(u)] @ layer.get_parameter("weight_hh_l0").T
        torch.testing.assert_close(step.raw, u + z)
        gates = step.summed.chunk(layer.gates, dim=1)
        if cell == "lstm":
            i, f, g, _ = gates
            c = 0 if before is None else before[1][: len(u)]
            torch.testing.assert_close(step.state[1], f.sigmoid() * c + i.sigmoid() * g.tanh())
        elif cell == "gru":
            _, update, n = gates
            h, update = 0 if before is None else before[0][: len(u)], update.sigmoid()
            torch.testing.assert_close(step.state[0], (1 - update) * n.tanh() + update * h)
        else:
            activation = torch.tanh if cell == "rnn_tanh" else torch.relu
            torch.testing.assert_close(step.state[0], activation(step.summed))
        before = step.state


def test_without_a_norm_pre_activations_are_raw_sums_plus_biases() -> None:
    layer = randomised(CELLS["lstm"](3, 4, norm="none"))
    x = torch.cat(sentences_of([3], 3))
    for step in steps(x, Layout.of_padded(3, 1), None, layer.cell_parameters("_l0")):
        biases = layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")
        torch.testing.assert_close(step.summed, step.raw + biases)


def test_a_later_step_uses_its_own_statistics() -> None:
    layer = randomised(CELLS["lstm"](3, 4, norm=config("batch", max_steps=8)))
    x = torch.stack(sentences_of([4, 4, 4], 3), dim=1)
    layer(x)
    layer.eval()
    parameters = layer.cell_parameters("_l0")
    first, third = (
        next(steps(x[0], Layout.of_padded(1, 3), None, parameters, t)).summed for t in (0, 2)
    )
    assert (first - third).abs().max() > 0.01
