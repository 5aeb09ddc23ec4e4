"""Placements of the norm in other libraries, each against its own equations in float64.

The equations are written as the libraries have them, with their parameters, order of gates and
biases. Gradients of the libraries' parameters pass through the map to ours.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from oracles import config
from torch import Tensor
from torch.func import functional_call

from seq2seq.rnn import GRUCell, LSTMCell, RecurrentCell

INPUT, HIDDEN, ROWS, STEPS = 3, 5, 4, 3
H = HIDDEN
Parameters = Mapping[str, Tensor]
State = tuple[Tensor, ...]
Equations = Callable[[Parameters, Tensor, State], State]


def normalised(v: Tensor, gamma: Tensor, beta: Tensor | float, eps: float) -> Tensor:
    mean = v.sum(1, keepdim=True) / v.size(1)
    var = ((v - mean) ** 2).sum(1, keepdim=True) / v.size(1)
    return gamma * (v - mean) / (var + eps) ** 0.5 + beta


def sigmoid(v: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-v))


def reordered(v: Tensor, *order: int) -> Tensor:
    """Return the parts of H rows in another order."""
    parts = v.split(H)
    return torch.cat([parts[i] for i in order])


def results(
    equations: Equations, parameters: Parameters, x: Tensor, state: State
) -> dict[str, Tensor]:
    """Return the states of all steps, and all gradients."""
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    leaves |= {f"state {i}": s.clone().requires_grad_() for i, s in enumerate(state)}
    leaves["x"] = x.clone().requires_grad_()
    now = tuple(leaves[f"state {i}"] for i in range(len(state)))
    states: list[Tensor] = []
    for x_t in leaves["x"]:
        now = equations(leaves, x_t, now)
        states += now
    generator = torch.Generator().manual_seed(5)
    upstream = [torch.randn(s.shape, generator=generator, dtype=s.dtype) for s in states]
    torch.autograd.backward(states, upstream)
    found = {f"after {i}": s.detach() for i, s in enumerate(states)}
    return found | {name: t.grad for name, t in leaves.items() if t.grad is not None}


def assert_same_placement(
    cell: RecurrentCell,
    mapped: Callable[[Parameters], dict[str, Tensor]],
    equations: Equations,
    shapes: Mapping[str, tuple[int, ...]],
    constant: bool = False,
) -> None:
    """Assert that a cell with mapped parameters has the results of the equations.

    constant: the input of our cell ends in a one.
    """
    torch.manual_seed(7)
    parameters = {name: torch.randn(shape, dtype=torch.double) for name, shape in shapes.items()}
    is_lstm = isinstance(cell, LSTMCell)
    x = torch.randn(STEPS, ROWS, INPUT, dtype=torch.double)
    state = tuple(torch.randn(1 + is_lstm, ROWS, H, dtype=torch.double))

    def ours(p: Parameters, x_t: Tensor, now: State) -> State:
        x_t = torch.cat([x_t, torch.ones_like(x_t[:, :1])], dim=1) if constant else x_t
        after = functional_call(cell, mapped(p), (x_t, now if is_lstm else now[0]), strict=True)
        return after if is_lstm else (after,)

    found, expected = (results(f, parameters, x, state) for f in (ours, equations))
    assert set(shapes) <= set(expected)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def dreamer(p: Parameters, x: Tensor, state: State) -> State:
    """Return the state after a step of the GRU of DreamerV2 or V3 (as NM512/dreamerv3-torch)."""
    [h] = state
    parts = torch.cat([x, h], dim=1) @ p["linear"].T + p.get("bias", 0.0)
    reset, cand, update = normalised(parts, p["gamma"], p["beta"], 1e-3).split(H, dim=1)
    cand = torch.tanh(sigmoid(reset) * cand)
    update = sigmoid(update - 1)
    return (update * cand + (1 - update) * h,)


def dreamer_map(p: Parameters) -> dict[str, Tensor]:
    """Return Dreamer's parameters as ours: its order is r n z, and its z is one minus ours."""
    linear, gamma, beta = (reordered(p[name], 0, 2, 1) for name in ("linear", "gamma", "beta"))
    is_z = torch.tensor([0.0, 1.0, 0.0], dtype=torch.double).repeat_interleave(H)
    weight_ih = linear[:, :INPUT]
    if "bias" in p:
        weight_ih = torch.cat([weight_ih, reordered(p["bias"], 0, 2, 1)[:, None]], dim=1)
    return {
        "weight_ih": weight_ih,
        "weight_hh": linear[:, INPUT:],
        "gain_ih": gamma * (1 - 2 * is_z),
        "bias_ih": beta * (1 - 2 * is_z) + is_z,
        "bias_hh": torch.zeros_like(beta),
    }


