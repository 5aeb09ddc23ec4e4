"""Functions of the GPU kernels' tests: they run the kernels and compare them with the CPU's.

On a machine with a GPU the kernels run there. Elsewhere Triton's interpreter runs them on the CPU,
slowly, so that sizes are small.

Tolerances are those of kernel_cases.py. The interpreter rounds to bfloat16 towards zero, a GPU to
the nearest.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from kernel_cases import Case, Results, has_c, needs_compiler, results
from torch import Tensor

from seq2seq.rnn import RecurrentLayers, backends
from seq2seq.rnn.cpu import operators

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

with pytest.MonkeyPatch.context() as patched:
    if DEVICE == "cpu":
        assert "triton" not in sys.modules, "a test module loads Triton while tests are collected"
        patched.setenv("TRITON_INTERPRET", "1")  # read where kernels are defined, also Triton's own
    pytest.importorskip("triton", reason="the GPU kernels need Triton, which is not installed")
    from seq2seq.rnn.gpu import kernels
    from seq2seq.rnn.gpu import operators as gpu


def patch_once_a_launch() -> None:
    """Make the interpreter patch triton.language once a launch and module.

    It does so at each call of a function inside a kernel, which takes half of its time; what the
    first call of a launch patches stays so until the launch ends.
    """
    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[str] = set()

    def patch_new(fn: Callable[..., Any]) -> Any:
        if fn.__module__ in patched:
            return None  # only a launch, which is the first to patch, restores
        patched.add(fn.__module__)
        return patch(fn)

    def launched(*args: Any, **kwargs: Any) -> None:
        patched.clear()
        launch(*args, **kwargs)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_new, launched


def check_no_overflow() -> None:
    """Let the interpreter compute no checks of integers' overflow, a third of its time.

    Without Triton's option `debug`, it does not look at what they find.
    """
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)


def keep_types() -> None:
    """Let the interpreter make each type of a block, and look each of NumPy's up, only once."""
    made, make = dict[Any, dict[str, Any]](), language.block_type.__init__
    find = interpreter._get_np_dtype
    found = dict[str, Any]()

    def kept(self: Any, element_ty: Any, shape: Sequence[Any]) -> None:
        key = element_ty.name, *(getattr(n, "value", n) for n in shape)
        if key not in made:
            make(self, element_ty, shape)
            made[key] = dict(self.__dict__)
        self.__dict__.update(made[key])

    def find_new(type_: Any) -> Any:
        if type_.name not in found:
            found[type_.name] = find(type_)
        return found[type_.name]

    language.block_type.__init__, interpreter._get_np_dtype = kept, find_new


if DEVICE == "cpu":
    from triton import language
    from triton.runtime import interpreter

    patch_once_a_launch()
    check_no_overflow()
    keep_types()

