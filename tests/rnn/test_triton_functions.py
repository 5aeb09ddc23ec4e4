"""Parts of the GPU kernels, and what the GPU operators refuse."""

from typing import Any

import pytest
import torch
import triton_cases
from kernel_cases import NORMS, SIZES, arguments, batch_arguments, refused
from torch import Tensor
from triton_cases import DEVICE, detached, on
from triton_cases import interpreted as interpreted  # the fixture of MARKS

from seq2seq.rnn.gpu import cells, column_operators, row_operators
from seq2seq.rnn.gpu import operators as gpu

pytestmark = triton_cases.MARKS


def test_a_weight_without_gradient_gets_none() -> None:
    *args, _ = on(DEVICE, detached(arguments("none", cell="rnn_tanh")))
    output, _, _, *kept = row_operators.recurrence(*[*args, True])
    found = row_operators.recurrence_backward(
        *[torch.ones_like(output), None, None, *args[:6], output, *kept, *args[6:], False]
    )
    assert found[1].numel() == 0
    assert found[0].abs().max() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_sums_over_many_rows_and_features(norm: str) -> None:
    rows, hidden = 2 * row_operators.SUMMED_ROWS + 44, row_operators.SUM_COLUMNS // 3
    da, u, z, c = (torch.randn(rows, width * hidden, device=DEVICE) for width in (5, 4, 4, 1))
    moments = torch.rand(rows, 6, device=DEVICE)
    constants = cells.constants("lstm", norm, 1e-5, hidden)
    found = row_operators.vector_gradients(
        cells.LSTM, constants, da, {"u": u, "z": z, "c": c}, moments
    )
    gates, cell, sums = da[:, : 4 * hidden], da[:, 4 * hidden :], []
    for d, v, mean, scale in (
        (gates, u, *moments[:, :2].t()),
        (gates, z, *moments[:, 2:4].t()),
        (cell, c, *moments[:, 4:].t()),
    ):
        sums.append((d * (v - mean[:, None]) * scale[:, None]).sum(0) * (norm != "none"))
    sums.insert(2, gates.sum(0))
    torch.testing.assert_close(found, torch.cat([*sums, cell.sum(0)]), rtol=1e-4, atol=1e-3)


def squashed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return tanh and 1 - sigmoid of x (H,), computed by cells that give only these."""
    hidden = x.numel()
    u = x.float().to(DEVICE)[None]
    weight, zeros = (
        torch.zeros(3 * hidden, hidden, device=DEVICE),
        torch.zeros(12 * hidden, device=DEVICE),
    )
    tanh = row_operators.recurrence(
        u,
        weight[:hidden],
        None,
        None,
        zeros[: 2 * hidden],
        torch.tensor([1]),
        1,
        "rnn_tanh",
        "none",
        0.0,
        False,
    )[0]
    gates = torch.cat([u, u, torch.full_like(u, 40.0)], dim=1)  # n = 1
    gru = row_operators.recurrence(
        gates, weight, None, None, zeros, torch.tensor([1]), 1, "gru", "none", 0.0, False
    )[0]
    return tanh[0].cpu().double(), gru[0].cpu().double()


def test_tanh_and_sigmoid_are_within_their_error_bounds() -> None:
    small = torch.logspace(-30, 2, 1000)
    x = torch.cat([small, -small, torch.linspace(-1, 1, 1001), torch.linspace(-20, 20, 1001)])
    tanh, less_sigmoid = squashed(x)
    exact = x.double().tanh()
    assert (tanh - exact).abs().max() < 3e-7
    relative = (tanh - exact).abs() / exact.abs().clamp(min=1e-30)
    assert relative.max() < 1e-6
    assert relative[x.abs() < 0.25].max() < 2e-7  # the series
    assert (less_sigmoid - torch.sigmoid(-x.double())).abs().max() < 4e-7


def test_tanh_and_sigmoid_of_infinity_and_nan() -> None:
    infinity = float("inf")
    tanh, less_sigmoid = squashed(
        torch.tensor([infinity, -infinity, 100.0, -100.0, 0.0, float("nan")])
    )
    assert tanh[:5].tolist() == [1, -1, 1, -1, 0]
    assert less_sigmoid[:5].tolist() == [0, 1, 0, 1, 0.5]
    assert tanh[5].isnan()
    assert less_sigmoid[5].isnan()


@pytest.mark.parametrize("cell", SIZES)
def test_nan_in_the_input_stays_nan(cell: str) -> None:
    u, *args = on(DEVICE, detached(arguments("layer", cell=cell, given=False, save=False)))
    assert row_operators.recurrence(u * float("nan"), *args)[0].isnan().all()


def test_autocast_changes_nothing() -> None:
    *args, save = on(DEVICE, detached(arguments("none", cell="rnn_tanh")))

    def run() -> Any:
        output, _, _, *kept = row_operators.recurrence(*[*args, save])
        return output, *row_operators.recurrence_backward(
            *[output, None, None, *args[:6], output, *kept, *args[6:], True]
        )

    expected = run()
    with torch.autocast(DEVICE, torch.bfloat16):
        assert all(map(torch.equal, run(), expected))


def test_wrong_types_and_names_are_refused() -> None:
    right = detached(arguments(save=False))
    u, weight, h, c, vectors, sizes, count, cell, norm = right[:9]
    of_the_gpu = [
        (
            (u, weight, h, c, vectors, sizes[:0], count, cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight.double(), h, c, vectors, sizes, count, cell, norm),
            "expected products in float or bfloat16",
        ),
        (
            (u, weight, h, c, vectors, sizes, count, "separate_rnn_tanh", norm),
            "cell=separate_rnn_tanh: expected lstm, lstm_plain_cell, gru, rnn_tanh or rnn_relu",
        ),
    ]
    for wrong, message in refused(right[:9]) + of_the_gpu:
        with pytest.raises(RuntimeError, match=message):
            row_operators.recurrence(*on(DEVICE, wrong), *right[9:])


def test_batch_norm_refuses_wrong_types() -> None:
    u, weight, h, c, vectors, sizes, mean, var, *settings = on(
        DEVICE, detached(batch_arguments(save=False))
    )
    with pytest.raises(RuntimeError, match="expected an input term in float or the products' type"):
        column_operators.batch_norm_recurrence(
            u.half(), weight, h, c, vectors, sizes, mean, var, *settings
        )
    unknown: list[Any] = ["rnn" if s == "lstm" else s for s in settings]
    with pytest.raises(RuntimeError, match=r"cell=rnn: .*, separate_rnn_tanh or separate_rnn_relu"):
        column_operators.batch_norm_recurrence(u, weight, h, c, vectors, sizes, mean, var, *unknown)
    with pytest.raises(RuntimeError, match=r"expected float statistics \(3, 54\), got \[2, 54\]"):
        column_operators.batch_norm_recurrence(
            u, weight, h, c, vectors, sizes, mean, var[:2], *settings
        )
    u, *others = on(
        DEVICE,
        detached(batch_arguments(torch.bfloat16, wide_input=True, save=False, cell="rnn_tanh")),
    )
    with pytest.raises(RuntimeError, match="expected an input term in float or the products' type"):
        column_operators.batch_norm_recurrence(u, *others)


def test_the_operators_can_be_registered_for_gpus() -> None:
    library = gpu.register()
    try:
        assert gpu.register() is library
        for operator in gpu.OPERATORS:
            assert torch._C._dispatch_has_kernel_for_dispatch_key(
                f"seq2seq::{operator.__name__}", "CUDA"
            )
    finally:
        gpu.register.cache_clear()
        library._destroy()
