"""The fused operators in PyTorch: opcheck, compilation, export, autograd."""

import copy
import pickle
from typing import Any

import pytest
import torch
from combinations import few
from kernel_cases import (
    NORMS,
    SIZES,
    X,
    arguments,
    batch_arguments,
    gradients,
    needs_compiler,
    refused,
    small,
)
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from seq2seq.rnn.cpu import operators

pytestmark = needs_compiler


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"given": False},
        {"save": False},
        {"normalises_input": False},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "wide_input": True, "normalises_input": False},
        {"cell": "gru"},
        {"cell": "gru", "given": False},
        {"cell": "rnn_tanh"},
        {"cell": "rnn_relu", "dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_batch_norm_passes_opcheck(options: dict[str, Any]) -> None:
    assert operators.failure() is None
    torch.library.opcheck(
        torch.ops.seq2seq.batch_norm_recurrence.default, batch_arguments(**options)
    )


def test_statistics_of_all_terms_pass_opcheck() -> None:
    assert operators.failure() is None
    wide, narrow = (torch.rand(6, n) for n in (8, 2))
    tables = [[t.clone() for t in (wide, narrow)] for _ in ("mean", "var")]
    read = torch.ops.seq2seq.running_statistics
    torch.library.opcheck(read.default, (*tables, 4, 3, [5, 0]))
    mean, var = read(*tables, 4, 3, [5, 0])
    assert torch.equal(mean, torch.cat([wide[[4, 5, 5]], narrow[[0, 0, 0]]], dim=1))
    assert torch.equal(mean, var)

    counts, seen = [torch.tensor([3, 0, 0, 0, 0, 0]) for _ in range(2)], torch.tensor(1)
    rows, skipped = torch.tensor([5, 2]), [0, 1]
    given = (*tables, counts, seen, mean[:2] + 1, var[:2] + 1, rows, 0, skipped, 0.25)
    torch.library.opcheck(
        torch.ops.seq2seq.average_statistics.default,
        copy.deepcopy(given),
        test_utils=("test_schema", "test_faketensor"),
    )
    torch.ops.seq2seq.average_statistics(*given)
    batch, unbiased = wide[[4, 5]] + 1, (wide[[4, 5]] + 1) * torch.tensor([[5 / 4], [2.0]])
    torch.testing.assert_close(tables[0][0][0], 0.75 * wide[0] + 0.25 * batch[0])
    torch.testing.assert_close(tables[1][0][0], 0.75 * wide[0] + 0.25 * unbiased[0])
    torch.testing.assert_close(tables[0][0][1], batch[1])  # its first update copies
    torch.testing.assert_close(tables[1][0][1], unbiased[1])
    assert torch.equal(tables[0][1][0], narrow[0])  # the second term's first step is left out
    torch.testing.assert_close(tables[0][1][1], narrow[0] + 1)
    assert [c.tolist()[:3] for c in counts] == [[4, 1, 0], [3, 1, 0]]
    assert int(seen) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: [torch.zeros(1, 8)]}, "expected a last place for each of 1 terms, got 2"),
        ({4: [6, 0]}, "expected contiguous float statistics of at least 7 steps"),
        ({0: [torch.zeros(6, 8).double()] * 2}, "expected contiguous float statistics"),
        ({2: -1}, "expected steps and places from 0 on, got -1"),
    ],
    ids=str,
)
def test_statistics_refuse_what_does_not_fit(changes: dict[int, Any], message: str) -> None:
    assert operators.failure() is None
    given: list[Any] = [[torch.zeros(6, 8)] * 2, [torch.zeros(6, 8)] * 2, 4, 3, [5, 0]]
    for place, value in changes.items():
        given[place] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.seq2seq.running_statistics(*given)


def test_batch_norm_refuses_wrong_types() -> None:
    assert operators.failure() is None
    with pytest.raises(RuntimeError, match="expected products in float or bfloat16, got Double"):
        torch.ops.seq2seq.batch_norm_recurrence(*batch_arguments(dtype=torch.double, save=False))
    u, weight, *others = batch_arguments(save=False)
    with pytest.raises(RuntimeError, match="expected weight_hh of the type of u or Float"):
        torch.ops.seq2seq.batch_norm_recurrence(u.bfloat16(), weight.double(), *others)


@few(
    {
        "cell": SIZES,
        "norm": NORMS,
        "dtype": [torch.float32, torch.bfloat16],
        "save": [True, False],
        "given": [True, False],
    },
    rounds=4,
)
def test_the_operator_passes_opcheck(
    cell: str, norm: str, dtype: torch.dtype, save: bool, given: bool
) -> None:
    assert operators.failure() is None
    torch.library.opcheck(
        torch.ops.seq2seq.recurrence.default, arguments(norm, dtype, save, given, cell)
    )


