import pytest
import torch
import torch.nn.functional as F

from seq2seq.model.loss import BLOCK_ROWS, CHUNK_ROWS, linear_cross_entropy


@pytest.mark.parametrize("rows", [1, CHUNK_ROWS, 2 * CHUNK_ROWS + 3, BLOCK_ROWS + 1])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_cross_entropy_of_all_logits(rows: int, smoothing: float) -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*s, dtype=torch.double, requires_grad=True) for s in ((rows, 5), (9, 5), (9,))
    )
    target = torch.randint(9, (rows,))
    loss, nll = linear_cross_entropy(x, weight, bias, target, smoothing)
    logits = x @ weight.T + bias
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="sum").detach())
    upstream = 0.37
    ours = torch.autograd.grad(loss * upstream, (x, weight, bias))
    theirs = torch.autograd.grad(expected * upstream, (x, weight, bias))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_there_are_gradients_only_where_required() -> None:
    x, weight, bias = torch.randn(4, 5, requires_grad=True), torch.randn(9, 5), torch.randn(9)
    loss, _ = linear_cross_entropy(x, weight, bias, torch.randint(9, (4,)))
    loss.backward()
    assert x.grad is not None
    with torch.no_grad():
        assert not linear_cross_entropy(x, weight, bias, torch.randint(9, (4,)))[0].requires_grad


def test_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 64), torch.randn(100, 64) / 8, torch.zeros(100)
    target = torch.randint(100, (50,))
    exact, _ = linear_cross_entropy(x, weight, bias, target)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = linear_cross_entropy(x, weight, bias, target)
    assert rounded.dtype is torch.float32
    # Logits of size 1 carry bfloat16's relative error of 2^-9; their errors average out over 50
    # rows.
    assert abs(rounded - exact) / exact < 2**-8
    assert rounded != exact
