"""Outputs, last states and all gradients of the layers against a naive implementation."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from oracles import (
    CELLS,
    Oracle,
    config,
    meaningful,
    parts,
    random_state,
    randomised,
    run,
    sentences_of,
)
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import GRU, LSTM, RecurrentLayers

LENGTHS = [4, 2, 4, 3]  # two active rows at the last step, the fewest that have a variance
EPS = 0.05  # large enough to detect where it is missing or outside the root


def norm_options() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield every (cell, kind, options of the norm) that is valid."""
    for cell in CELLS:
        yield cell, "none", {}
        cells = ["output", "carried", "carried_only", "none"] if cell == "lstm" else ["output"]
        terms = ["separate", "joint", *(["joint_all"] if cell == "gru" else [])]
        for kind, c, t, group in itertools.product(
            ["layer", "rms"], cells, terms, ["vector", "gate"]
        ):
            yield cell, kind, {"cell": c, "terms": t, "group": group}
        for c, t, statistics in itertools.product(
            cells, terms, ["per_step", "sequence_input", "shared"]
        ):
            if t == "separate" or statistics != "sequence_input":
                yield cell, "batch", {"cell": c, "terms": t, "statistics": statistics}


OPTIONS = [
    pytest.param(*case, id="-".join([*case[:2], *case[2].values()])) for case in norm_options()
]


