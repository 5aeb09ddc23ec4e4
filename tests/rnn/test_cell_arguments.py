"""The single-step cells' arguments, errors and documentation."""

import doctest
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cell_cases import NORMS, STEP_CELLS, cell_of, layer_like
from oracles import config
from torch import nn

from seq2seq.rnn import GRUCell, LSTMCell, RNNCell, is_norm_parameter

MODULES = {"LSTMCell": LSTMCell, "GRUCell": GRUCell, "RNNCell": RNNCell}


# -- arguments ---


@pytest.mark.parametrize("name", MODULES)
def test_positional_arguments_are_those_of_torch(name: str) -> None:
    ours, theirs = MODULES[name], getattr(nn, name)
    expected = list(inspect.signature(theirs).parameters)
    found = inspect.signature(ours).parameters
    assert list(found) == [*expected, "norm", "backend"]
    assert all(found[n].kind is inspect.Parameter.KEYWORD_ONLY for n in ("norm", "backend"))
    values = {
        "input_size": 3,
        "hidden_size": 4,
        "bias": False,
        "nonlinearity": "relu",
        "device": "cpu",
        "dtype": torch.double,
    }
    cell = ours(*(values[n] for n in expected))
    assert {n: getattr(cell, n) for n in expected[:-2]} == {n: values[n] for n in expected[:-2]}
    assert cell.get_parameter("weight_ih").dtype is torch.double
    assert repr(cell).replace(", norm=layer", "") == repr(theirs(*(values[n] for n in expected)))
    assert repr(ours(3, 4, norm="batch")) == f"{name}(3, 4, norm=batch)"


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_device_and_dtype_apply_to_all_tensors(cell: str, norm: str) -> None:
    tensors = cell_of(cell, norm, device="meta", dtype=torch.double).state_dict()
    assert all(t.device.type == "meta" for t in tensors.values())
    assert {t.dtype for t in tensors.values()} <= {torch.double, torch.long}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", STEP_CELLS)
def test_parameters_and_statistics_are_those_of_the_layer(cell: str, norm: str) -> None:
    ours = cell_of(cell, norm)
    layer = layer_like(ours, cell)
    assert [f"{name}_l0" for name in ours.state_dict()] == list(layer.state_dict())
    ours.reset_norm()
    layer.reset_norm()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, layer.state_dict()[f"{name}_l0"]), name
        assert is_norm_parameter(name) == is_norm_parameter(f"{name}_l0")


# -- errors ---


