"""The recurrent layers' arguments, errors, imports and documentation."""

import doctest
import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_overloads

import numpy as np
import pytest
import torch
from oracles import CELLS, config
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from seq2seq.rnn import GRU, LSTM, RNN, NormKind, RecurrentLayers

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["none", "batch", "layer", "rms"]
LAYERS = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


# -- arguments ---


@pytest.mark.parametrize(
    ("ours", "theirs"), [(LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU), (RNN, torch.nn.RNN)]
)
def test_positional_arguments_are_those_of_torch(
    ours: Callable[..., RecurrentLayers], theirs: type[nn.RNNBase]
) -> None:
    documented = list(inspect.signature(get_overloads(theirs.__init__)[0]).parameters)[1:]
    assert documented[-2:] == ["device", "dtype"]
    values: dict[str, Any] = {
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": 2,
        "nonlinearity": "relu",
        "bias": False,
        "batch_first": True,
        "dropout": 0.5,
        "bidirectional": True,
        "proj_size": 0,
        "device": "cpu",
        "dtype": torch.double,
    }
    names = (
        documented[:-2] + ["proj_size"] * ("proj_size" not in documented) + documented[-2:]
    )  # in the order of torch
    layer = ours(*(values[name] for name in names))
    assert {name: getattr(layer, name) for name in names[:-2]} == {
        name: values[name] for name in names[:-2]
    }
    assert layer.get_parameter("weight_ih_l0").dtype is torch.double
    by_name = ours(**{name: values[name] for name in documented})
    assert str(by_name) == str(layer)
    with pytest.raises(TypeError):
        ours(*(values[name] for name in names), "layer")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", CELLS)
def test_device_and_dtype_apply_to_all_tensors(cell: str, kind: str) -> None:
    layer = CELLS[cell](3, 4, device="meta", dtype=torch.double, norm=kind)
    tensors = layer.state_dict()
    assert all(t.device.type == "meta" for t in tensors.values())
    counters = ("num_updates", "steps_seen")
    assert {t.dtype for n, t in tensors.items() if not n.startswith(counters)} == {torch.double}
    assert {t.dtype for n, t in tensors.items() if n.startswith(counters)} <= {torch.long}


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(LSTM(3, 4)) == "LSTM(3, 4, norm=layer)"
    layer = GRU(
        3,
        4,
        num_layers=2,
        bias=False,
        batch_first=True,
        dropout=0.5,
        bidirectional=True,
        norm="batch",
    )
    assert (
        repr(layer)
        == "GRU(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, "
        "norm=batch)"
    )


# -- errors ---