def upstream(tensors: Sequence[Tensor], seed: int = 3) -> Tensor:
    """Return a scalar with a random gradient for every number in the tensors."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.double) for x in tensors]
    return torch.stack([(w * x).sum() for w, x in zip(weights, tensors, strict=True)]).sum()


def assert_agrees(
    layer: RecurrentLayers, sentences: list[Tensor], state: Any = None, training: bool = True
) -> None:
    """Assert that outputs, last states and all gradients agree with the oracle."""
    layer.train(training)
    leaves = [*sentences, *([] if state is None else parts(state))]
    for leaf in leaves:
        leaf.requires_grad_()
    oracle = Oracle(layer, training)
    found, expected = (
        [*outputs, *last]
        for outputs, last in (run(layer, sentences, state), oracle(sentences, state))
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    leaves += layer.parameters()
    gradients = [
        torch.autograd.grad(upstream(x), leaves, materialize_grads=True, allow_unused=True)
        for x in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("cell", "kind", "options"), OPTIONS)
def test_values_and_gradients_follow_the_equations(
    cell: str, kind: str, options: dict[str, Any], bias: bool, given: bool
) -> None:
    layer = randomised(CELLS[cell](3, 5, bias=bias, norm=meaningful(kind, eps=EPS, **options)))
    sentences = sentences_of(LENGTHS, 3)
    assert_agrees(layer, sentences, random_state(layer, len(LENGTHS)) if given else None)


@pytest.mark.parametrize("kind", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("cell", CELLS)
def test_defaults_follow_the_papers(cell: str, kind: str) -> None:
    layer = randomised(CELLS[cell](3, 5, norm=kind))
    assert_agrees(layer, sentences_of(LENGTHS, 3), random_state(layer, len(LENGTHS)))


@pytest.mark.parametrize("kind", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_layer_and_direction_uses_its_own_parameters(cell: str, kind: str) -> None:
    layer = randomised(
        CELLS[cell](3, 4, num_layers=2, bidirectional=True, norm=meaningful(kind, eps=EPS))
    )
    assert_agrees(layer, sentences_of(LENGTHS, 3), random_state(layer, len(LENGTHS)))


@pytest.mark.parametrize("statistics", ["per_step", "sequence_input", "shared"])
@pytest.mark.parametrize("cell", CELLS)
def test_batch_norm_uses_its_running_statistics_in_eval_mode(cell: str, statistics: str) -> None:
    norm = config("batch", eps=EPS, statistics=statistics, max_steps=6)
    layer = randomised(CELLS[cell](3, 4, num_layers=2, bidirectional=True, norm=norm))
    generator = torch.Generator().manual_seed(4)
    for name, buffer in layer.named_buffers():
        if name.startswith("running"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=torch.double) + 0.2)
        elif name.startswith("steps_seen"):
            buffer.fill_(2 if name.endswith("reverse") else 3)  # fewer than there are steps
    assert_agrees(layer, sentences_of([*LENGTHS, 1], 3), random_state(layer, 5), training=False)


@pytest.mark.parametrize("eps", [1e-8, 1e-3, 10.0])
@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_eps_is_inside_every_root(kind: str, eps: float) -> None:
    assert_agrees(randomised(LSTM(3, 5, norm=config(kind, eps=eps))), sentences_of(LENGTHS, 3))


@pytest.mark.parametrize("kind", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_agree_with_finite_differences(cell: str, kind: str) -> None:
    layer = randomised(CELLS[cell](2, 3, norm=meaningful(kind, eps=EPS)))
    sentences, state = sentences_of([3, 3, 2], 2), parts(random_state(layer, 3))
    names = [name for name, _ in layer.named_parameters()]
    leaves = [leaf.detach().requires_grad_() for leaf in [*sentences, *state, *layer.parameters()]]

    def f(*leaves: Tensor) -> tuple[Tensor, ...]:
        x = pack_sequence(list(leaves[:3]))
        hx = tuple(leaves[3 : 3 + len(state)])
        parameters = dict(zip(names, leaves[3 + len(state) :], strict=True))
        output, last = functional_call(layer, parameters, (x, hx if len(hx) == 2 else hx[0]))
        return output.data, *parts(last)

    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)


@pytest.mark.parametrize("terms", ["separate", "joint"])
@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_parameters_have_the_documented_names_and_shapes(kind: str, terms: str) -> None:
    lstm = LSTM(3, 5, num_layers=2, bidirectional=True, norm=config(kind, terms=terms))
    gru = GRU(3, 5, norm=config(kind, terms=terms))
    gains = {
        name: tuple(p.shape)
        for name, p in lstm.named_parameters()
        if "gain" in name or "bias_c" in name
    }
    expected = {
        f"{name}_l{layer}{direction}": (size,)
        for layer in (0, 1)
        for direction in ("", "_reverse")
        for name, size in (("gain_ih", 20), ("gain_hh", 20), ("gain_c", 5), ("bias_c", 5))
        if terms == "separate" or name != "gain_hh"
    }
    assert gains == expected
    # The n part of the GRU's recurrent term is always normalised separately.
    assert gru.get_parameter("gain_ih_l0").shape == (15,)
    assert gru.get_parameter("gain_hh_l0").shape == ((15,) if terms == "separate" else (5,))
    assert "gain_hh_l0" not in GRU(3, 5, norm=config(kind, terms="joint_all")).state_dict()


@pytest.mark.parametrize(
    ("kind", "gain", "value"),
    [
        ("layer", None, 1.0),
        ("rms", None, 1.0),
        ("batch", None, 0.1),
        ("layer", 0.3, 0.3),
        ("batch", 0.7, 0.7),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
def test_gains_start_at_the_configured_gain_and_shifts_at_zero(
    cell: str, kind: str, gain: float | None, value: float
) -> None:
    layer = CELLS[cell](3, 5, norm=config(kind, gain=gain))
    for name, p in layer.named_parameters():
        if name.startswith(("gain", "bias_c")):
            assert torch.equal(p, torch.full_like(p, value if name.startswith("gain") else 0)), name
        else:
            assert 0 < p.abs().max() <= 5**-0.5, name
    assert ("gain_c_l0" in layer.state_dict()) == (cell == "lstm")


@pytest.mark.parametrize("kind", ["batch", "layer", "rms"])
def test_the_cells_norm_may_start_from_another_gain(kind: str) -> None:
    layer = LSTM(3, 5, norm=config(kind, gain=0.2, cell_gain=0.9))
    assert torch.equal(layer.get_parameter("gain_c_l0"), torch.full((5,), 0.9))
    for name in ("gain_ih_l0", "gain_hh_l0"):
        assert torch.equal(layer.get_parameter(name), torch.full((20,), 0.2))
    with pytest.raises(ValueError, match=r"norm.cell_gain=0.9: a GRU has no cell state"):
        GRU(3, 5, norm=config(kind, cell_gain=0.9))
    with pytest.raises(ValueError, match=r"norm.cell_gain=0.9: means nothing to norm.cell=none"):
        config(kind, cell="none", cell_gain=0.9)


def test_without_bias_there_is_no_shift() -> None:
    names = LSTM(3, 5, bias=False, norm="layer").state_dict()
    assert sorted(names) == [
        "gain_c_l0",
        "gain_hh_l0",
        "gain_ih_l0",
        "weight_hh_l0",
        "weight_ih_l0",
    ]


def test_cell_norm_none_leaves_out_its_parameters() -> None:
    assert not [
        name for name in LSTM(3, 5, norm=config("layer", cell="none")).state_dict() if "_c_" in name
    ]