@pytest.mark.parametrize("bias", [False, True], ids=["DreamerV3 in torch", "DreamerV2"])
def test_dreamer(bias: bool) -> None:
    """DreamerV2's bias before the norm is the weight of an input that is always one."""
    shapes = {"linear": (3 * H, INPUT + H), "gamma": (3 * H,), "beta": (3 * H,)}
    shapes |= {"bias": (3 * H,)} if bias else {}
    norm = config("layer", terms="joint_all", eps=1e-3)
    cell = GRUCell(INPUT + bias, H, dtype=torch.double, norm=norm)
    assert_same_placement(cell, dreamer_map, dreamer, shapes, constant=bias)


# -- RETURNN's LayerNormVariantsLSTMCell (Zeineldeen et al. 2020), and TensorFlow's ---


def returnn(placement: str, cell_norm: bool, in_output: bool) -> Equations:
    """Return the equations of a variant; gates are i j f o, and j is torch's g."""

    def equations(p: Parameters, x: Tensor, state: State) -> State:
        h, c = state
        u, z = x @ p["W_ff"], h @ p["W_re"]
        if placement == "global_norm":
            u = normalised(u, p["gamma_input_below"], p["beta_input_below"], 1e-12)
            z = normalised(z, p["gamma_state_below"], 0.0, 1e-12)
        lstm_in = u + z
        if placement == "global_norm_joined":
            lstm_in = normalised(lstm_in, p["gamma_lstm_in"], p["beta_lstm_in"], 1e-12)
        gates = dict(zip("ijfo", lstm_in.split(H, dim=1), strict=True))
        if placement == "per_gate_norm":
            for k, v in gates.items():
                gates[k] = normalised(v, p[f"gamma_{k}_gate"], p[f"beta_{k}_gate"], 1e-12)
        new_c = sigmoid(gates["f"]) * c + sigmoid(gates["i"]) * torch.tanh(gates["j"])
        for_output = new_c
        if cell_norm:
            new_c = normalised(new_c, p["gamma_new_c"], p["beta_new_c"], 1e-12)
            for_output = new_c if in_output else for_output
        return sigmoid(gates["o"]) * torch.tanh(for_output), new_c

    return equations


def returnn_map(placement: str, cell_norm: bool) -> Callable[[Parameters], dict[str, Tensor]]:
    """Return the map of a variant's parameters to ours."""

    def mapped(p: Parameters) -> dict[str, Tensor]:
        ifgo = 0, 2, 1, 3
        found = {
            "weight_ih": reordered(p["W_ff"].T, *ifgo),
            "weight_hh": reordered(p["W_re"].T, *ifgo),
            "bias_hh": torch.zeros(4 * H, dtype=torch.double),
        }
        for name, k in (("gain_ih", "gamma"), ("bias_ih", "beta")):
            if placement == "per_gate_norm":
                found[name] = torch.cat([p[f"{k}_{gate}_gate"] for gate in "ifjo"])
            else:
                term = "input_below" if placement == "global_norm" else "lstm_in"
                found[name] = reordered(p[f"{k}_{term}"], *ifgo)
        if placement == "global_norm":
            found["gain_hh"] = reordered(p["gamma_state_below"], *ifgo)
        if cell_norm:
            found |= {"gain_c": p["gamma_new_c"], "bias_c": p["beta_new_c"]}
        return found

    return mapped


PLACEMENTS = {
    "global_norm": {"terms": "separate", "group": "vector"},
    "global_norm_joined": {"terms": "joint", "group": "vector"},
    "per_gate_norm": {"terms": "joint", "group": "gate"},
}
CELL_NORMS = {(True, True): "carried", (True, False): "carried_only", (False, False): "none"}