MARKS = [
    needs_compiler,  # which compiles the schemas of the operators
    pytest.mark.usefixtures("interpreted"),
    pytest.mark.filterwarnings(
        "ignore:Warning only once for all operators,  other operators may also be"
    ),
]
AS_CPP = 1e-4
"""Tolerance for float32 sums in another order, through a few steps; N over two rows amplifies it."""


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set TRITON_INTERPRET, which Triton also reads while kernels run."""
    assert operators.failure() is None
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        kinds = {
            type(getattr(kernels, f"{norm}_{way}")).__name__
            for norm in ("rows", "columns")
            for way in ("forward", "backward")
        }
        assert kinds == {"InterpretedFunction"}, "Triton was loaded before this module"


@contextmanager
def kernels_in_layers() -> Iterator[list[str]]:
    """Make the fused operators those of the GPU; yield the names of those that ran."""
    ran = []

    def noting(operator: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            ran.append(operator.__name__)
            return operator(*args)

        return run

    with (
        torch.library._scoped_library("seq2seq", "IMPL") as library,
        pytest.MonkeyPatch.context() as patched,
    ):
        # Recurrences with their input terms are operators of the CPU alone.
        patched.setattr(backends, "eager_on_cpu", lambda *_: False)
        for operator in gpu.OPERATORS:
            library.impl(operator.__name__, noting(operator), DEVICE.upper(), allow_override=True)
        yield ran


def on(device: str, values: Any) -> Any:
    """Return tensors, numbers, None, or lists and dictionaries of them, on a device."""
    if isinstance(values, dict):
        return {name: on(device, value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [on(device, value) for value in values]
    moves = isinstance(values, Tensor) and values.is_floating_point()  # batch_sizes stay on the CPU
    return values.to(device) if moves else values


def case_on(device: str, drawn: Case) -> Case:
    """Return a case on a device."""
    sentences, state, upstream = (on(device, tensors) for tensors in drawn)
    return sentences, state, upstream


def kernels_results(layer: RecurrentLayers, drawn: Case, autocast: bool = False) -> Results:
    """Return the results of the GPU kernels, as `results` of kernel_cases does."""
    with kernels_in_layers() as ran, torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        found = results(
            copy.deepcopy(layer).to(DEVICE),
            *case_on(DEVICE, drawn),
            torch.float32,
            "fused",
            autocast=autocast,
        )
    assert {"recurrence", "recurrence_backward"} <= {
        name.removeprefix("batch_norm_") for name in ran
    }
    return {name: None if v is None else v.cpu() for name, v in found.items()}


ROW_OUTPUTS = ("output", "h_n", "c_n", "z", "c", "moments")
COLUMN_OUTPUTS = (*ROW_OUTPUTS[:-1], "mean", "var")
GRADIENTS = ("u", "weight_hh", "h_0", "c_0", "vectors")


def detached(values: Iterable[Any]) -> list[Any]:
    return [v.detach() if isinstance(v, torch.Tensor) else v for v in values]


def assert_agree(
    names: Sequence[str], found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float
) -> None:
    apart = {}
    for name, f, e in zip(names, on("cpu", found), expected, strict=True):
        assert (f.shape, f.dtype) == (e.shape, e.dtype), name
        if e.numel():
            apart[name] = ((f - e).abs().max() / e.abs().max().clamp(min=1e-6)).item()
    assert {name: d for name, d in apart.items() if not d <= tolerance} == {}


def assert_as_cpp(
    name: str,
    args: list[Any],
    upstream: Sequence[Tensor | None],
    outputs: Sequence[str],
    tolerance: float = AS_CPP,
) -> None:
    """Assert that an operator's forward and backward pass agree with those of the CPU's operator.

    What an operator keeps in z may differ: for the LSTM without a norm the CPU keeps the gates.
    """
    settings = next(i for i, a in enumerate(args) if type(a) is int)
    expected, found = getattr(torch.ops.seq2seq, name)(*args), getattr(gpu, name)(*on(DEVICE, args))
    keeps_gates = "none" in args and any(isinstance(a, str) and has_c(a) for a in args)
    compared = [i for i, output in enumerate(outputs) if output != "z" or not keeps_gates]
    assert_agree(
        [outputs[i] for i in compared],
        [found[i] for i in compared],
        [expected[i] for i in compared],
        tolerance,
    )

    def back(kept: Sequence[Tensor]) -> tuple[Any, ...]:
        return (*upstream, *args[:6], kept[0], *kept[3:], *args[settings:-1], True)

    expected = getattr(torch.ops.seq2seq, f"{name}_backward")(*back(expected))
    assert_agree(
        GRADIENTS, getattr(gpu, f"{name}_backward")(*on(DEVICE, back(found))), expected, tolerance
    )


def upstream_of(
    hidden: int, batch_sizes: Tensor, has_c: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return upstream gradients of output (a transposed matrix), h_n and c_n."""
    torch.manual_seed(1)
    sizes = batch_sizes.tolist()
    h_n = torch.randn(sizes[0], hidden)
    c_n = torch.randn(sizes[0], hidden) if has_c else None
    return torch.randn(hidden, sum(sizes)).t(), h_n, c_n