def test_wrong_types_and_names_are_refused() -> None:
    assert operators.failure() is None
    run = torch.ops.seq2seq.recurrence
    with pytest.raises(RuntimeError, match="expected products in float or bfloat16, got Double"):
        run(*arguments(dtype=torch.double, save=False))
    right = arguments(save=False)
    for wrong, message in refused(right[:9]):
        with pytest.raises(RuntimeError, match=message):
            run(*wrong, *right[9:])


def test_torch_compile_gives_the_same() -> None:
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(layer, lambda m: compiled(X)), expected)


def test_torch_export_gives_the_same() -> None:
    layer = small().eval()
    exported = torch.export.export(layer, (X,)).module()
    torch.testing.assert_close(exported(X)[0], layer(X)[0])


def test_copies_pickles_and_functional_calls_give_the_same() -> None:
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert all(map(torch.equal, gradients(other, lambda m: m(X)), expected))
    weights = {name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters()}
    torch.func.functional_call(layer, weights, (X,))[0].square().sum().backward()
    found = [w.grad for w in weights.values()]
    assert all(f is not None and torch.equal(f, e) for f, e in zip(found, expected, strict=True))


def test_activation_checkpointing_gives_the_same() -> None:
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    assert all(
        map(
            torch.equal, gradients(layer, lambda m: checkpoint(m, X, use_reentrant=False)), expected
        )
    )


def test_anomaly_mode_and_hooks_work() -> None:
    layer = small()
    seen: list[str] = []
    layer.register_forward_hook(lambda *a: seen.append("forward"))
    layer.register_full_backward_hook(lambda *a: seen.append("backward"))
    layer.get_parameter("weight_hh_l0").register_hook(lambda g: seen.append("weight"))
    with (
        pytest.warns(UserWarning, match="Anomaly Detection"),
        torch.autograd.detect_anomaly(check_nan=True),
    ):
        gradients(layer, lambda m: m(X.clone().requires_grad_()))
    assert sorted(seen) == ["backward", "forward", "weight"]


@pytest.mark.parametrize("frozen", ["weight_hh_l0", "weight_ih_l0", "gain_ih_l0", "bias_c_l0"])
def test_a_frozen_parameter_gets_no_gradient_and_others_the_same(frozen: str) -> None:
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    getattr(layer, frozen).requires_grad_(False)
    layer.zero_grad()
    layer(X)[0].square().sum().backward()
    found = [p.grad for p in layer.parameters()]
    for (name, _), f, e in zip(layer.named_parameters(), found, expected, strict=True):
        assert (f is None) == (name == frozen)
        assert f is None or torch.equal(f, e)


def test_inference_saves_nothing_and_gives_the_same() -> None:
    layer = small()
    output, last = layer(X)
    with torch.no_grad():
        torch.testing.assert_close(layer(X), (output, last), rtol=0, atol=0)
    *_, z, c, moments = torch.ops.seq2seq.recurrence(*arguments(save=False))
    assert z.numel() == c.numel() == moments.numel() == 0


def test_a_backward_pass_after_inference_raises() -> None:
    with torch.no_grad():
        exported = torch.export.export(small(), (X,)).module()
    with pytest.raises(
        RuntimeError, match="no backward pass can follow a forward pass that ran with save=false"
    ):
        exported(X)[0].sum().backward()


@pytest.mark.parametrize("given", ["output", "h_n", "c_n"])
def test_a_gradient_into_only_one_output(given: str) -> None:
    found = []
    for backend in ("fused", "reference"):
        layer = small()
        layer.backend = backend
        output, (h_n, c_n) = layer(X)
        {"output": output, "h_n": h_n, "c_n": c_n}[given].square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_torch_func_and_forward_mode_use_the_reference() -> None:
    layer = small()
    layer.backend = "auto"
    tangent = torch.ones_like(X)
    results = []
    for backend in ("auto", "reference"):
        layer.backend = backend
        results.append(
            [
                torch.func.jvp(lambda x: layer(x)[0], (X,), (tangent,))[1],
                torch.func.grad(lambda x: layer(x)[0].sum())(X),
            ]
        )
        with forward_ad.dual_level():
            results[-1].append(
                forward_ad.unpack_dual(layer(forward_ad.make_dual(X, tangent))[0]).tangent
            )
    torch.testing.assert_close(*results)
    assert results[0][0].abs().max() > 1e-3


def test_two_backward_passes_through_one_graph() -> None:
    layer = small()
    total = layer(X)[0].square().sum()
    total.backward(retain_graph=True)
    once = [copy.deepcopy(p.grad) for p in layer.parameters()]
    total.backward()
    torch.testing.assert_close(
        [p.grad for p in layer.parameters()], [2 * g for g in once if g is not None]
    )
