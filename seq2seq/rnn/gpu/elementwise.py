"""Nonlinearities and loads of all GPU kernels.

`@triton.jit` functions are compiled into the kernels: they see pointers and blocks, not tensors.
"""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x: tl.tensor) -> tl.tensor:
    """Return 1 / (1 + e^-x), with an error below 3e-7; a NaN stays one.

    The power is at most 1, so that nothing overflows.
    """
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def tanh(x: tl.tensor) -> tl.tensor:
    """Return tanh(x), with an error below 3e-7; a NaN stays one.

    It is (1 - e) / (1 + e) with e = e^-2|x| and the sign of x. For |x| < 1/4, where 1 - e cancels,
    it is the Taylor series up to x^9, with a relative error below 1e-8.
    """
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    square = x * x
    series = -0.333333333 + square * (
        0.133333333 + square * (-0.0539682540 + square * 0.0218694885)
    )
    return tl.where(tl.abs(x) < 0.25, x + x * square * series, tl.where(x < 0.0, -far, far))


@triton.jit
def value(pointer: tl.tensor, at: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """Return elements as floats; 0 where the mask is false."""
    return tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)