WRONG = [
    (lambda: LSTM(0, 4), r"input_size=0: expected at least 1"),
    (lambda: LSTM(3, -1), r"hidden_size=-1: expected at least 1"),
    (lambda: GRU(3, 4, num_layers=0), r"num_layers=0: expected at least 1"),
    (lambda: LSTM(3, 4, dropout=1.5), r"dropout=1\.5: expected a probability from 0 to 1"),
    (lambda: LSTM(3, 4, proj_size=2), r"proj_size=2: .*expected 0"),
    (lambda: RNN(3, 4, nonlinearity="gelu"), r"nonlinearity='gelu': expected 'tanh' or 'relu'"),
    (lambda: LSTM(3, 4, norm="group"), r"norm='group': expected one of none, batch, layer, rms"),
    (
        lambda: LSTM(3, 4, norm=None),  # type: ignore[arg-type]
        r"norm=None: expected one of none, batch, layer, rms",
    ),
    (
        lambda: LSTM(3, 4, norm=config("rms", eps=0.0)),
        r"norm\.eps=0\.0: expected a finite number above 0",
    ),
    (
        lambda: LSTM(3, 4, norm=config("batch", momentum=2.0)),
        r"norm\.momentum=2\.0: expected a weight from 0 to 1",
    ),
    (
        lambda: LSTM(3, 4, backend="cuda"),
        r"backend='cuda': expected 'auto', 'reference' or 'fused'",
    ),
    (
        lambda: LSTM(3, 4, norm=config("batch", group="gate")),
        r"norm\.group=gate: .*expected group=vector",
    ),
    (lambda: LSTM(3, 4, norm=config("batch", min_rows=1)), r"norm\.min_rows=1: .*at least 2"),
    (
        lambda: LSTM(3, 4, norm=config("batch", max_steps=0)),
        r"norm\.max_steps=0: expected at least 1",
    ),
    (
        lambda: LSTM(3, 4, norm=config("batch", statistics="sequence_input", terms="joint")),
        r"norm\.terms=joint: .*expected norm\.terms=separate",
    ),
    (lambda: LSTM(3, 4)(torch.zeros(3)), "LSTM: Expected input to be 2D or 3D, got 1D instead"),
    (
        lambda: LSTM(3, 4)(torch.zeros(2, 2, 5)),
        r"input\.size\(-1\) must be equal to input_size\. Expected 3, got 5",
    ),
    (
        lambda: LSTM(3, 4)(pack_sequence([torch.zeros(2, 5)])),
        r"input\.size\(-1\) must be equal to input_size\. Expected 3, got 5",
    ),
    (
        lambda: LSTM(3, 4)(torch.zeros(0, 2, 3)),
        r"Expected sequence length to be larger than 0 in RNN: input has shape \(0, 2, 3\)",
    ),
    (
        lambda: LSTM(3, 4)(torch.zeros(2, 2, 3), torch.zeros(1, 2, 4)),
        r"hx has 1 tensors: expected h_0, c_0",
    ),
    (
        lambda: GRU(3, 4)(torch.zeros(2, 2, 3), (torch.zeros(1, 2, 4),) * 2),
        r"hx has 2 tensors: expected h_0",
    ),
    (
        lambda: LSTM(3, 4)(torch.zeros(2, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 5))),
        r"c_0: Expected hidden\[1\] size \(1, 2, 4\), got \[1, 2, 5\]",
    ),
    (
        lambda: GRU(3, 4)(torch.zeros(2, 2, 3), torch.zeros(1, 3, 4)),
        r"h_0: Expected hidden size \(1, 2, 4\), got \[1, 3, 4\]",
    ),
    (
        lambda: GRU(3, 4)(torch.zeros(2, 3), torch.zeros(1, 1, 4)),
        r"For unbatched 2-D input, hx should also be 2-D but got 3-D tensor",
    ),
    (
        lambda: GRU(3, 4)(torch.zeros(2, 2, 3), first_step=-1),
        r"first_step=-1: expected a time step",
    ),
    (
        lambda: GRU(3, 4, norm=config("batch", max_steps=5))(torch.zeros(4, 2, 3), first_step=2),
        r"input has 6 time steps, .* norm\.max_steps=5",
    ),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_errors_name_the_argument_the_value_and_what_was_expected(
    make: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_named_backend_raises_if_it_cannot_load() -> None:
    try:
        LSTM(3, 4, backend="fused")
    except RuntimeError as error:
        assert "fused" in str(error)  # noqa: PT017 (a version with fused kernels raises nothing)


# -- imports ---


ALONE = """
import sys

# torch's own requirements, and theirs
allowed = {"torch", "torchgen", "functorch", "rnn", "triton", "filelock", "typing_extensions", "setuptools",
           "pkg_resources", "_distutils_hack", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed | set(sys.stdlib_module_names):
            raise ModuleNotFoundError(f"blocked: {name}")

sys.meta_path.insert(0, Blocked())
import rnn
import torch
for make in (rnn.LSTM, rnn.GRU, rnn.RNN):
    for norm in ("none", "batch", "layer", "rms"):
        torch.manual_seed(0)
        layer = make(3, 4, norm=norm)
        losses = []
        for _ in range(20):
            output, _ = layer(torch.linspace(-1, 1, 5 * 6 * 3).view(5, 6, 3))
            loss = (output - 0.3).square().mean()
            gradients = torch.autograd.grad(loss, list(layer.parameters()), allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(layer.parameters(), gradients):
                    if gradient is not None:
                        parameter -= 0.3 * gradient
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2, (make, norm, losses)
assert "numpy" not in sys.modules and "hydra" not in sys.modules
"""


def test_the_rnn_folder_trains_on_its_own(tmp_path: Path) -> None:
    """The folder is copied to an empty place, where only torch can be imported."""
    shutil.copytree(ROOT / "seq2seq" / "rnn", tmp_path / "rnn")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-P", "-c", f"import sys; sys.path[:0] = ['.']\n{ALONE}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


# -- documentation ---


@pytest.mark.parametrize("layer", [LSTM, GRU, RNN])
def test_the_example_of_each_layer_runs_as_shown(layer: type[RecurrentLayers]) -> None:
    [test] = doctest.DocTestFinder(recurse=False).find(layer, globs={"torch": torch, **LAYERS})
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("layer", [LSTM, GRU, RNN])
def test_each_parameter_is_documented(layer: type[RecurrentLayers]) -> None:
    for name, parameter in layer(3, 4, norm="layer").named_parameters():
        first = "IH"[parameter.size(1) == 4] if parameter.dim() == 2 else ""
        rows = parameter.size(0) // 4
        shape = ", ".join(filter(None, [f"{rows}H" if rows > 1 else "H", first]))
        assert f"{name} ({shape}{'' if first else ','})" in (layer.__doc__ or "")


def test_settings_that_change_later_are_not_those_of_the_layer() -> None:
    norm = config("batch", min_rows=3)
    layer = LSTM(3, 4, norm=norm)
    norm.min_rows, norm.kind = 5, NormKind.layer
    assert (layer.norm.min_rows, layer.norm.kind) == (3, NormKind.batch)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_number_in_the_place_of_a_flag_is_refused_as_in_torch(kind: str) -> None:
    for make in (getattr(nn, kind), LAYERS[kind]):
        for name in ("bias", "batch_first"):
            with pytest.raises(TypeError, match=f"{name} should be of type bool, got: float"):
                make(3, 4, **{name: 0.5})


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_first_step_is_a_whole_number(backend: str) -> None:
    layer = LSTM(3, 4, norm="batch", backend=backend).eval()
    x = torch.randn(2, 3, 3)
    torch.testing.assert_close(layer(x, first_step=np.int64(1)), layer(x, first_step=1))
    for step in (1.0, None, "1"):
        with pytest.raises(ValueError, match=r"first_step=.*: expected an int, or whole numbers"):
            layer(x, first_step=step)