ZEROS = torch.zeros(2, 4)
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: LSTMCell(0, 4), r"input_size=0: expected at least 1"),
    (lambda: GRUCell(3, 0), r"hidden_size=0: expected at least 1"),
    (lambda: RNNCell(3, 4, nonlinearity="gelu"), r"nonlinearity='gelu': expected 'tanh' or 'relu'"),
    (lambda: LSTMCell(3, 4, norm="group"), r"norm='group': expected one of none, batch, layer"),
    (lambda: LSTMCell(3, 4, backend="gpu"), r"backend='gpu': expected 'auto', 'reference' or"),
    (
        lambda: GRUCell(3, 4, norm=config("layer", cell="carried")),
        r"norm.cell=carried: a GRU has no cell state to normalise; expected output or none",
    ),
    (
        lambda: LSTMCell(3, 4, norm=config("layer", terms="joint_all")),
        r"norm.terms=joint_all: an LSTM has no n part; expected joint",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(1, 2, 3)),
        r"LSTMCell: Expected input to be 1D or 2D, got 3D instead",
    ),
    (lambda: RNNCell(3, 4)(torch.zeros(())), r"RNNCell: Expected input to be 1D or 2D, got 0D"),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 5)),
        r"input has inconsistent input_size: got 5 expected",
    ),
    (lambda: GRUCell(3, 4)(torch.zeros(5)), r"input has inconsistent input_size: got 5 expected 3"),
    (lambda: LSTMCell(3, 4)(torch.zeros(2, 3), ZEROS), r"hx has 1 tensors: expected h_0, c_0"),
    (lambda: LSTMCell(3, 4)(torch.zeros(2, 3), ()), r"hx has 0 tensors: expected h_0, c_0"),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 3), (ZEROS, ZEROS)),
        r"hx has 2 tensors: expected h_0",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3), (ZEROS, torch.zeros(3, 4))),
        r"c_0 has shape \(3, 4\): expected \(2, 4\); Input batch size 2 doesn't match hidden",
    ),
    (
        lambda: GRUCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 5)),
        r"h_0 has shape \(2, 5\): expected \(2, 4\); hidden0 has inconsistent hidden_size: got 5,"
        r" expected 4",
    ),
    (
        lambda: GRUCell(3, 4)(torch.zeros(3), torch.zeros(1, 4)),
        r"h_0 has shape \(1, 4\): expected \(4,\)",
    ),
    (
        lambda: RNNCell(3, 4)(torch.zeros(2, 3), torch.zeros(1, 2, 4)),
        r"RNNCell: Expected hidden to be 1D or 2D, got 3D instead",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3), (torch.zeros(4), torch.zeros(4))),
        r"h_0 has shape \(4,\): expected \(2, 4\); Input batch size 2 doesn't match",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3), (ZEROS, None)),
        r"c_0 is of type NoneType: expected a tensor",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3).double()),
        r"RNN input dtype \(torch.float64\) does not match weight dtype \(torch.float32\)",
    ),
    (
        lambda: GRUCell(3, 4, backend="reference")(torch.zeros(2, 3).long()),
        r"RNN input dtype \(torch.int64\) does not match weight dtype \(torch.float32\)",
    ),
    (
        lambda: LSTMCell(3, 4)(torch.zeros(2, 3), (ZEROS, ZEROS.double())),
        r"c_0: Input and hidden tensors are not the same dtype, found weights with torch.float32",
    ),
    (
        lambda: RNNCell(3, 4)(torch.zeros(2, 3, device="meta")),
        r"Input and parameter tensors are not at the same device, found input tensor at meta",
    ),
    (lambda: RNNCell(3, 4)(torch.zeros(2, 3), first_step=-1), r"first_step=-1: expected a time"),
    (
        lambda: LSTMCell(3, 4, norm="batch")(torch.zeros(2, 3), first_step=torch.tensor([1, 2])),
        r"first_step has a number for each sequence: .*expected an int, or eval mode",
    ),
    (
        lambda: LSTMCell(3, 4).eval()(torch.zeros(2, 3), first_step=torch.tensor([1])),
        r"first_step is torch.int64 of shape \(1,\): expected .* \(2,\), one for each sequence",
    ),
    (
        lambda: LSTMCell(3, 4, norm=config("batch", max_steps=2))(ZEROS[:, :3], first_step=2),
        r"input has 3 time steps, but batch norm keeps statistics for norm.max_steps=2",
    ),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_name_the_argument_the_value_and_what_was_expected(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", MODULES)
def test_what_torch_refuses_is_refused_in_its_words(name: str) -> None:
    ours, theirs = MODULES[name](3, 4), getattr(nn, name)(3, 4)
    for rows, features, shape in (
        (2, 5, (2, 4)),
        (2, 3, (3, 4)),
        (2, 3, (2, 5)),
        (2, 3, (1, 2, 4)),
    ):
        state = torch.zeros(shape)
        hx = (state, state) if name == "LSTMCell" else state
        with pytest.raises((RuntimeError, ValueError)) as expected:
            theirs(torch.zeros(rows, features), hx)
        with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
            ours(torch.zeros(rows, features), hx)


# -- documentation ---


@pytest.mark.parametrize("name", MODULES)
def test_the_example_of_each_cell_runs_as_shown(name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    [test] = finder.find(MODULES[name], globs={"torch": torch, **MODULES})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_each_parameter_is_documented(name: str) -> None:
    for parameter, value in MODULES[name](3, 4, norm="layer").named_parameters():
        first = "IH"[value.size(1) == 4] if value.dim() == 2 else ""
        rows = value.size(0) // 4
        shape = ", ".join(filter(None, [f"{rows}H" if rows > 1 else "H", first]))
        assert f"{parameter} ({shape}{'' if first else ','})" in (MODULES[name].__doc__ or "")