@pytest.mark.parametrize("cell_norm", CELL_NORMS, ids=CELL_NORMS.values())
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_returnn(placement: str, cell_norm: tuple[bool, bool]) -> None:
    has_norm, in_output = cell_norm
    both = "gamma", "beta"
    shapes: dict[str, tuple[int, ...]] = {"W_ff": (INPUT, 4 * H), "W_re": (H, 4 * H)}
    shapes |= {
        "global_norm": dict.fromkeys(
            ["gamma_input_below", "beta_input_below", "gamma_state_below"], (4 * H,)
        ),
        "global_norm_joined": dict.fromkeys([f"{k}_lstm_in" for k in both], (4 * H,)),
        "per_gate_norm": dict.fromkeys([f"{k}_{gate}_gate" for k in both for gate in "ijfo"], (H,)),
    }[placement]
    if has_norm:
        shapes |= dict.fromkeys([f"{k}_new_c" for k in both], (H,))
    norm = config("layer", eps=1e-12, cell=CELL_NORMS[cell_norm], **PLACEMENTS[placement])
    cell = LSTMCell(INPUT, H, dtype=torch.double, norm=norm)
    equations = returnn(placement, has_norm, in_output)
    assert_same_placement(cell, returnn_map(placement, has_norm), equations, shapes)


def test_tensorflow_contrib() -> None:
    """tf.contrib.rnn.LayerNormBasicLSTMCell without dropout; the forget bias is not learnt."""
    names = {"i": "input", "j": "transform", "f": "forget", "o": "output"}

    def contrib(p: Parameters, x: Tensor, state: State) -> State:
        h, c = state
        parts = (torch.cat([x, h], dim=1) @ p["kernel"]).split(H, dim=1)
        i, j, f, o = (
            normalised(v, p[f"{name}/gamma"], p[f"{name}/beta"], 1e-12)
            for v, name in zip(parts, names.values(), strict=True)
        )
        new_c = c * sigmoid(f + 1.0) + sigmoid(i) * torch.tanh(j)
        new_c = normalised(new_c, p["state/gamma"], p["state/beta"], 1e-12)
        return torch.tanh(new_c) * sigmoid(o), new_c

    def mapped(p: Parameters) -> dict[str, Tensor]:
        kernel = reordered(p["kernel"].T, 0, 2, 1, 3)
        forget = torch.zeros(4 * H, dtype=torch.double)
        forget[H : 2 * H] = 1.0
        return {
            "weight_ih": kernel[:, :INPUT],
            "weight_hh": kernel[:, INPUT:],
            "gain_ih": torch.cat([p[f"{names[gate]}/gamma"] for gate in "ifjo"]),
            "bias_ih": torch.cat([p[f"{names[gate]}/beta"] for gate in "ifjo"]),
            "bias_hh": forget,
            "gain_c": p["state/gamma"],
            "bias_c": p["state/beta"],
        }

    shapes: dict[str, tuple[int, ...]] = {"kernel": (INPUT + H, 4 * H)}
    for name in (*names.values(), "state"):
        shapes |= {f"{name}/gamma": (H,), f"{name}/beta": (H,)}
    norm = config("layer", eps=1e-12, terms="joint", group="gate", cell="carried")
    assert_same_placement(
        LSTMCell(INPUT, H, dtype=torch.double, norm=norm), mapped, contrib, shapes
    )


@pytest.mark.parametrize("eps", [1e-5, 1e-3], ids=["fastrnns", "TensorFlow Addons"])
def test_fastrnns_and_tensorflow_addons(eps: float) -> None:
    """Two norms with shifts, and a normalised state that is carried.

    TensorFlow Addons has one more bias of the gates, which is one of the shifts.
    """

    def equations(p: Parameters, x: Tensor, state: State) -> State:
        h, c = state
        gates = normalised(x @ p["weight_ih"].T, p["gain_ih"], p["bias_ih"], eps) + normalised(
            h @ p["weight_hh"].T, p["gain_hh"], p["bias_hh"], eps
        )
        i, f, g, o = gates.split(H, dim=1)
        new_c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
        new_c = normalised(new_c, p["gain_c"], p["bias_c"], eps)
        return sigmoid(o) * torch.tanh(new_c), new_c

    cell = LSTMCell(INPUT, H, dtype=torch.double, norm=config("layer", eps=eps, cell="carried"))
    shapes: dict[str, Any] = {name: tuple(p.shape) for name, p in cell.named_parameters()}
    assert_same_placement(cell, lambda p: {name: p[name] for name in shapes}, equations, shapes)
